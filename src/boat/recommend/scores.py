"""Scores of all products after a session, as parts of an exported graph: one class for each way to come by them."""

from collections.abc import Sequence
from typing import Protocol

import keras
import numpy as np
import tensorflow as tf
from scipy import sparse

from boat.models.graphs import pages_of, untracked
from boat.recommend.counts import DECAY, STEPS

_REACH = 10  # a shared product lies at most so many steps back to make a session a neighbour: Serenade's


class Scores(Protocol):
    """Scores of products after a window; a `tf.Module`, so that it can be exported."""

    @property
    def submodules(self) -> Sequence[tf.Module]:
        """What it is made of, at any depth, itself left out."""

    def __call__(self, recent: tf.Tensor, page: tf.Tensor | None = None) -> tf.Tensor:
        """Windows of codes, int32 [sessions, window], newest first, to scores, float32 [sessions, products].

        Product `i` has the code `i + 1`. What comes out for an empty window has no meaning. `page` is the URL that the
        shopper is on, string [sessions], empty where nobody knows it.
        """


class PopularScores(tf.Module):  # type: ignore[misc]  # TensorFlow has no types
    """How frequent products are, whatever the session.

    Args:
        shares: Of all events, float32 [products].
    """

    def __init__(self, shares: np.ndarray) -> None:
        super().__init__()
        self._shares = tf.Variable(shares, trainable=False, dtype=tf.float32)

    def __call__(self, recent: tf.Tensor, page: tf.Tensor | None = None) -> tf.Tensor:
        """See `Scores`."""
        return tf.broadcast_to(self._shares, [tf.shape(recent)[0], tf.size(self._shares)])


