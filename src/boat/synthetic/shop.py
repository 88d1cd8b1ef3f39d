"""Write the files of a synthetic shop in chunks of sessions."""

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import IO, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv as pacsv

from boat.errors import SettingError
from boat.synthetic import catalogue
from boat.synthetic.catalogue import VECTOR, Floats, Integers, ShopCatalogue
from boat.synthetic.sessions import PAGEVIEW, Events, Views, simulate

Drift = Literal["collapse", "lost-pageviews", "new-product-ids"]
DRIFTS: dict[Drift, str] = {
    "collapse": "only a tenth of the sessions come",
    "lost-pageviews": "page views are no longer sent",
    "new-product-ids": "every product has another id",
}
"""Faults of the last day, with an explanation."""

CHUNK = 10_000
_ACTIONS = np.array(["", "detail", "add", "remove", "purchase"])
_NEIGHBOURS = 40
_DUPLICATES = 5e-5  # share of rows that are exact copies, as in the real files
_HEADERS = {
    "browsing_train.csv": (
        "session_id_hash,event_type,product_action,product_sku_hash,server_timestamp_epoch_ms,hashed_url"
    ),
    "search_train.csv": "session_id_hash,query_vector,clicked_skus_hash,product_skus_hash,server_timestamp_epoch_ms",
    "sku_to_content.csv": "product_sku_hash,description_vector,category_hash,image_vector,price_bucket",
    "product_names.csv": "product_sku_hash,product_name",
}


@dataclass(frozen=True)
class Shop:
    """Counts of a written shop: rows of the browsing file and the search file, sessions, products."""

    folder: Path
    sessions: int
    events: int
    searches: int
    products: int


def generate(
    folder: Path,
    sessions: int,
    days: int,
    seed: int,
    products: int = 2_000,
    end: date | None = None,
    drift: Drift | None = None,
) -> Shop:
    """Write a shop's files: `browsing_train.csv`, `search_train.csv`, `sku_to_content.csv`, `product_names.csv`.

    The same arguments give the same bytes. The memory does not grow with the number of sessions. A file gets its final
    name once it is complete.

    Args:
        folder: Output folder, created if missing. Files of these names are replaced.
        sessions: Number of sessions, of about 7.4 events each.
        days: Number of days.
        seed: A whole number from 0.
        products: Number of products, at least 50.
        end: Last day. None: yesterday in UTC.
        drift: Fault of the last day, one of `DRIFTS`. None: no fault.

    Raises:
        SettingError: A number is too small, or the drift is unknown.
    """
    if drift and drift not in DRIFTS:
        raise SettingError(f"The drift {drift!r} is unknown.", f"Use one of: {', '.join(DRIFTS)}.")
    for name, value, least in (
        ("sessions", sessions, 1),
        ("days", days, 1),
        ("products", products, 50),
        ("seed", seed, 0),
    ):
        if value < least:
            raise SettingError(f"A shop with {name}={value} cannot be generated.", f"Set {name} to {least} or more.")
    last = end or datetime.now(UTC).date() - timedelta(days=1)
    first = datetime.combine(last - timedelta(days=days - 1), datetime.min.time(), UTC)
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    generations = 2 if drift == "new-product-ids" else 1
    shop = catalogue.make(rng, seed, products, math.ceil(days / 7), generations)
    traffic = _traffic(rng, days, drift)
    events = searches = 0
    with ExitStack() as stack:
        browsing, searching, content, names = (stack.enter_context(_file(folder, name)) for name in _HEADERS)
        _write_catalogue(rng, shop, content, names)
        for chunk in range(math.ceil(sessions / CHUNK)):
            size = min(CHUNK, sessions - chunk * CHUNK)
            chunk_rng = np.random.default_rng([seed, chunk])
            day = chunk_rng.choice(days, size, p=traffic)
            simulated, views = simulate(chunk_rng, shop, day, int(first.timestamp() * 1000))
            ids, last_day = _session_ids(chunk_rng, size), day == days - 1
            if drift == "lost-pageviews":
                simulated = _without_pageviews(simulated, last_day)
            # Generation of the product ids in each session.
            generation = last_day.astype(np.int64) * (generations - 1)
            events += _write_browsing(chunk_rng, shop, simulated, ids, generation, browsing)
            searches += _write_searches(chunk_rng, shop, views, ids, generation, searching)
    return Shop(folder, sessions, events, searches, products)


@contextmanager
def _file(folder: Path, name: str) -> Iterator[IO[bytes]]:
    """Open a file that replaces the file of this name once it is complete."""
    unfinished = folder / f"{name}.tmp"
    try:
        with unfinished.open("wb") as stream:
            stream.write(f"{_HEADERS[name]}\n".encode())
            yield stream
        unfinished.replace(folder / name)
    finally:
        unfinished.unlink(missing_ok=True)


