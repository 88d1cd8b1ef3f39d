"""Counts of sessions, without training: products that follow each other, and products of the same session."""

import numpy as np
from scipy import sparse
from sklearn.utils.extmath import randomized_svd

from boat.models.examples import Examples

STEPS = 5
DECAY = 0.8  # weight of a product per step back
_FOLLOWERS_OF_A_PAGE = 100  # the start page leads everywhere


def followers(examples: Examples, products: int) -> sparse.csr_matrix:
    """Count how often a product came within five steps after another, with a larger weight for fewer steps.

    Args:
        examples: Targets and the products before them.
        products: Size of the vocabulary; codes run from 1.

    Returns:
        Weights [products + 1, products + 1] by codes: the product of the row came first.
    """
    total = sparse.csr_matrix((products + 1, products + 1))
    for step in range(STEPS):
        before = examples.before(1 + step)
        is_pair = (before > 0) & (examples.target > 0)
        pairs = before[is_pair], examples.target[is_pair]
        total += sparse.csr_matrix((np.full(len(pairs[0]), DECAY**step), pairs), shape=total.shape)
    return total


def page_followers(
    pages: np.ndarray, codes: np.ndarray, offsets: np.ndarray, weights: np.ndarray, shape: tuple[int, int]
) -> sparse.csr_matrix:
    """Count how often a product came within five steps after a page, with larger weights for near and recent events.

    Only the hundred most frequent products of each page are used.

    Args:
        pages: Code of the page before each event, int32 [events]; 0 if missing.
        codes: Products of the events, int32 [events]; 0 if unknown.
        offsets: int64 [sessions + 1].
        weights: Weight of each event, float64 [events].
        shape: Number of pages and of products; codes run from 1.

    Returns:
        Weights [pages + 1, products + 1] by codes.
    """
    rows = np.arange(len(codes))
    begin = np.repeat(offsets[:-1], np.diff(offsets))
    total = sparse.csr_matrix((shape[0] + 1, shape[1] + 1))
    for step in range(STEPS):
        after = rows[(rows - step >= begin) & (codes > 0)]
        after = after[pages[after - step] > 0]
        near = (weights[after] * DECAY**step, (pages[after - step], codes[after]))
        total += sparse.csr_matrix(near, shape=total.shape)
    return _strongest(total, _FOLLOWERS_OF_A_PAGE)


def _strongest(follows: sparse.csr_matrix, count: int) -> sparse.csr_matrix:
    """Return the matrix with only the largest values of each row."""
    row = np.repeat(np.arange(follows.shape[0]), np.diff(follows.indptr))
    order = np.lexsort((follows.indices, -follows.data, row))
    strongest = order[np.arange(len(order)) - follows.indptr[row] < count]
    return sparse.csr_matrix(
        (follows.data[strongest], (row[strongest], follows.indices[strongest])), shape=follows.shape
    )


def memberships(codes: np.ndarray, offsets: np.ndarray, seconds: np.ndarray, products: int) -> sparse.csr_matrix:
    """Return which products were in which session; sessions are ordered by their last event, oldest first.

    Args:
        codes: Products of events, int32 [events]; 0 if unknown.
        offsets: int64 [sessions + 1].
        seconds: Time of each event, float64 [events].
        products: Size of the vocabulary; codes run from 1.

    Returns:
        Ones [sessions, products + 1].
    """
    rank = np.empty(len(offsets) - 1, dtype=np.int64)
    rank[np.argsort(np.maximum.reduceat(seconds, offsets[:-1]), kind="stable")] = np.arange(len(rank))
    rows = np.repeat(rank, np.diff(offsets))[codes > 0]
    matrix = sparse.csr_matrix(
        (np.ones(len(rows), np.float32), (rows, codes[codes > 0])), shape=(len(rank), products + 1)
    )
    matrix.data[:] = 1
    return matrix


def directions(follows: sparse.csr_matrix, size: int, seed: int) -> np.ndarray:
    """Compute unit vectors of products, which are near each other if the products often follow each other.

    They are the leading singular vectors of the counts, scaled by frequency. This takes seconds and saves epochs.

    Args:
        follows: Counts of `followers`.
        size: Length of the vectors; dimensions beyond the number of products are zero.
        seed: Seed of the randomised decomposition.

    Returns:
        float32 [products + 1, size], by codes.
    """
    symmetric = follows + follows.T + sparse.identity(follows.shape[0])
    scale = sparse.diags(1 / np.sqrt(np.asarray(symmetric.sum(axis=1)).ravel()))
    left, strength, _ = randomized_svd(
        (scale @ symmetric @ scale).tocsr(), min(size, follows.shape[0] - 1), n_iter=2, random_state=seed
    )
    vectors = np.zeros((follows.shape[0], size), np.float32)
    vectors[:, : left.shape[1]] = left * np.sqrt(strength)
    unit: np.ndarray = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    return unit
