"""Scores of all products after a session, as parts of an exported graph: one class per method."""

from collections.abc import Sequence
from typing import Protocol

import keras
import numpy as np
import tensorflow as tf
from scipy import sparse

from boat.models.graphs import pages_of, untracked
from boat.recommend.counts import DECAY, STEPS

_REACH = 10  # largest number of steps back of a product that makes a session a neighbour, as in Serenade


class Scores(Protocol):
    """Scores of products after a window. Implementations are `tf.Module`s, so that they can be exported."""

    @property
    def submodules(self) -> Sequence[tf.Module]:
        """Return its parts at any depth, without itself."""

    def __call__(self, recent: tf.Tensor, page: tf.Tensor | None = None) -> tf.Tensor:
        """Map windows of codes, int32 [sessions, window], newest first, to scores, float32 [sessions, products].

        Product `i` has the code `i + 1`. The result for an empty window has no meaning. `page` is the current URL,
        string [sessions], empty if unknown.
        """


class PopularScores(tf.Module):  # type: ignore[misc]  # TensorFlow has no types
    """Frequency of products, the same for every session.

    Args:
        shares: Share of all events of each product, float32 [products].
    """

    def __init__(self, shares: np.ndarray) -> None:
        super().__init__()
        self._shares = tf.Variable(shares, trainable=False, dtype=tf.float32)

    def __call__(self, recent: tf.Tensor, page: tf.Tensor | None = None) -> tf.Tensor:
        """Implement `Scores`."""
        return tf.broadcast_to(self._shares, [tf.shape(recent)[0], tf.size(self._shares)])


