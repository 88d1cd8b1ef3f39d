"""Products that nobody has viewed yet: near the viewed ones whose catalogue vectors are like theirs."""

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
_DISCOUNT = 0.9  # what shoppers have told of a product is worth more than what the shop says of it
_FEWEST = 1_000
_MOST_COMPARED = 50_000  # each with all viewed ones: half a minute beside as many of those
_BLOCK = 500


@dataclass(frozen=True)
class Catalogue:
    """What the shop says of its products in figures.

    Attributes:
        names: Product ids, object [products].
        vectors: Unit vectors, float32 [products, dimensions].
        left_out: How many other products have a vector that cannot be used.
    """

    names: np.ndarray
    vectors: np.ndarray
    left_out: int


EMPTY = Catalogue(np.empty(0, object), np.empty((0, 0), np.float32), 0)


class Unviewed(NamedTuple):
    """Products that are in the catalogue alone.

    Attributes:
        names: Product ids, object [unviewed].
        directions: As those of the viewed ones, a little shorter, float32 [unviewed, dimensions].
        likest: Code of the viewed product that each is most like, int32 [unviewed].
    """

    names: np.ndarray
    directions: np.ndarray
    likest: np.ndarray


def read(folder: Path) -> Catalogue:
    """The products of the snapshot in `folder` that have a description vector: finite, not zero, as long as most are.

    Of a product that several shops sell, the first shop's.
    """
    rows = pq.read_table(folder / snapshot.PRODUCTS, columns=["product_id", "description_vector"]).to_pylist()
    texts = {row["product_id"]: row["description_vector"] for row in reversed(rows) if row["description_vector"]}
    found = {name: _vector(text) for name, text in sorted(texts.items())}
    lengths = Counter(len(vector) for vector in found.values() if len(vector))
    usual = lengths.most_common(1)[0][0] if lengths else 0
    kept = {name: vector for name, vector in found.items() if usual and len(vector) == usual}
    vectors = np.array(list(kept.values()), np.float32).reshape(len(kept), usual)
    return Catalogue(np.array(list(kept), object), _unit(vectors), len(texts) - len(kept))


def unviewed(catalogue: Catalogue, names: np.ndarray, directions: np.ndarray) -> Unviewed:
    """The products that are not among `names`.

    A direction is the mean of those of the ten viewed products with the likest vectors, weighted by the likeness, and
    a little shorter. Products like none are left out; of many, as many as there are viewed ones (and a thousand at
    least) are kept, the likest. Of more than 50,000, the first ones are looked at.

    Args:
        catalogue: What the shop says.
        names: The viewed products, object [viewed].
        directions: Their unit vectors, float32 [viewed, dimensions].
    """
    code = examples.encode(catalogue.names, names)
    new = np.flatnonzero(code == 0)[:_MOST_COMPARED]
    viewed, codes = catalogue.vectors[code > 0], code[code > 0]
    if not len(new) or not len(viewed):
        return Unviewed(np.empty(0, object), np.empty((0, directions.shape[1]), np.float32), np.empty(0, np.int32))
    theirs = directions[codes - 1]
    blocks = [_near(catalogue.vectors[new[at : at + _BLOCK]], viewed, theirs) for at in range(0, len(new), _BLOCK)]
    found, likeness, likest = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
    most_like = np.argsort(-likeness, kind="stable")[: max(_FEWEST, len(names))]
    kept = most_like[likeness[most_like] > 0]
    return Unviewed(catalogue.names[new[kept]], _DISCOUNT * _unit(found[kept]), codes[likest[kept]])


def _near(vectors: np.ndarray, viewed: np.ndarray, directions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each vector the weighted sum of the directions of the viewed ones it is near, its best likeness, and whose
    that is."""
    likeness = vectors @ viewed.T
    most = min(_NEAREST, len(viewed))
    nearest = np.argpartition(likeness, -most, axis=1)[:, -most:]
    weights = np.maximum(np.take_along_axis(likeness, nearest, axis=1), 0)
    return np.einsum("vn,vnd->vd", weights, directions[nearest]), weights.max(axis=1), likeness.argmax(axis=1)


def _vector(text: str) -> np.ndarray:
    """What a JSON list holds; nothing where it is no list of numbers that are of use."""
    try:
        vector = np.array(json.loads(text), np.float32)
    except (ValueError, TypeError):
        return np.empty(0)
    usable = vector.ndim == 1 and np.isfinite(vector).all() and vector.any()
    return vector if usable else np.empty(0)


def _unit(vectors: np.ndarray) -> np.ndarray:
    unit: np.ndarray = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    return unit
