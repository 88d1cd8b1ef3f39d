"""Training examples of a snapshot as arrays: concatenated sessions, and windows of products before an event."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from boat.models.fitted import Learned
from boat.models.pages import named
from boat.models.sessions import PADDING
from boat.snapshot import Split, first_rows

Part = Literal["train", "validation", "fit", "test", "all"]
"""`fit` is train and validation together: all sessions before the test days. `all` has the newest events too."""

_PAGE = "url_before"  # column of marts.recommend_examples

CUTS = (1, 2, 4, 6, 8, 10)


@dataclass(frozen=True)
class Sessions:
    """Concatenated sessions, oldest first.

    Attributes:
        events: One row per event, with the columns of the snapshot's file that describe it. Each text is stored once.
        offsets: int64 [sessions + 1]; session `i` has the rows from `offsets[i]` up to `offsets[i + 1]`.
    """

    events: pa.Table
    offsets: np.ndarray

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> np.ndarray:
        """Return the number of events of each session, int64 [sessions]."""
        return np.diff(self.offsets)

    @property
    def seconds(self) -> np.ndarray:
        """Return the time of each event since 1970, float64 [events]."""
        return _numpy(self.events["event_time"]).astype("datetime64[us]").astype(np.int64) / 1e6

    @property
    def learned(self) -> Learned:
        """Return the newest event and the number of events. There must be events."""
        return Learned(pc.max(self.events["event_time"]).as_py().replace(tzinfo=None), len(self.events))

    def strings(self, column: str) -> np.ndarray:
        """Return a text column, object [events]; missing values are empty. For many events, `distinct` is smaller."""
        return _strings(self.events[column])

    def distinct(self, column: str) -> tuple[np.ndarray, np.ndarray]:
        """Return the texts of a column, object [texts], and the number of each event's text, int32 [events].

        The texts are sorted and distinct. Text 0 is the empty one: a missing value. There can be texts without events.
        """
        column_of_texts = self.events[column]
        if not pa.types.is_dictionary(column_of_texts.type):
            column_of_texts = column_of_texts.dictionary_encode()
        chunks = column_of_texts.unify_dictionaries().chunks
        if not chunks:
            return np.array([""], object), np.empty(0, np.int32)
        texts = pc.fill_null(chunks[0].dictionary, "")
        order = _numpy(pc.sort_indices(texts))
        rank = np.empty(len(texts) + 1, np.int32)
        distinct = _strings(pa.chunked_array([texts.take(pa.array(order))]))
        if not len(distinct) or distinct[0] != "":
            distinct = np.append(np.array([""], object), distinct)
        rank[order] = np.arange(len(distinct) - len(order), len(distinct))
        rank[-1] = 0  # a missing value
        numbers: np.ndarray = rank[np.concatenate([_numpy(pc.fill_null(chunk.indices, -1)) for chunk in chunks])]
        return distinct, numbers

    def equal(self, column: str, text: str) -> np.ndarray:
        """Return whether a text column has this text, bool [events]."""
        texts, numbers = self.distinct(column)
        equal: np.ndarray = (texts == text)[numbers]
        return equal

    def vocabulary(self, column: str) -> tuple[np.ndarray, np.ndarray]:
        """Return the texts of a column, most frequent first, then by text.

        Returns:
            The texts, object [texts], and their frequencies, int64 [texts].
        """
        texts, numbers = self.distinct(column)
        counts = np.bincount(numbers, minlength=len(texts))
        order = np.argsort(-counts, kind="stable")[: np.count_nonzero(counts)]
        return texts[order], counts[order]

    def codes(self, column: str, names: np.ndarray) -> np.ndarray:
        """Return the codes of a text column, int32 [events]: 1 for the first of `names`, 0 for an unknown text."""
        texts, numbers = self.distinct(column)
        codes: np.ndarray = encode(texts, names)[numbers]
        return codes

    @cached_property
    def pages(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the pages before the items.

        Returns:
            Their names, as `boat.models.pages` makes them, object [pages]; page 0 is the unknown one, with an empty
            name. And the number of the page before each item, int32 [events].
        """
        if _PAGE not in self.events.column_names:
            return np.array([""], object), np.zeros(len(self.events), np.int32)
        urls, numbers = self.distinct(_PAGE)
        named_urls = pa.table({"page": named(pa.array(urls, pa.string()))})
        names, of_url = Sessions(named_urls, np.array([0])).distinct("page")
        return names, of_url[numbers]

    @cached_property
    def shared_pages(self) -> np.ndarray:
        """Return the pages of more than one session, object [pages], most sessions first.

        URLs of a single shopper are not part of a model.
        """
        names, numbers = self.pages
        session = np.repeat(np.arange(len(self), dtype=np.int64), self.lengths)
        page = np.unique(session * len(names) + numbers) % len(names)
        sessions_of = np.bincount(page, minlength=len(names))
        sessions_of[0] = 0
        order = np.argsort(-sessions_of, kind="stable")[: np.count_nonzero(sessions_of > 1)]
        shared: np.ndarray = names[order]
        return shared


