"""Products without views: their directions come from viewed products with similar description vectors."""

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow.parquet as pq

from boat import snapshot
from boat.models import examples

_NEAREST = 10
_DISCOUNT = 0.9  # views describe a product better than its description vector does
_MIN_PRODUCTS = 1_000
_MAX_COMPARED = 50_000  # each with all viewed products: half a minute for as many viewed ones
_BLOCK = 500


@dataclass(frozen=True)
class Catalogue:
    """Description vectors of products.

    Attributes:
        names: Product ids, object [products].
        vectors: Unit vectors, float32 [products, dimensions].
        left_out: Number of other products whose vector cannot be used.
    """

    names: np.ndarray
    vectors: np.ndarray
    left_out: int


EMPTY = Catalogue(np.empty(0, object), np.empty((0, 0), np.float32), 0)


class Unviewed(NamedTuple):
    """Products that are only in the catalogue.

    Attributes:
        names: Product ids, object [unviewed].
        directions: Directions, a little shorter than unit vectors, float32 [unviewed, dimensions].
        most_similar: Code of the most similar viewed product, int32 [unviewed].
    """

    names: np.ndarray
    directions: np.ndarray
    most_similar: np.ndarray


def read(folder: Path) -> Catalogue:
    """Read the description vectors of a snapshot that are finite, not zero, and of the most frequent length.

    If several shops sell a product, the vector of the first shop is used.
    """
    rows = pq.read_table(folder / snapshot.PRODUCTS, columns=["product_id", "description_vector"]).to_pylist()
    texts = {row["product_id"]: row["description_vector"] for row in reversed(rows) if row["description_vector"]}
    by_name = {name: _vector(text) for name, text in sorted(texts.items())}
    lengths = Counter(len(vector) for vector in by_name.values() if len(vector))
    usual = lengths.most_common(1)[0][0] if lengths else 0
    usable = {name: vector for name, vector in by_name.items() if usual and len(vector) == usual}
    vectors = np.array(list(usable.values()), np.float32).reshape(len(usable), usual)
    return Catalogue(np.array(list(usable), object), _unit(vectors), len(texts) - len(usable))


def unviewed(catalogue: Catalogue, names: np.ndarray, directions: np.ndarray) -> Unviewed:
    """Compute directions of products that are not in `names`.

    A direction is the mean of the directions of the ten viewed products with the most similar vectors, weighted by the
    similarity, and a little shorter. Products without a similar one are left out. At most as many products as viewed
    ones are used (at least 1,000), the most similar first. Of more than 50,000, the first ones are compared.

    Args:
        catalogue: Description vectors.
        names: Viewed products, object [viewed].
        directions: Unit vectors of the viewed products, float32 [viewed, dimensions].
    """
    code = examples.encode(catalogue.names, names)
    unknown = np.flatnonzero(code == 0)[:_MAX_COMPARED]
    viewed, codes = catalogue.vectors[code > 0], code[code > 0]
    if not len(unknown) or not len(viewed):
        return Unviewed(np.empty(0, object), np.empty((0, directions.shape[1]), np.float32), np.empty(0, np.int32))
    viewed_directions = directions[codes - 1]
    blocks = [
        _near(catalogue.vectors[unknown[at : at + _BLOCK]], viewed, viewed_directions)
        for at in range(0, len(unknown), _BLOCK)
    ]
    sums, similarity, nearest = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
    by_similarity = np.argsort(-similarity, kind="stable")[: max(_MIN_PRODUCTS, len(names))]
    selected = by_similarity[similarity[by_similarity] > 0]
    return Unviewed(catalogue.names[unknown[selected]], _DISCOUNT * _unit(sums[selected]), codes[nearest[selected]])


def _near(vectors: np.ndarray, viewed: np.ndarray, directions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return for each vector the weighted sum of the nearest directions, the largest similarity, and its index."""
    similarity = vectors @ viewed.T
    count = min(_NEAREST, len(viewed))
    nearest = np.argpartition(similarity, -count, axis=1)[:, -count:]
    weights = np.maximum(np.take_along_axis(similarity, nearest, axis=1), 0)
    return np.einsum("vn,vnd->vd", weights, directions[nearest]), weights.max(axis=1), similarity.argmax(axis=1)


def _vector(text: str) -> np.ndarray:
    """Parse a JSON list of numbers; return an empty array if it cannot be used."""
    try:
        vector = np.array(json.loads(text), np.float32)
    except (ValueError, TypeError):
        return np.empty(0)
    usable = vector.ndim == 1 and np.isfinite(vector).all() and vector.any()
    return vector if usable else np.empty(0)


def _unit(vectors: np.ndarray) -> np.ndarray:
    unit: np.ndarray = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    return unit
