"""The products of a synthetic shop: names, related products, and demand per week."""

import hashlib
from dataclasses import dataclass
from itertools import product as combinations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

VECTOR = 50
LINKS = 6
STYLE_SIZE = 16
_CATEGORIES = 173
_TOP_SHARE = 0.0125  # of the demand; shoppers who follow links raise it to 0.0173 of the views
_LINK_SHARES = np.array([0.38, 0.22, 0.15, 0.11, 0.08, 0.06])

# Nine departments, as many as the real shop has top categories.
_NOUNS = {
    "Women": ("dress", "blouse", "skirt", "cardigan", "tunic"),
    "Men": ("shirt", "polo", "sweater", "chinos", "blazer"),
    "Children": ("romper", "hoodie", "dungarees", "pyjamas", "raincoat"),
    "Shoes": ("sneakers", "sandals", "boots", "loafers", "slippers"),
    "Bags": ("tote", "backpack", "satchel", "purse", "weekender"),
    "Sport": ("leggings", "running top", "yoga mat", "track jacket", "shorts"),
    "Home": ("cushion", "throw", "table runner", "curtain", "lampshade"),
    "Bath": ("towel", "bathrobe", "bath mat", "wash bag", "laundry basket"),
    "Accessories": ("scarf", "belt", "hat", "gloves", "umbrella"),
}
_MATERIALS = ("Linen", "Cotton", "Wool", "Silk", "Denim", "Hemp", "Bamboo", "Fleece", "Canvas", "Velvet")
_CUTS = ("summer", "winter", "classic", "striped", "floral", "plain", "soft", "light", "everyday", "vintage", "travel")
_COLOURS = ("blue", "red", "green", "black", "white", "grey", "yellow", "rose", "navy", "sand", "olive", "plum")


@dataclass(frozen=True)
class ShopCatalogue:
    """Products 0 … P-1, sorted by style.

    Attributes:
        skus: Hash of each product by generation. A new generation gives new ids to all products. Shape [G, P].
        pages: Hashes of the pages of products, then of categories, then of other pages. Shape [all pages].
        names: Readable name of each product.
        category: Index of each product's category, 0 … C-1. Shape [P].
        category_hashes: Path of each category, hashes joined by `/`. Shape [C].
        style_start: First product of each product's style, and of its partner style. Shape [P, 2].
        style_end: One past the last product of the same two styles. Shape [P, 2].
        links: Products that follow each product. Shape [P, LINKS].
        link_cdf: Cumulative share of the links. Shape [LINKS].
        weight_cdf: Cumulative weight of the products, to draw within a style. Shape [P + 1].
        week_cdf: For each week w, w plus the cumulative demand of the products. Shape [weeks * P].
        launch_week: Week in which each product is first sold. Shape [P].
        vectors: Description vector of each product, near that of its style. Shape [P, VECTOR].
    """

    skus: npt.NDArray[np.str_]
    pages: npt.NDArray[np.str_]
    names: list[str]
    category: Integers
    category_hashes: list[str]
    style_start: Integers
    style_end: Integers
    links: Integers
    link_cdf: Floats
    weight_cdf: Floats
    week_cdf: Floats
    launch_week: Integers
    vectors: Floats

    def __len__(self) -> int:
        return len(self.category)

    def popular(self, rng: np.random.Generator, week: Integers) -> Integers:
        """Draw a product for each week according to the demand in it."""
        drawn = np.searchsorted(self.week_cdf, week + rng.random(len(week)), side="right")
        return np.asarray(np.minimum(drawn, len(self.week_cdf) - 1) % len(self))

    def alike(self, rng: np.random.Generator, products: Integers, which: int) -> Integers:
        """Draw a product of the same style (0) or of its partner style (1)."""
        start, end = self.style_start[products, which], self.style_end[products, which]
        low, high = self.weight_cdf[start], self.weight_cdf[end]
        drawn = np.searchsorted(self.weight_cdf, low + rng.random(len(products)) * (high - low), side="right") - 1
        return np.asarray(np.clip(drawn, start, end - 1))


