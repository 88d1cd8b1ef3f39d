"""Simple models to beat, on the same sessions as the real ones."""

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from boat.models.examples import Windows
from boat.recommend import counts

LISTED = 20

_TIE_BREAK = 1e-6  # popularity decides between equal counts and fills what is left
_BLOCK = 2_000


@dataclass(frozen=True)
class Ranked:
    """Recommendations, best first.

    Attributes:
        products: int64 [targets, 20], product codes; -1 where a list is shorter.
        scores: float64 [targets, 20], falling; -inf where a list is shorter.
    """

    products: np.ndarray
    scores: np.ndarray


class Popular:
    """The most frequent products, for everyone.

    Args:
        windows: Examples to learn from; their targets are counted.
        products: Size of the vocabulary; codes run from 1.
    """

    def __init__(self, windows: Windows, products: int) -> None:
        every = np.bincount(windows.target, minlength=products + 1)[1:].astype(np.float64)
        self.codes = np.argsort(-every, kind="stable")[: LISTED + 1] + 1
        self.counts = every[self.codes - 1]

    def recommend(self, recent: np.ndarray) -> Ranked:
        """Lists without the current product, the first of each window [targets, window]."""
        codes = np.broadcast_to(self.codes, (len(recent), len(self.codes)))
        scores = np.where(codes == recent[:, :1], -np.inf, self.counts)
        order = np.argsort(-scores, axis=1, kind="stable")[:, :LISTED]
        scores = np.take_along_axis(scores, order, axis=1)
        return _padded(np.where(np.isfinite(scores), np.take_along_axis(codes, order, axis=1), -1), scores)


class CoOccurrence:
    """How often a product followed another within five steps, near ones counting more.

    Args:
        windows: Examples to learn from.
        products: Size of the vocabulary; codes run from 1.
    """

    def __init__(self, windows: Windows, products: int) -> None:
        popular = Popular(windows, products)
        # Row 0 stands before every session: it holds the most popular, by next to nothing.
        values = _TIE_BREAK * popular.counts / popular.counts.sum()
        rows = np.zeros(len(popular.codes), dtype=np.int64)
        least = sparse.csr_matrix((values, (rows, popular.codes)), shape=(products + 1, products + 1))
        self._follows = counts.followers(windows, products) + least

    def recommend(self, recent: np.ndarray) -> Ranked:
        """Lists without the current product, the first of each window [targets, window]."""
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
        found = (sessions @ self._follows).tocoo()
        wanted = (found.col != recent[found.row, 0]) & (found.data > 0)
        row, code, score = found.row[wanted], found.col[wanted], found.data[wanted]
        order = np.lexsort((code, -score, row))
        row, code, score = row[order], code[order], score[order]
        place = np.arange(len(row)) - np.searchsorted(row, row)
        products, scores = np.full((len(recent), LISTED), -1), np.full((len(recent), LISTED), -np.inf)
        listed = place < LISTED
        products[row[listed], place[listed]] = code[listed]
        scores[row[listed], place[listed]] = score[listed]
        return products, scores


def _padded(products: np.ndarray, scores: np.ndarray) -> Ranked:
    missing = ((0, 0), (0, LISTED - products.shape[1]))
    return Ranked(np.pad(products, missing, constant_values=-1), np.pad(scores, missing, constant_values=-np.inf))