def _traffic(rng: np.random.Generator, days: int, drift: Drift | None) -> Floats:
    """Return the share of sessions per day. It falls to a third in three months. Long periods have a two-day outage."""
    share = np.exp(-np.arange(days) * 1.09 / 90) * rng.uniform(0.9, 1.1, days)
    if days >= 60:
        share[days // 2 : days // 2 + 2] = 0
    if drift == "collapse":
        share[-1] *= 0.1
    return np.asarray(share / share.sum())


def _session_ids(rng: np.random.Generator, size: int) -> pa.Array:
    digits = rng.bytes(32 * size).hex()
    return pa.array([digits[start : start + 64] for start in range(0, len(digits), 64)])


def _without_pageviews(events: Events, sessions: npt.NDArray[np.bool_]) -> Events:
    """Return the events without the page views of the sessions in the mask."""
    mask = (events.action != PAGEVIEW) | ~sessions[events.session]
    return Events(*(getattr(events, name)[mask] for name in Events.__dataclass_fields__))


def _write_browsing(
    rng: np.random.Generator,
    shop: ShopCatalogue,
    events: Events,
    ids: pa.Array,
    generation: Integers,
    stream: IO[bytes],
) -> int:
    rows = len(events.session)
    # Sorted by session, but not by time.
    order = np.argsort(events.session * 8 + rng.uniform(0, 12, rows), kind="stable")
    order = np.concatenate([order, order[rng.random(rows) < _DUPLICATES]])
    session, action, product, page = (
        field[order] for field in (events.session, events.action, events.product, events.page)
    )
    sku = generation[session] * len(shop) + product
    skus = pa.array(shop.skus.ravel()).take(pa.array(sku, mask=product < 0))
    table = pa.table(
        {
            "session": ids.take(pa.array(session)),
            "type": np.where(action == PAGEVIEW, "pageview", "event_product"),
            "action": pa.array(_ACTIONS[action], mask=action == PAGEVIEW),
            "sku": skus,
            "time": events.time[order],
            "url": pa.array(shop.pages).take(pa.array(page)),
        }
    )
    pacsv.write_csv(table, stream, pacsv.WriteOptions(include_header=False, quoting_style="none"))
    return len(order)


def _write_searches(
    rng: np.random.Generator, shop: ShopCatalogue, views: Views, ids: pa.Array, generation: Integers, stream: IO[bytes]
) -> int:
    """Write a search before some product views. Its query is similar to that product, which is often clicked."""
    searches = rng.random(len(ids)) < 0.11 / 0.66  # of the sessions with a product view
    times = np.where(searches, rng.geometric(0.41, len(ids)), 0)
    picked = np.flatnonzero(views.position < times[views.session])
    lines = []
    for view in picked.tolist():
        product, time = int(views.product[view]), int(views.time[view]) - int(rng.integers(2_000, 15_000))
        query = shop.vectors[product] * rng.uniform(0.5, 1.25) + rng.normal(0, 0.02, VECTOR)
        session = int(views.session[view])
        results, clicked = _results(rng, shop, product, int(generation[session]))
        lines.append(f'{ids[session].as_py()},"{_vector(query)}",{clicked},{results},{time}\n')
    stream.write("".join(lines).encode())
    return len(lines)


def _results(rng: np.random.Generator, shop: ShopCatalogue, product: int, generation: int) -> tuple[str, str]:
    """Return the cells of results and clicks. A quarter has no results, and a third of the rest has a click."""
    if rng.random() > 0.735:
        return "", ""
    # The results are products of its style and of neighbouring styles.
    first = min(max(product - _NEIGHBOURS // 2, 0), len(shop) - _NEIGHBOURS)
    neighbours = first + rng.permutation(_NEIGHBOURS)
    results = [product, *neighbours[neighbours != product][: rng.integers(2, 25)].tolist()]
    rng.shuffle(results)
    skus = shop.skus[generation]
    cell = ", ".join(f"'{skus[index]}'" for index in results)
    clicked = f"\"['{skus[product]}']\"" if rng.random() < 0.298 else ""
    return f'"[{cell}]"', clicked


def _write_catalogue(rng: np.random.Generator, shop: ShopCatalogue, content: IO[bytes], names: IO[bytes]) -> None:
    """Write all names, and content for half of the products, most of them with a picture, as in the real shop."""
    described = rng.random(len(shop)) < 0.48
    pictured = described & (rng.random(len(shop)) < 0.9)
    buckets = rng.integers(1, 11, len(shop))
    for row, sku in enumerate(shop.skus.ravel().tolist()):
        index = row % len(shop)
        names.write(f'{sku},"{shop.names[index]}"\n'.encode())
        if not described[index]:
            content.write(f"{sku},,,,\n".encode())
            continue
        image = shop.vectors[index] / np.linalg.norm(shop.vectors[index]) * rng.uniform(308, 570)
        picture = f'"{_vector(image)}"' if pictured[index] else ""
        category = shop.category_hashes[shop.category[index]]
        content.write(f'{sku},"{_vector(shop.vectors[index])}",{category},{picture},{buckets[index]:.1f}\n'.encode())


def _vector(values: Floats) -> str:
    return str(np.round(values, 4).tolist())