class FollowerScores(tf.Module):  # type: ignore[misc]
    """How often a product followed the products of the session, with the largest weight for the newest.

    Args:
        follows: Weight by which a product (column) followed another (row), csr [products + 1, products + 1], by codes.
        shares: Share of all events, float32 [products]; they only break ties.
    """

    def __init__(self, follows: sparse.csr_matrix, shares: np.ndarray) -> None:
        super().__init__()
        self._rows = _Rows(follows.indptr, follows.indices)
        self._weights = tf.Variable(follows.data, trainable=False, dtype=tf.float32)
        self._least = tf.Variable(shares * 1e-6, trainable=False, dtype=tf.float32)

    def __call__(self, recent: tf.Tensor, page: tf.Tensor | None = None) -> tf.Tensor:
        """Implement `Scores`."""
        steps = recent[:, :STEPS]
        index, owner = self._rows.of(tf.reshape(steps, [-1]))
        width = tf.shape(steps)[1]
        weight = tf.gather(self._weights, index) * DECAY ** tf.cast(owner % width, tf.float32)
        products = tf.size(self._least)
        return self._least + _spread(owner // width, self._rows.value(index), weight, tf.shape(recent)[0], products)


class PageScores(tf.Module):  # type: ignore[misc]
    """How often a product came after the current page; 0 after an unknown page.

    Args:
        names: Pages in the order of their codes, as `boat.models.pages` names them.
        follows: Weight by which a product (column) came after a page (row), csr [pages + 1, products + 1], by codes.
    """

    def __init__(self, names: np.ndarray, follows: sparse.csr_matrix) -> None:
        super().__init__()
        self._codes = codes_of(names)
        self._rows = _Rows(follows.indptr, follows.indices)
        self._weights = tf.Variable(follows.data, trainable=False, dtype=tf.float32)
        self._products = follows.shape[1] - 1

    def __call__(self, recent: tf.Tensor, page: tf.Tensor | None = None) -> tf.Tensor:
        """Implement `Scores`."""
        rows = tf.shape(recent)[0]
        codes = tf.zeros([rows], tf.int32) if page is None else self._codes.lookup(pages_of(page))
        index, owner = self._rows.of(codes)
        return _spread(owner, self._rows.value(index), tf.gather(self._weights, index), rows, self._products)


class SummedScores(tf.Module):  # type: ignore[misc]
    """Weighted sum of counts, each `relative` to the largest of its session.

    Args:
        parts: Counts.
        weights: Weight of each part.
    """

    def __init__(self, parts: Sequence[Scores], weights: Sequence[float]) -> None:
        super().__init__()
        self._parts, self._weights = list(parts), tuple(weights)

    def __call__(self, recent: tf.Tensor, page: tf.Tensor | None = None) -> tf.Tensor:
        """Implement `Scores`."""
        weighted = zip(self._parts, self._weights, strict=True)
        return tf.add_n([weight * relative(part(recent, page)) for part, weight in weighted])


class NeighbourScores(tf.Module):  # type: ignore[misc]
    """VMIS-kNN: products of the sessions most like the present one, as in Serenade (Kersbergen et al., SIGMOD 2022).

    Of the `sample` newest sessions that share a product with the present one, the `neighbours` most similar vote for
    their products: a vote counts by the similarity, by how recent the newest shared product is, and by how rare the
    product is.

    Args:
        sessions: Products (columns, by codes) of each session (rows, oldest first), csr of booleans.
        sample: Number of sessions that are compared.
        neighbours: Number of sessions that vote.
        shares: Share of all events, float32 [products]; they only break ties.
    """

    def __init__(self, sessions: sparse.csr_matrix, sample: int, neighbours: int, shares: np.ndarray) -> None:
        super().__init__()
        self._sample, self._neighbours, self._sessions = sample, neighbours, sessions.shape[0]
        newest_first = sessions[::-1]
        postings = newest_first.T.tocsr()
        self._products_of = _Rows(newest_first.indptr, newest_first.indices)
        self._sessions_with = _Rows(postings.indptr, postings.indices, longest=sample)
        sessions_with = np.maximum(np.diff(postings.indptr), 1)
        self._rarity = tf.Variable(np.log(self._sessions / sessions_with), trainable=False, dtype=tf.float32)
        self._least = tf.Variable(shares * 1e-6, trainable=False, dtype=tf.float32)

    def __call__(self, recent: tf.Tensor, page: tf.Tensor | None = None) -> tf.Tensor:
        """Implement `Scores`."""
        row, session, vote = self._votes(recent)
        index, neighbour = self._products_of.of(session)
        product = self._products_of.value(index)
        weight = tf.gather(vote, neighbour) * tf.gather(self._rarity, product)
        rows, products = tf.shape(recent)[0], tf.size(self._least)
        return self._least + _spread(tf.gather(row, neighbour), product, weight, rows, products)

    def _votes(self, recent: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Return for each neighbour the row of its session, its number, and the weight of its vote."""
        width = tf.shape(recent)[1]
        length = tf.reduce_sum(tf.cast(recent > 0, tf.int32), axis=1)
        index, owner = self._sessions_with.of(tf.reshape(tf.where(newest(recent), recent, 0), [-1]))
        key = tf.cast(owner // width, tf.int64) * self._sessions + tf.cast(self._sessions_with.value(index), tf.int64)
        order = tf.argsort(key, stable=True)  # by row, the newest session first, in it the newest product first
        key, owner = tf.gather(key, order), tf.gather(owner, order)
        is_first = tf.concat([tf.fill([tf.minimum(tf.size(key), 1)], True), key[1:] != key[:-1]], axis=0)
        neighbour = tf.cumsum(tf.cast(is_first, tf.int32)) - 1
        steps_back = owner % width
        similarity = tf.math.segment_sum(1 - steps_back / tf.gather(length, owner // width), neighbour)
        key, steps_back = tf.boolean_mask(key, is_first), tf.boolean_mask(steps_back, is_first)
        row, session = tf.cast(key // self._sessions, tf.int32), tf.cast(key % self._sessions, tf.int32)
        vote = similarity * tf.maximum(1 - (steps_back + 1) / _REACH, 0)
        sampled = _first_of_row(row, self._sample)
        row, session, similarity, vote = (tf.gather(values, sampled) for values in (row, session, similarity, vote))
        order = tf.argsort(similarity, direction="DESCENDING", stable=True)
        order = tf.gather(order, tf.argsort(tf.gather(row, order), stable=True))
        nearest = tf.gather(order, _first_of_row(tf.gather(row, order), self._neighbours))
        return tf.gather(row, nearest), tf.gather(session, nearest), tf.cast(tf.gather(vote, nearest), tf.float32)


class DirectionScores(tf.Module):  # type: ignore[misc]
    """Cosines between a session's direction and the products'.

    Args:
        network: Turns windows [sessions, window] of codes into unit vectors [sessions, dimensions].
        products: Unit vectors, float32 [products, dimensions].
    """

    def __init__(self, network: keras.Model, products: np.ndarray) -> None:
        super().__init__()
        self._direction, self._weights = untracked(network)
        # Stored transposed: the product of a request's vectors with it is then one pass over memory, without a copy.
        self._transposed = tf.Variable(products.T.copy(), trainable=False)

    def __call__(self, recent: tf.Tensor, page: tf.Tensor | None = None) -> tf.Tensor:
        """Implement `Scores`."""
        return self._direction(recent) @ self._transposed


class BlendScores(tf.Module):  # type: ignore[misc]
    """Cosines, weighted counts, and a bonus for products that the session has viewed.

    Args:
        directions: Cosines.
        counts: Counts, each `relative` to the largest of its session.
        weights: Weight of each of `counts`.
        bonuses: Bonus of a product in the window by its newest position, float32 [window].
        unviewed: Number of products without views, which are last; `counts` do not include them.
    """

    def __init__(
        self,
        directions: Scores,
        counts: Sequence[Scores],
        weights: Sequence[float],
        bonuses: np.ndarray,
        unviewed: int = 0,
    ) -> None:
        super().__init__()
        self._directions, self._unviewed = directions, unviewed
        weighted = [(count, weight) for count, weight in zip(counts, weights, strict=True) if weight]
        self._counts = [count for count, _ in weighted]  # counts without weight are not exported
        self._weights = tuple(weight for _, weight in weighted)
        self._bonuses = tf.constant(bonuses, tf.float32)

    def __call__(self, recent: tf.Tensor, page: tf.Tensor | None = None) -> tf.Tensor:
        """Implement `Scores`."""
        scores = self._directions(recent, page)
        for count, weight in zip(self._counts, self._weights, strict=True):
            counted = weight * relative(count(recent, page))
            scores += tf.pad(counted, [[0, 0], [0, self._unviewed]]) if self._unviewed else counted
        positions = tf.where(newest(recent))
        codes, raised = tf.gather_nd(recent, positions), tf.gather(self._bonuses, positions[:, 1])
        indices = tf.stack([tf.cast(positions[:, 0], tf.int32), codes - 1], axis=1)
        return tf.tensor_scatter_nd_add(scores, indices, raised)


def codes_of(names: np.ndarray) -> tf.lookup.StaticHashTable:
    """Return a table from names to codes: 1 for the first name, 0 for an unknown one."""
    codes = tf.range(1, len(names) + 1, dtype=tf.int32)
    return tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(tf.constant(names.tolist()), codes), 0)


def relative(counted: tf.Tensor) -> tf.Tensor:
    """Return the square root of counts [sessions, products] divided by the largest count of the session."""
    largest = tf.reduce_max(counted, axis=1, keepdims=True)
    return tf.sqrt(tf.maximum(tf.math.divide_no_nan(counted, largest), 0.0))


def newest(recent: tf.Tensor) -> tf.Tensor:
    """Return whether a position of a window has a product without a newer position, bool [sessions, window]."""
    width = tf.shape(recent)[1]
    same = recent[:, :, None] == recent[:, None, :]
    newer = tf.range(width)[None, :] < tf.range(width)[:, None]
    return (recent > 0) & ~tf.reduce_any(same & newer, axis=2)


class _Rows(tf.Module):  # type: ignore[misc]
    """Rows of a sparse matrix, for looking up many rows in one step."""

    def __init__(self, offsets: np.ndarray, values: np.ndarray, longest: int | None = None) -> None:
        super().__init__()
        ends = offsets[1:] if longest is None else np.minimum(offsets[1:], offsets[:-1] + longest)
        self._starts = tf.Variable(offsets[:-1], trainable=False, dtype=tf.int32)
        self._ends = tf.Variable(ends, trainable=False, dtype=tf.int32)
        self._values = tf.Variable(values, trainable=False, dtype=tf.int32)

    def of(self, rows: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the indices of all values of some rows, and the position in `rows` of each; int32 [values]."""
        ranges = tf.ragged.range(tf.gather(self._starts, rows), tf.gather(self._ends, rows))
        return ranges.flat_values, tf.cast(ranges.value_rowids(), tf.int32)

    def value(self, indices: tf.Tensor) -> tf.Tensor:
        """Return the values at some indices."""
        return tf.gather(self._values, indices)


def _first_of_row(row: tf.Tensor, count: int) -> tf.Tensor:
    """Return the indices of the first `count` entries of each row, given sorted row numbers."""
    rank = tf.range(tf.size(row)) - tf.searchsorted(row, row)
    return tf.reshape(tf.where(rank < count), [-1])


def _spread(row: tf.Tensor, code: tf.Tensor, weight: tf.Tensor, rows: tf.Tensor, products: tf.Tensor) -> tf.Tensor:
    """Sum weights by row and product code, [rows, products]."""
    return tf.scatter_nd(tf.stack([row, code - 1], axis=1), weight, tf.stack([rows, products]))