class FollowerScores(tf.Module):  # type: ignore[misc]
    """How often a product followed those of the session, the newest counting most.

    Args:
        follows: Weight by which a product (column) followed another (row), csr [products + 1, products + 1], by codes.
        shares: Of all events, float32 [products]; by next to nothing, they decide between equals.
    """

    def __init__(self, follows: sparse.csr_matrix, shares: np.ndarray) -> None:
        super().__init__()
        self._rows = _Rows(follows.indptr, follows.indices)
        self._weights = tf.Variable(follows.data, trainable=False, dtype=tf.float32)
        self._least = tf.Variable(shares * 1e-6, trainable=False, dtype=tf.float32)

    def __call__(self, recent: tf.Tensor, page: tf.Tensor | None = None) -> tf.Tensor:
        """See `Scores`."""
        steps = recent[:, :STEPS]
        index, owner = self._rows.of(tf.reshape(steps, [-1]))
        width = tf.shape(steps)[1]
        weight = tf.gather(self._weights, index) * DECAY ** tf.cast(owner % width, tf.float32)
        products = tf.size(self._least)
        return self._least + _spread(owner // width, self._rows.value(index), weight, tf.shape(recent)[0], products)


class PageScores(tf.Module):  # type: ignore[misc]
    """How often a product came after the page that the shopper is on; none after a page that is not known.

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
        """See `Scores`."""
        rows = tf.shape(recent)[0]
        codes = tf.zeros([rows], tf.int32) if page is None else self._codes.lookup(pages_of(page))
        index, owner = self._rows.of(codes)
        return _spread(owner, self._rows.value(index), tf.gather(self._weights, index), rows, self._products)


class SummedScores(tf.Module):  # type: ignore[misc]
    """Counts added up, each as `relative` to the session's largest.

    Args:
        parts: The counts.
        weights: What each of them is multiplied by.
    """

    def __init__(self, parts: Sequence[Scores], weights: Sequence[float]) -> None:
        super().__init__()
        self._parts, self._weights = list(parts), tuple(weights)

    def __call__(self, recent: tf.Tensor, page: tf.Tensor | None = None) -> tf.Tensor:
        """See `Scores`."""
        weighted = zip(self._parts, self._weights, strict=True)
        return tf.add_n([weight * relative(part(recent, page)) for part, weight in weighted])


class NeighbourScores(tf.Module):  # type: ignore[misc]
    """VMIS-kNN: products of the sessions most like the present one, as in Serenade (Kersbergen et al., SIGMOD 2022).

    Of the `sample` newest sessions that share a product with the present one, the `neighbours` most similar vote for
    their products: a vote counts by the similarity, by how recent the newest shared product is, and by how rare the
    product is.

    Args:
        sessions: Which products (columns, by codes) were in which session (rows, oldest first), csr of booleans.
        sample: How many sessions are compared.
        neighbours: How many of them vote.
        shares: Of all events, float32 [products]; by next to nothing, they decide between equals.
    """

    def __init__(self, sessions: sparse.csr_matrix, sample: int, neighbours: int, shares: np.ndarray) -> None:
        super().__init__()
        self._sample, self._neighbours, self._sessions = sample, neighbours, sessions.shape[0]
        newest_first = sessions[::-1]
        postings = newest_first.T.tocsr()
        self._products_of = _Rows(newest_first.indptr, newest_first.indices)
        self._sessions_with = _Rows(postings.indptr, postings.indices, longest=sample)
        seen = np.maximum(np.diff(postings.indptr), 1)
        self._rarity = tf.Variable(np.log(self._sessions / seen), trainable=False, dtype=tf.float32)
        self._least = tf.Variable(shares * 1e-6, trainable=False, dtype=tf.float32)

    def __call__(self, recent: tf.Tensor, page: tf.Tensor | None = None) -> tf.Tensor:
        """See `Scores`."""
        row, session, vote = self._votes(recent)
        index, voter = self._products_of.of(session)
        product = self._products_of.value(index)
        weight = tf.gather(vote, voter) * tf.gather(self._rarity, product)
        rows, products = tf.shape(recent)[0], tf.size(self._least)
        return self._least + _spread(tf.gather(row, voter), product, weight, rows, products)

    def _votes(self, recent: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """For each neighbour: the row of the session it is one of, its number, and what its vote counts."""
        width = tf.shape(recent)[1]
        length = tf.reduce_sum(tf.cast(recent > 0, tf.int32), axis=1)
        index, owner = self._sessions_with.of(tf.reshape(tf.where(newest(recent), recent, 0), [-1]))
        key = tf.cast(owner // width, tf.int64) * self._sessions + tf.cast(self._sessions_with.value(index), tf.int64)
        order = tf.argsort(key, stable=True)  # by row, the newest session first, in it the newest product first
        key, owner = tf.gather(key, order), tf.gather(owner, order)
        begins = tf.concat([tf.fill([tf.minimum(tf.size(key), 1)], True), key[1:] != key[:-1]], axis=0)
        number = tf.cumsum(tf.cast(begins, tf.int32)) - 1
        back = owner % width
        similarity = tf.math.segment_sum(1 - back / tf.gather(length, owner // width), number)
        key, back = tf.boolean_mask(key, begins), tf.boolean_mask(back, begins)
        row, session = tf.cast(key // self._sessions, tf.int32), tf.cast(key % self._sessions, tf.int32)
        vote = similarity * tf.maximum(1 - (back + 1) / _REACH, 0)
        chosen = _first_of_row(row, self._sample)
        row, session, similarity, vote = (tf.gather(each, chosen) for each in (row, session, similarity, vote))
        order = tf.argsort(similarity, direction="DESCENDING", stable=True)
        order = tf.gather(order, tf.argsort(tf.gather(row, order), stable=True))
        chosen = tf.gather(order, _first_of_row(tf.gather(row, order), self._neighbours))
        return tf.gather(row, chosen), tf.gather(session, chosen), tf.cast(tf.gather(vote, chosen), tf.float32)


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
        """See `Scores`."""
        return self._direction(recent) @ self._transposed


class BlendScores(tf.Module):  # type: ignore[misc]
    """Cosines, what counts say beside them, and more for products that the session has seen.

    Args:
        directions: Cosines.
        others: Counts, which enter as `relative` to the session's largest.
        weights: What each of `others` is multiplied by.
        seen: Added for a product in the window by its newest place, float32 [window].
        unviewed: How many of the products, the last ones, nobody has viewed: `others` do not count them.
    """

    def __init__(
        self,
        directions: Scores,
        others: Sequence[Scores],
        weights: Sequence[float],
        seen: np.ndarray,
        unviewed: int = 0,
    ) -> None:
        super().__init__()
        self._directions, self._unviewed = directions, unviewed
        kept = [(other, weight) for other, weight in zip(others, weights, strict=True) if weight]
        self._others = [other for other, _ in kept]  # what has no weight is not exported
        self._weights = tuple(weight for _, weight in kept)
        self._seen = tf.constant(seen, tf.float32)

    def __call__(self, recent: tf.Tensor, page: tf.Tensor | None = None) -> tf.Tensor:
        """See `Scores`."""
        scores = self._directions(recent, page)
        for other, weight in zip(self._others, self._weights, strict=True):
            counted = weight * relative(other(recent, page))
            scores += tf.pad(counted, [[0, 0], [0, self._unviewed]]) if self._unviewed else counted
        there = tf.where(newest(recent))
        codes, raised = tf.gather_nd(recent, there), tf.gather(self._seen, there[:, 1])
        places = tf.stack([tf.cast(there[:, 0], tf.int32), codes - 1], axis=1)
        return tf.tensor_scatter_nd_add(scores, places, raised)


def codes_of(names: np.ndarray) -> tf.lookup.StaticHashTable:
    """A table from names to their codes: 1 for the first, 0 for one that is not among them."""
    codes = tf.range(1, len(names) + 1, dtype=tf.int32)
    return tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(tf.constant(names.tolist()), codes), 0)


def relative(counted: tf.Tensor) -> tf.Tensor:
    """Counts [sessions, products] as shares of the session's largest, their roots taken: 1 for that one, 0 for none."""
    most = tf.reduce_max(counted, axis=1, keepdims=True)
    return tf.sqrt(tf.maximum(tf.math.divide_no_nan(counted, most), 0.0))


def newest(recent: tf.Tensor) -> tf.Tensor:
    """Whether a place of a window, [sessions, window], holds a product that is at no newer place; booleans."""
    width = tf.shape(recent)[1]
    same = recent[:, :, None] == recent[:, None, :]
    newer = tf.range(width)[None, :] < tf.range(width)[:, None]
    return (recent > 0) & ~tf.reduce_any(same & newer, axis=2)


class _Rows(tf.Module):  # type: ignore[misc]
    """Rows of a sparse matrix, to be looked up many at once."""

    def __init__(self, offsets: np.ndarray, values: np.ndarray, longest: int | None = None) -> None:
        super().__init__()
        ends = offsets[1:] if longest is None else np.minimum(offsets[1:], offsets[:-1] + longest)
        self._starts = tf.Variable(offsets[:-1], trainable=False, dtype=tf.int32)
        self._ends = tf.Variable(ends, trainable=False, dtype=tf.int32)
        self._values = tf.Variable(values, trainable=False, dtype=tf.int32)

    def of(self, rows: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Places of all values of some rows, and for each which of `rows` it is of; int32 [values]."""
        found = tf.ragged.range(tf.gather(self._starts, rows), tf.gather(self._ends, rows))
        return found.flat_values, tf.cast(found.value_rowids(), tf.int32)

    def value(self, places: tf.Tensor) -> tf.Tensor:
        """The values at some places."""
        return tf.gather(self._values, places)


def _first_of_row(row: tf.Tensor, count: int) -> tf.Tensor:
    """Where, in sorted row numbers, the first `count` of each row are."""
    place = tf.range(tf.size(row)) - tf.searchsorted(row, row)
    return tf.reshape(tf.where(place < count), [-1])


def _spread(row: tf.Tensor, code: tf.Tensor, weight: tf.Tensor, rows: tf.Tensor, products: tf.Tensor) -> tf.Tensor:
    """Sums of weights [rows, products] by row and product code."""
    return tf.scatter_nd(tf.stack([row, code - 1], axis=1), weight, tf.stack([rows, products]))