def make(rng: np.random.Generator, seed: int, products: int, weeks: int, generations: int = 1) -> ShopCatalogue:
    """Generate a catalogue. In larger catalogues the favourites have larger shares, as in real shops."""
    styles = max(1, round(products / STYLE_SIZE))
    style = np.sort(rng.integers(0, styles, products))
    leaves = min(_CATEGORIES, max(1, styles // 2))
    category_of_style = np.arange(styles) * leaves // styles
    category = category_of_style[style]
    weights = _weights(rng, products)
    bounds = np.searchsorted(style, np.arange(styles + 1))
    pull = weights ** _by_size(products, 0.7, 1.0)
    demand = np.bincount(style, pull, styles)
    partner = rng.choice(styles, styles, p=demand / demand.sum())
    pair = np.stack([style, partner[style]], axis=1)
    empty = bounds[pair] == bounds[pair + 1]
    pair = np.where(empty, style[:, None], pair)
    later = np.minimum(rng.integers(0, weeks + 1, products), weeks - 1)  # twice as many launches in the last week
    launch_week = np.where(rng.random(products) < 0.55, 0, later)
    launch_week[bounds[:-1][bounds[:-1] < products]] = 0  # each style has a product from the start
    draft = ShopCatalogue(
        skus=np.array([_hash(f"{seed} product {index}") for index in range(generations * products)]).reshape(
            -1, products
        ),
        pages=np.array([_hash(f"{seed} page {index}") for index in range(products + leaves + max(20, products // 8))]),
        names=_names(rng, category, style),
        category=category,
        category_hashes=_category_hashes(seed, leaves),
        style_start=bounds[pair],
        style_end=bounds[pair + 1],
        links=np.zeros((products, LINKS), np.int64),
        link_cdf=np.cumsum(_LINK_SHARES),
        weight_cdf=np.concatenate([[0.0], np.cumsum(pull)]),
        week_cdf=_week_cdf(rng, weights, launch_week, weeks),
        launch_week=launch_week,
        vectors=_vectors(rng, style, styles),
    )
    everything = np.arange(products)
    for link in range(LINKS):
        # Two of the six lead to the partner style, four to the same style.
        draft.links[:, link] = draft.alike(rng, everything, int(link in (1, 3)))
    return draft


def _by_size(products: int, small: float, large: float) -> float:
    """Interpolate between a shop of 2,000 products and a shop of 20,000 or more, which is like the real shop."""
    return float(np.interp(np.log10(products), [3.3, 4.3], [small, large]))


def _weights(rng: np.random.Generator, products: int) -> Floats:
    appeal = rng.normal(0, 1, products)
    # A few products are viewed often, but no favourite is far ahead of the next one.
    spread, among_favourites = _by_size(products, 1.5, 2.8), _by_size(products, 1.5, 2.1)
    favourite = 1.5
    weights = np.exp(spread * np.minimum(appeal, favourite) + among_favourites * np.maximum(appeal - favourite, 0))
    cap = _by_size(products, 0.006, _TOP_SHARE) * weights.sum()
    return np.asarray(np.minimum(weights, cap) / weights.sum())


def _week_cdf(rng: np.random.Generator, weights: Floats, launch_week: Integers, weeks: int) -> Floats:
    rows = []
    for week in range(weeks):
        demand = weights * np.exp(rng.normal(0, 0.6, len(weights))) * (launch_week <= week)
        rows.append(week + np.cumsum(demand) / demand.sum())
    return np.concatenate(rows)


def _vectors(rng: np.random.Generator, style: Integers, styles: int) -> Floats:
    centres = rng.normal(size=(styles, VECTOR))
    vectors = centres[style] + 0.6 * rng.normal(size=(len(style), VECTOR))
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / norms * rng.uniform(0.57, 0.67, (len(style), 1)))


def _names(rng: np.random.Generator, category: Integers, style: Integers) -> list[str]:
    """Generate names. Products of a style share noun and material, so that people can read a shopper's path."""
    nouns = [noun for department in _NOUNS.values() for noun in department]
    variants = list(combinations(_COLOURS, _CUTS))
    names, counts, leaves = [], dict[str, int](), int(category.max()) + 1
    for leaf, group in zip(category.tolist(), style.tolist(), strict=True):
        colour, cut = variants[rng.integers(len(variants))]
        name = f"{_MATERIALS[group % len(_MATERIALS)]} {cut} {nouns[leaf * len(nouns) // leaves]}, {colour}"
        counts[name] = counts.get(name, 0) + 1
        names.append(name if counts[name] == 1 else f"{name} (no. {counts[name]})")
    return names


def _category_hashes(seed: int, leaves: int) -> list[str]:
    """Generate paths of one to three levels, below nine top categories."""
    paths = []
    for leaf in range(leaves):
        top = leaf * len(_NOUNS) // leaves
        is_top = not leaf or top > (leaf - 1) * len(_NOUNS) // leaves
        levels = [f"top {top}", f"middle {leaf // 2}", f"leaf {leaf}"][: 1 if is_top else 2 + leaf % 2]
        paths.append("/".join(_hash(f"{seed} category {level}") for level in levels))
    return paths


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
