"""The events of a synthetic shop's shoppers, simulated in arrays of some thousand sessions."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from boat.synthetic.catalogue import Floats, Integers, ShopCatalogue

PAGEVIEW, DETAIL, ADD, REMOVE, PURCHASE = range(5)

# Events of a session: the real shop's quantiles.
_LENGTH_AT = np.array([0.0, 0.1879, 0.188, 0.36, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 1.0])
_LENGTHS = np.array([1.0, 1.0, 1.51, 2.5, 3.0, 7.5, 16.0, 25.5, 58.0, 105.0, 200.0])
_WITH_PRODUCT = 0.815  # of the sessions that have two events or more
_FURTHER_PRODUCTS = 0.62  # of the pairs of events after the first product
_AGAIN, _LINKED, _ALIKE = 0.125, 0.58, 0.15  # next step of a walk; otherwise a popular product
_BUY_LOGITS = np.array([-4.0, -2.7, -1.4])  # of buying the cart, by the pages opened after the add: 0, 1, 2 or more
_HALF_HOUR_MS = 30 * 60 * 1000
_DAY_MS = 24 * 60 * 60 * 1000


@dataclass(frozen=True)
class Views:
    """Product views, ordered by session and time. All of shape [views].

    Attributes:
        session: Index of the session in the chunk.
        position: Number of earlier views of the session.
        left: Pages that the session opens after the view.
        product: Index in the catalogue.
        time: Milliseconds since 1970.
    """

    session: Integers
    position: Integers
    left: Integers
    product: Integers
    time: Integers


@dataclass(frozen=True)
class Events:
    """Rows of the browsing file, in no particular order. All of shape [events].

    Attributes:
        session: Index of the session in the chunk.
        action: PAGEVIEW, DETAIL, ADD, REMOVE or PURCHASE.
        product: Index in the catalogue, -1 for a page view.
        page: Index in the catalogue's pages.
        time: Milliseconds since 1970.
    """

    session: Integers
    action: Integers
    product: Integers
    page: Integers
    time: Integers


def simulate(rng: np.random.Generator, shop: ShopCatalogue, day: Integers, first_day_ms: int) -> tuple[Events, Views]:
    """Simulate sessions. `day` is the day on which each of them begins, from 0. Shape [sessions]."""
    sessions = len(day)
    length = np.rint(np.exp(np.interp(rng.random(sessions), _LENGTH_AT, np.log(_LENGTHS)))).astype(np.int64)
    with_product = (length > 1) & (rng.random(sessions) < _WITH_PRODUCT)
    viewed = np.where(with_product, 1 + rng.binomial(np.maximum(length - 2, 0) // 2, _FURTHER_PRODUCTS), 0)
    steps = length - viewed  # a product view is a page view and a detail
    owner = np.repeat(np.arange(sessions), steps)
    time = first_day_ms + day[owner] * _DAY_MS + _clock(rng, owner, steps)
    is_view = _choose(rng, owner, steps, viewed)
    product = _walk(rng, shop, viewed, day // 7)
    left = steps[owner] - 1 - _positions(steps)
    views = Views(owner[is_view], _positions(viewed), left[is_view], product, time[is_view])
    pages = np.where(is_view, 0, _other_pages(rng, shop, is_view, viewed, owner, product))
    pages[is_view] = product
    browsing = Events(owner, np.full(len(owner), PAGEVIEW), np.full(len(owner), -1), pages, time)
    details = Events(views.session, np.full(len(product), DETAIL), product, product, views.time)
    return _together([browsing, details, *_carts(rng, views, viewed)]), views


def _clock(rng: np.random.Generator, owner: Integers, steps: Integers) -> Integers:
    """Return the time of each step in milliseconds from midnight UTC. The American evening is the busiest time."""
    opens = np.mod(rng.normal(20, 5, len(steps)), 24) / 24 * _DAY_MS
    gaps = np.exp(rng.normal(np.log(13_500), 1.58, len(owner)))
    breaks = rng.random(len(owner)) < 0.0002
    gaps[breaks] += _HALF_HOUR_MS * rng.uniform(1, 4, int(breaks.sum()))
    elapsed = np.cumsum(gaps)
    starts = np.cumsum(steps) - steps
    return np.asarray(opens[owner] + elapsed - elapsed[starts][owner]).astype(np.int64)


def _choose(rng: np.random.Generator, owner: Integers, steps: Integers, chosen: Integers) -> npt.NDArray[np.bool_]:
    """Choose the given number of steps of each session at random. Return a mask of shape [all steps]."""
    order = np.lexsort((rng.random(len(owner)), owner))
    mask = np.zeros(len(owner), bool)
    mask[order] = _positions(steps) < chosen[owner]
    return mask


def _positions(counts: Integers) -> Integers:
    """Return 0, 1, … for each session, concatenated."""
    return np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)


def _walk(rng: np.random.Generator, shop: ShopCatalogue, viewed: Integers, week: Integers) -> Integers:
    """Return the products of each session, concatenated. Shape [sum of viewed]."""
    start = np.cumsum(viewed) - viewed
    walk = np.zeros(int(viewed.sum()), np.int64)
    active = np.flatnonzero(viewed > 0)
    here = shop.popular(rng, week[active])
    walk[start[active]] = here
    for step in range(1, int(viewed.max(initial=0))):
        going = viewed[active] > step
        active, here = active[going], here[going]
        here = _next(rng, shop, here, week[active])
        walk[start[active] + step] = here
    return walk


def _next(rng: np.random.Generator, shop: ShopCatalogue, here: Integers, week: Integers) -> Integers:
    die = rng.random(len(here))
    link = np.searchsorted(shop.link_cdf, rng.random(len(here)) * shop.link_cdf[-1], side="right")
    linked = shop.links[here, np.minimum(link, shop.links.shape[1] - 1)]
    popular = shop.popular(rng, week)
    following = np.where(die < _AGAIN + _LINKED + _ALIKE, shop.alike(rng, here, 0), popular)
    following = np.where(die < _AGAIN + _LINKED, linked, following)
    is_unsuitable = (shop.launch_week[following] > week) | (following == here)  # not on sale yet, or just viewed
    following = np.where(is_unsuitable, popular, following)
    return np.where(die < _AGAIN, here, following)


def _other_pages(
    rng: np.random.Generator,
    shop: ShopCatalogue,
    is_view: npt.NDArray[np.bool_],
    viewed: Integers,
    owner: Integers,
    product: Integers,
) -> Integers:
    """Return a page for each step without a product. Half of them show the category of the next product."""
    products, categories = len(shop), len(shop.category_hashes)
    other_pages = len(shop.pages) - products - categories
    anywhere = products + categories + np.minimum(rng.zipf(1.5, len(owner)) - 1, other_pages - 1)
    if not len(product):
        return anywhere
    last = (np.cumsum(viewed) - 1)[owner]
    upcoming = product[np.clip(np.minimum(np.cumsum(is_view), last), 0, None)]
    on_the_way = (viewed[owner] > 0) & (rng.random(len(owner)) < 0.5)
    return np.where(on_the_way, products + shop.category[upcoming], anywhere)


def _carts(rng: np.random.Generator, views: Views, viewed: Integers) -> list[Events]:
    """Return adds, removes and purchases. They are likelier after many or repeated views, and with hidden interest."""
    repeats = _repeats(views, len(viewed))
    interest = rng.normal(0, 1, len(viewed))
    depth = np.log1p(viewed)
    adding = (viewed > 0) & _chance(rng, -4.47 + 0.95 * depth + 0.35 * np.minimum(repeats, 4) + 0.8 * interest)
    added = np.where(adding, np.minimum(1 + rng.poisson(0.5, len(viewed)), viewed), 0)
    chosen = _choose(rng, views.session, viewed, added)
    adds = _after(rng, views, chosen, ADD, 4_000)
    # Shoppers who continue after the add buy more often.
    left = np.zeros(len(viewed), np.int64)
    np.maximum.at(left, views.session[chosen], views.left[chosen])
    removing = adding & _chance(rng, -0.85 - 0.3 * interest)
    logit = _BUY_LOGITS[np.minimum(left, 2)] + 0.2 * (added - 1) + 0.1 * np.minimum(repeats, 4) + 0.8 * interest
    buying = adding & _chance(rng, logit - 0.8 * removing)
    bought = chosen & buying[views.session]
    end = np.zeros(len(viewed), np.int64)
    np.maximum.at(end, views.session, views.time)
    purchases = _after(rng, views, bought, PURCHASE, 60_000, end)
    removed = np.flatnonzero(chosen & removing[views.session])
    removes = [_after(rng, views, again, REMOVE, 20_000) for again in _again(rng, removed, len(views.session))]
    return [adds, *removes, purchases]


def _repeats(views: Views, sessions: int) -> Integers:
    """Return the number of repeated product views of each session. Shape [sessions]."""
    pairs = np.unique(np.stack([views.session, views.product]), axis=1)
    return np.bincount(views.session, minlength=sessions) - np.bincount(pairs[0], minlength=sessions)


def _chance(rng: np.random.Generator, logit: Floats) -> npt.NDArray[np.bool_]:
    return rng.random(len(logit)) < 1 / (1 + np.exp(-logit))


def _again(rng: np.random.Generator, views: Integers, size: int) -> list[npt.NDArray[np.bool_]]:
    """Return a mask of views for each remove event. As in the real shop, a removal sends several events."""
    times = rng.geometric(0.27, len(views))
    masks = []
    for turn in range(int(times.max(initial=0))):
        mask = np.zeros(size, bool)
        mask[views[times > turn]] = True
        masks.append(mask)
    return masks


def _after(
    rng: np.random.Generator,
    views: Views,
    mask: npt.NDArray[np.bool_],
    action: int,
    delay_ms: int,
    end: Integers | None = None,
) -> Events:
    """Return an event for each chosen view, some time after it, or after the session's `end`."""
    session, product = views.session[mask], views.product[mask]
    since = views.time[mask] if end is None else end[session]
    time = since + 1_000 + rng.exponential(delay_ms, len(session)).astype(np.int64)
    return Events(session, np.full(len(session), action), product, product, time)


def _together(parts: list[Events]) -> Events:
    return Events(*(np.concatenate([getattr(part, name) for part in parts]) for name in Events.__dataclass_fields__))
