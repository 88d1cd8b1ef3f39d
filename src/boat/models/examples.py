"""Training examples from a snapshot, as arrays: sessions laid end to end, and windows that look back from an event."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from boat.models.pages import named
from boat.models.sessions import PADDING
from boat.snapshot import Split

Part = Literal["train", "validation", "fit", "test"]
"""`fit` is train and validation together: all that may be known before the test days."""

_PAGE = "url_before"  # of marts.recommend_examples

CUTS = (1, 2, 4, 6, 8, 10)


@dataclass(frozen=True)
class Sessions:
    """Sessions laid end to end, oldest first.

    Attributes:
        events: One row an event, columns as in the snapshot's file.
        offsets: int64 [sessions + 1]; session `i` has the rows from `offsets[i]` up to `offsets[i + 1]`.
    """

    events: pa.Table
    offsets: np.ndarray

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> np.ndarray:
        """Events of each session, int64 [sessions]."""
        return np.diff(self.offsets)

    @property
    def seconds(self) -> np.ndarray:
        """Time of each event since 1970, float64 [events]."""
        return _numpy(self.events["event_time"]).astype("datetime64[us]").astype(np.int64) / 1e6

    def strings(self, column: str) -> np.ndarray:
        """A text column, object [events], empty where there is no value."""
        return _numpy(pc.fill_null(self.events[column], ""))


class Windows(NamedTuple):
    """What a next-item model sees before each target.

    Attributes:
        recent: int32 [targets, length], codes of the known products before the target, newest first; 0 where none.
        target: int32 [targets], code of the product that came; 0 for one that is not known.
        page: object [targets], name of the page the shopper was on before it, empty where nobody knows; None where
            nobody asks.
    """

    recent: np.ndarray
    target: np.ndarray
    page: np.ndarray | None = None

    def at(self, rows: slice | np.ndarray) -> "Windows":
        """Some of them."""
        return Windows(self.recent[rows], self.target[rows], None if self.page is None else self.page[rows])


def read(path: Path, split: Split, part: Part) -> Sessions:
    """The sessions of one part of a snapshot's file.

    A session belongs to the part in which it starts; what it does after the part's end is left out.

    Args:
        path: `recommend.parquet` or `intent.parquet` of a snapshot.
        split: The snapshot's cuts.
        part: Which side of the cuts.
    """
    events = pq.read_table(path)
    start: datetime | None = {"validation": split.validation_from, "test": split.test_from}.get(part)
    end: datetime | None = {"train": split.validation_from, "validation": split.test_from, "fit": split.test_from}.get(
        part
    )
    if start:
        events = events.filter(pc.field("started_at") >= pa.scalar(start))
    if end:
        events = events.filter((pc.field("started_at") < pa.scalar(end)) & (pc.field("event_time") < pa.scalar(end)))
    keys = _numpy(events["session_key"].combine_chunks().dictionary_encode().indices) if len(events) else np.empty(0)
    begins = np.flatnonzero(np.diff(keys, prepend=-1))
    return Sessions(events, np.append(begins, len(events)).astype(np.int64))


def vocabulary(products: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The distinct products, most frequent first (then by name).

    Args:
        products: object [events], a product id each.

    Returns:
        Product ids, object [products], and how often each occurs, int64 [products].
    """
    names, counts = np.unique(products.astype(str), return_counts=True)
    order = np.argsort(-counts, kind="stable")
    return names[order].astype(object), counts[order]


def encode(products: np.ndarray, names: np.ndarray) -> np.ndarray:
    """Codes of products, int32 [events]: 1 for the first of `names`, 0 for one that is not among them."""
    found = pc.index_in(pa.array(products, pa.string()), pa.array(names, pa.string()))
    codes: np.ndarray = pc.fill_null(found, -1).to_numpy(zero_copy_only=False).astype(np.int32) + 1
    return codes


def windows(codes: np.ndarray, offsets: np.ndarray, length: int) -> Windows:
    """A window for every event of a session but its first; unknown products (code 0) are skipped in it.

    Args:
        codes: int32 [events].
        offsets: int64 [sessions + 1].
        length: Width of the windows.
    """
    known = np.append(np.int64(0), np.cumsum(codes > 0))
    compact = codes[codes > 0]
    session = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    targets = _targets(offsets)
    index: np.ndarray = np.subtract.outer(known[targets], np.arange(1, length + 1))
    inside = index >= known[offsets[session[targets]]][:, None]
    recent = np.where(inside, compact[np.where(inside, index, 0)] if len(compact) else 0, 0)
    return Windows(recent.astype(np.int32), codes[targets])


