"""Simple models that a challenger has to beat on the same sessions."""

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from boat.models.examples import Examples
from boat.recommend import counts

LISTED = 20
_TOP = 10

_TIE_BREAK = 1e-6  # popularity breaks ties and fills the end of the list
_BLOCK = 2_000


@dataclass(frozen=True)
class Ranked:
    """Recommendations, best first.

    Attributes:
        products: Product codes, int64 [targets, 20]; -1 at the end of shorter lists.
        scores: Falling scores, float64 [targets, 20]; -inf at the end of shorter lists.
    """

    products: np.ndarray
    scores: np.ndarray

    def overlap(self, other: "Ranked") -> float:
        """Return the mean share of the first ten products of the other lists that these lists have too."""
        ours, theirs = self.products[:, :_TOP], other.products[:, :_TOP]
        common = (ours[:, None, :] == theirs[:, :, None]).any(axis=2) & (theirs > 0)
        return float(np.mean(common.sum(axis=1) / np.maximum((theirs > 0).sum(axis=1), 1)))


class Popular:
    """Recommends the most frequent products to every session.

    Args:
        examples: Examples to learn from; their targets are counted.
        products: Size of the vocabulary; codes run from 1.
    """

    def __init__(self, examples: Examples, products: int) -> None:
        counts = np.bincount(examples.target, minlength=products + 1)[1:].astype(np.float64)
        self.codes = np.argsort(-counts, kind="stable")[: LISTED + 1] + 1
        self.counts = counts[self.codes - 1]

    def recommend(self, recent: np.ndarray) -> Ranked:
        """Return lists without the current product, which is the first of each window [targets, window]."""
        codes = np.broadcast_to(self.codes, (len(recent), len(self.codes)))
        scores = np.where(codes == recent[:, :1], -np.inf, self.counts)
        order = np.argsort(-scores, axis=1, kind="stable")[:, :LISTED]
        scores = np.take_along_axis(scores, order, axis=1)
        return _padded(np.where(np.isfinite(scores), np.take_along_axis(codes, order, axis=1), -1), scores)


class CoOccurrence:
    """Ranks products by how often they followed a product within five steps; near steps count more.

    Args:
        examples: Examples to learn from.
        products: Size of the vocabulary; codes run from 1.
    """

    def __init__(self, examples: Examples, products: int) -> None:
        popular = Popular(examples, products)
        # Row 0 precedes every session. It gives the most popular products a tiny score.
        values = _TIE_BREAK * popular.counts / popular.counts.sum()
        rows = np.zeros(len(popular.codes), dtype=np.int64)
        least = sparse.csr_matrix((values, (rows, popular.codes)), shape=(products + 1, products + 1))
        self._follows = counts.followers(examples, products) + least

    def recommend(self, recent: np.ndarray) -> Ranked:
        """Return lists without the current product, which is the first of each window [targets, window]."""
        blocks = [self._block(recent[at : at + _BLOCK, : counts.STEPS]) for at in range(0, len(recent), _BLOCK)]
        products, scores = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
        return Ranked(products, scores)

    def _block(self, recent: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        rows = np.repeat(np.arange(len(recent)), recent.shape[1] + 1)
        columns = np.column_stack([np.zeros(len(recent), dtype=np.int64), recent])
        weights = np.append(1.0, counts.DECAY ** np.arange(recent.shape[1]))
        weights = np.where(np.column_stack([np.ones(len(recent), dtype=bool), recent > 0]), weights, 0.0)
        sessions = sparse.csr_matrix(
            (weights.ravel(), (rows, columns.ravel())), shape=(len(recent), self._follows.shape[0])
        )
        sums = (sessions @ self._follows).tocoo()
        valid = (sums.col != recent[sums.row, 0]) & (sums.data > 0)
        row, code, score = sums.row[valid], sums.col[valid], sums.data[valid]
        order = np.lexsort((code, -score, row))
        row, code, score = row[order], code[order], score[order]
        rank = np.arange(len(row)) - np.searchsorted(row, row)
        products, scores = np.full((len(recent), LISTED), -1), np.full((len(recent), LISTED), -np.inf)
        listed = rank < LISTED
        products[row[listed], rank[listed]] = code[listed]
        scores[row[listed], rank[listed]] = score[listed]
        return products, scores


def _padded(products: np.ndarray, scores: np.ndarray) -> Ranked:
    missing = ((0, 0), (0, LISTED - products.shape[1]))
    return Ranked(np.pad(products, missing, constant_values=-1), np.pad(scores, missing, constant_values=-np.inf))