class Windows(NamedTuple):
    """Inputs of a recommendation model before each target.

    Attributes:
        recent: int32 [targets, length], codes of known products before the target, newest first; 0 pads.
        target: int32 [targets], code of the target; 0 if it is unknown.
        page: object [targets], name of the page before the target, empty if unknown; `None` if it is not used.
    """

    recent: np.ndarray
    target: np.ndarray
    page: np.ndarray | None = None

    def at(self, rows: slice | np.ndarray) -> "Windows":
        """Return the windows of some rows."""
        return Windows(self.recent[rows], self.target[rows], None if self.page is None else self.page[rows])


class Examples:
    """The targets of sessions, each event but the first, with the known products before it.

    Windows are looked up when they are needed: the windows of all targets would take many times the memory of the
    events. Unknown products (code 0) are skipped in windows, but they stay targets.

    Args:
        codes: Products of the events, int32 [events].
        offsets: int64 [sessions + 1].
        pages: Names of pages, object [pages], and the number of the page before each event, int32 [events]; `None` if
            pages are not used.

    Attributes:
        target: Code of each target, int32 [targets].
    """

    def __init__(
        self, codes: np.ndarray, offsets: np.ndarray, pages: tuple[np.ndarray, np.ndarray] | None = None
    ) -> None:
        self._event = _targets(offsets)
        self._pages = pages
        self._known = codes[codes > 0]
        known_before = np.append(np.int64(0), np.cumsum(codes > 0))
        self._end = known_before[self._event]
        self._begin = known_before[np.repeat(offsets[:-1], np.maximum(np.diff(offsets) - 1, 0))]
        self.target = codes[self._event]

    def __len__(self) -> int:
        return len(self.target)

    def before(self, steps: int) -> np.ndarray:
        """Return the product that is `steps` before each target, int32 [targets]; 0 if there is none."""
        return self._products(self._end - steps, self._begin)

    def at(self, rows: slice | np.ndarray, length: int) -> Windows:
        """Return the windows of some targets, with the last `length` products."""
        index = np.subtract.outer(self._end[rows], np.arange(1, length + 1))
        page = None
        if self._pages is not None:
            names, numbers = self._pages
            page = names[numbers[self._event[rows]]]
        return Windows(self._products(index, self._begin[rows][:, None]), self.target[rows], page)

    def _products(self, index: np.ndarray, begin: np.ndarray) -> np.ndarray:
        products = np.zeros(index.shape, np.int32)
        inside = index >= begin
        products[inside] = self._known[index[inside]]
        return products


def read(path: Path, split: Split, part: Part) -> Sessions:
    """Read the sessions of one part of a snapshot's file; see `read_parts`."""
    (sessions,) = read_parts(path, split, [part])
    return sessions


def read_parts(path: Path, split: Split, parts: Sequence[Part]) -> Iterator[Sessions]:
    """Read the sessions of some parts of a snapshot's file, and yield one part after the other.

    A session belongs to the part in which it starts. Its events after the end of the part are left out.

    Args:
        path: `recommend.parquet` or `intent.parquet` of a snapshot.
        split: The snapshot's cuts.
        parts: The parts to read.
    """
    columns = [name for name in pq.read_schema(path).names if name not in ("session_key", "position")]
    events = pq.read_table(path, columns=columns, read_dictionary=_texts(path))
    first = first_rows(path)
    session = np.repeat(np.arange(len(first), dtype=np.int32), np.diff(first, append=len(events)))
    for part in parts:
        yield _part(events, session, split, part)


def _part(events: pa.Table, session: np.ndarray, split: Split, part: Part) -> Sessions:
    start: datetime | None = {"validation": split.validation_from, "test": split.test_from}.get(part)
    end: datetime | None = {"train": split.validation_from, "validation": split.test_from, "fit": split.test_from}.get(
        part
    )
    if part == "all":
        return Sessions(events, np.append(np.flatnonzero(np.diff(session, prepend=-1)), len(events)).astype(np.int64))
    # Sessions are in the order of their starts, and only sessions near the end of the part have later events. All other
    # rows are a slice of the table, without a copy.
    starts = _numpy(events["started_at"])
    begin = int(np.searchsorted(starts, np.datetime64(start))) if start else 0
    stop = int(np.searchsorted(starts, np.datetime64(end))) if end else len(events)
    events, session = events.slice(begin, stop - begin), session[begin:stop]
    last = pa.scalar(split.test_until if part == "test" else end, events["event_time"].type)
    inside = _numpy((pc.less_equal if part == "test" else pc.less)(events["event_time"], last)).astype(bool)
    head = len(inside) if inside.all() else int(inside.argmin())
    tail = events.slice(head).filter(pa.array(inside[head:]))
    events = pa.concat_tables([events.slice(0, head), tail])
    begins = np.flatnonzero(np.diff(session[inside], prepend=-1))
    return Sessions(events, np.append(begins, len(events)).astype(np.int64))