def pages(part: Sessions) -> np.ndarray:
    """The page the shopper was on before each item, as `boat.models.pages` names it, object [events]; empty where
    nobody knows."""
    if _PAGE not in part.events.column_names:
        return np.full(len(part.events), "", object)
    urls = pc.fill_null(part.events[_PAGE], "").combine_chunks().dictionary_encode()  # to name each of them once
    found: np.ndarray = _numpy(named(urls.dictionary))[urls.indices.to_numpy()]
    return found


def shared_pages(part: Sessions, most: int) -> np.ndarray:
    """The `most` pages at most that more than one session was on before an item, object [pages], most sessions first.

    What a single shopper's URLs hold stays out of a model.
    """
    session = np.repeat(np.arange(len(part)), part.lengths)
    table = pa.table({"page": pa.array(pages(part), pa.string()), "session": session})
    seen = table.group_by("page").aggregate([("session", "count_distinct")])
    shared = seen.filter((pc.field("page") != "") & (pc.field("session_count_distinct") > 1))
    return _numpy(shared.sort_by([("session_count_distinct", "descending"), ("page", "ascending")])["page"])[:most]


def pages_before_targets(part: Sessions) -> np.ndarray:
    """The same for the targets of `windows`, object [targets]."""
    found: np.ndarray = pages(part)[_targets(part.offsets)]
    return found


def _targets(offsets: np.ndarray) -> np.ndarray:
    first = np.repeat(offsets[:-1], np.diff(offsets))
    targets: np.ndarray = np.flatnonzero(np.arange(len(first)) > first)
    return targets


def cuts(lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where sessions are cut to ask for their intent: at their end, and where they are longer, after `CUTS` events.

    Args:
        lengths: int64 [sessions].

    Returns:
        For each cut, the session's number and how many events it shows; int64 [cuts] each.
    """
    shown = np.column_stack([np.broadcast_to(CUTS, (len(lengths), len(CUTS))), lengths])
    there = shown < lengths[:, None]
    there[:, -1] = lengths > 0
    session, column = np.nonzero(there)
    return session, shown[session, column]


def columns(part: Sessions, session: np.ndarray, shown: np.ndarray, longest: int) -> dict[str, np.ndarray]:
    """Starts of sessions as an exported model takes them: its inputs, padded at the end.

    Where the next event of the session tells the page before it, the shopper opens that page last.

    Args:
        part: The sessions.
        session: int64 [cuts], numbers of sessions.
        shown: int64 [cuts], how many events of each are shown.
        longest: Of those, only the last so many are passed.

    Returns:
        An array [cuts, longest] for each of `boat.models.sessions.INPUTS`; one column more where there are pages.
    """
    kept = np.minimum(shown, longest)
    row = (part.offsets[session] + shown - kept)[:, None] + np.arange(longest)
    there = np.arange(longest) < kept[:, None]
    shown_events = part.events.take(pa.array(row[there]))
    taken = Sessions(shown_events, np.array([0, len(shown_events)]))
    filled: dict[str, np.ndarray] = {}
    for name, empty in PADDING.items():
        filled[name] = np.full(there.shape, empty, dtype=object if empty == "" else np.float64)
        if name == "event_time":
            filled[name][there] = taken.seconds
        elif name in shown_events.column_names:
            filled[name][there] = taken.strings(name)
    return _with_page(part, session, shown, filled)


def _with_page(
    part: Sessions, session: np.ndarray, shown: np.ndarray, filled: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    asked = part.offsets[session] + shown
    goes_on = np.flatnonzero(asked < part.offsets[session + 1])
    page = np.full(len(session), "", object)
    if _PAGE in part.events.column_names:
        page[goes_on] = _numpy(pc.fill_null(part.events[_PAGE].take(pa.array(asked[goes_on])), ""))
    there = np.flatnonzero(page != "")
    if not len(there):
        return filled
    wider = {name: np.pad(values, [(0, 0), (0, 1)], constant_values=PADDING[name]) for name, values in filled.items()}
    place = np.minimum(shown, filled["event_type"].shape[1])[there]
    wider["event_type"][there, place] = "pageview"
    wider["url"][there, place] = page[there]
    wider["event_time"][there, place] = filled["event_time"].max(axis=1)[there]
    return wider


def _numpy(column: pa.ChunkedArray | pa.Array) -> np.ndarray:
    values: np.ndarray = column.to_numpy(zero_copy_only=False) if isinstance(column, pa.Array) else column.to_numpy()
    return values
