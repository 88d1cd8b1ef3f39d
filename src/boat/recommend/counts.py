"""What can be counted in sessions without any training: which products follow each other, and which are together."""

import numpy as np
from scipy import sparse
from sklearn.utils.extmath import randomized_svd

from boat.models.examples import Windows

STEPS = 5
DECAY = 0.8  # a product counts by how many steps back it was
_FOLLOWERS_OF_A_PAGE = 100  # the start page leads everywhere


def followers(windows: Windows, products: int) -> sparse.csr_matrix:
    """How often a product came within five steps of another, near ones counting more.

    Args:
        windows: Examples.
        products: Size of the vocabulary; codes run from 1.

    Returns:
        Weights [products + 1, products + 1] by codes: the row's product came first, the column's later.
    """
    before = windows.recent[:, :STEPS]
    there = (before > 0) & (windows.target > 0)[:, None]
    weights = np.broadcast_to(DECAY ** np.arange(before.shape[1]), before.shape)
    after = np.broadcast_to(windows.target[:, None], before.shape)
    return sparse.csr_matrix((weights[there], (before[there], after[there])), shape=(products + 1, products + 1))


def page_followers(
    pages: np.ndarray, codes: np.ndarray, offsets: np.ndarray, weights: np.ndarray, shape: tuple[int, int]
) -> sparse.csr_matrix:
    """How often a product came within five steps of a page, near and recent ones counting more.

    Of each page, the hundred products that came most are kept.

    Args:
        pages: Code of the page before each event, int32 [events]; 0 where none.
        codes: Products of the events, int32 [events]; 0 where unknown.
        offsets: int64 [sessions + 1].
        weights: What each event counts, float64 [events].
        shape: Number of pages and of products; codes run from 1.

    Returns:
        Weights [pages + 1, products + 1] by codes.
    """
    rows = np.arange(len(codes))
    begin = np.repeat(offsets[:-1], np.diff(offsets))
    found = sparse.csr_matrix((shape[0] + 1, shape[1] + 1))
    for step in range(STEPS):
        after = rows[(rows - step >= begin) & (codes > 0)]
        after = after[pages[after - step] > 0]
        near = (weights[after] * DECAY**step, (pages[after - step], codes[after]))
        found += sparse.csr_matrix(near, shape=found.shape)
    return _strongest(found, _FOLLOWERS_OF_A_PAGE)


def _strongest(follows: sparse.csr_matrix, most: int) -> sparse.csr_matrix:
    """Without all but the largest values of each row."""
    row = np.repeat(np.arange(follows.shape[0]), np.diff(follows.indptr))
    order = np.lexsort((follows.indices, -follows.data, row))
    kept = order[np.arange(len(order)) - follows.indptr[row] < most]
    return sparse.csr_matrix((follows.data[kept], (row[kept], follows.indices[kept])), shape=follows.shape)


def memberships(codes: np.ndarray, offsets: np.ndarray, seconds: np.ndarray, products: int) -> sparse.csr_matrix:
    """Which products were in which session; sessions by their last event, oldest first.

    Args:
        codes: Products of events, int32 [events], 0 where unknown.
        offsets: int64 [sessions + 1].
        seconds: Time of each event, float64 [events].
        products: Size of the vocabulary; codes run from 1.

    Returns:
        Ones [sessions, products + 1].
    """
    place = np.empty(len(offsets) - 1, dtype=np.int64)
    place[np.argsort(np.maximum.reduceat(seconds, offsets[:-1]), kind="stable")] = np.arange(len(place))
    rows = np.repeat(place, np.diff(offsets))[codes > 0]
    found = sparse.csr_matrix(
        (np.ones(len(rows), np.float32), (rows, codes[codes > 0])), shape=(len(place), products + 1)
    )
    found.data[:] = 1
    return found


def directions(follows: sparse.csr_matrix, size: int, seed: int) -> np.ndarray:
    """Unit vectors of products, near each other where the products often come near each other.

    The leading singular vectors of the counts, scaled by the products' frequency: seconds of work that save epochs.

    Args:
        follows: As `followers` counts.
        size: Length of the vectors; what there are too few products for is zero.
        seed: Of the randomised decomposition.

    Returns:
        float32 [products + 1, size], by codes.
    """
    both = follows + follows.T + sparse.identity(follows.shape[0])
    scale = sparse.diags(1 / np.sqrt(np.asarray(both.sum(axis=1)).ravel()))
    left, strength, _ = randomized_svd(
        (scale @ both @ scale).tocsr(), min(size, follows.shape[0] - 1), n_iter=2, random_state=seed
    )
    found = np.zeros((follows.shape[0], size), np.float32)
    found[:, : left.shape[1]] = left * np.sqrt(strength)
    unit: np.ndarray = found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-9)
    return unit