def _texts(path: Path) -> list[str]:
    """Return the columns of text. They are read as numbers of distinct texts, which take a fraction of the memory."""
    return [field.name for field in pq.read_schema(path) if pa.types.is_string(field.type)]


def encode(products: np.ndarray, names: np.ndarray) -> np.ndarray:
    """Return the codes of products, int32 [events]: 1 for the first of `names`, 0 for an unknown product."""
    indices = pc.index_in(pa.array(products, pa.string()), pa.array(names, pa.string()))
    codes: np.ndarray = pc.fill_null(indices, -1).to_numpy(zero_copy_only=False).astype(np.int32) + 1
    return codes


def _targets(offsets: np.ndarray) -> np.ndarray:
    first = np.repeat(offsets[:-1], np.diff(offsets))
    targets: np.ndarray = np.flatnonzero(np.arange(len(first)) > first)
    return targets


def cuts(lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the cuts of sessions for intent: after `CUTS` events if a session is longer, and at its end.

    Args:
        lengths: int64 [sessions].

    Returns:
        For each cut, the number of the session and the number of events before the cut; int64 [cuts] each.
    """
    counts = np.column_stack([np.broadcast_to(CUTS, (len(lengths), len(CUTS))), lengths])
    is_cut = counts < lengths[:, None]
    is_cut[:, -1] = lengths > 0
    session, column = np.nonzero(is_cut)
    return session, counts[session, column]


def columns(part: Sessions, session: np.ndarray, length: np.ndarray, longest: int) -> dict[str, np.ndarray]:
    """Return starts of sessions as inputs of an exported model, padded at the end.

    If the next event has a page before it, that page is added as the last event.

    Args:
        part: The sessions.
        session: int64 [cuts], numbers of sessions.
        length: int64 [cuts], number of events before each cut.
        longest: Largest number of events; only the last ones are used.

    Returns:
        An array [cuts, longest] for each of `boat.models.sessions.INPUTS`; one more column if there are pages.
    """
    kept = np.minimum(length, longest)
    row = (part.offsets[session] + length - kept)[:, None] + np.arange(longest)
    is_filled = np.arange(longest) < kept[:, None]
    used = [name for name in PADDING if name in part.events.column_names]
    events = part.events.select(used).take(pa.array(row[is_filled]))
    selected = Sessions(events, np.array([0, len(events)]))
    filled: dict[str, np.ndarray] = {}
    for name, empty in PADDING.items():
        filled[name] = np.full(is_filled.shape, empty, dtype=object if empty == "" else np.float64)
        if name == "event_time":
            filled[name][is_filled] = selected.seconds
        elif name in events.column_names:
            filled[name][is_filled] = selected.strings(name)
    return _with_page(part, session, length, filled)


def _with_page(
    part: Sessions, session: np.ndarray, length: np.ndarray, filled: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    next_row = part.offsets[session] + length
    continues = np.flatnonzero(next_row < part.offsets[session + 1])
    page = np.full(len(session), "", object)
    if _PAGE in part.events.column_names:
        page[continues] = _strings(part.events[_PAGE].take(pa.array(next_row[continues])))
    has_page = np.flatnonzero(page != "")
    if not len(has_page):
        return filled
    wider = {name: np.pad(values, [(0, 0), (0, 1)], constant_values=PADDING[name]) for name, values in filled.items()}
    position = np.minimum(length, filled["event_type"].shape[1])[has_page]
    wider["event_type"][has_page, position] = "pageview"
    wider["url"][has_page, position] = page[has_page]
    wider["event_time"][has_page, position] = filled["event_time"].max(axis=1)[has_page]
    return wider


def _strings(column: pa.ChunkedArray) -> np.ndarray:
    """Return texts, object [rows]; missing values are empty."""
    texts: np.ndarray = _numpy(pc.fill_null(column.cast(pa.large_string()), "")).astype(object)
    return texts


def _numpy(column: pa.ChunkedArray | pa.Array) -> np.ndarray:
    values: np.ndarray = column.to_numpy(zero_copy_only=False) if isinstance(column, pa.Array) else column.to_numpy()
    return values
