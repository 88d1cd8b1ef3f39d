"""Known exports, read with the meaning that their publishers document; see `docs/exports.md`.

An `Export` is one kind of file. A layout is all exports of one publisher; `boat load --layout` takes its name.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from boat.errors import DataError, SettingError
from boat.events import candidates
from boat.landing.layouts.export import Export, Unwanted, with_texts, with_types
from boat.landing.layouts.objects import OBJECTS
from boat.landing.layouts.tables import TABLES, UNWANTED

EXPORTS = (*OBJECTS, *TABLES)
LAYOUTS = tuple(sorted({export.layout for export in EXPORTS}))
_OURS = frozenset(("event_time", "event_type"))
"""A file with both columns was written for Boat, whichever other columns it has."""

__all__ = [
    "EXPORTS",
    "LAYOUTS",
    "Export",
    "Shape",
    "Unwanted",
    "check_name",
    "named",
    "recognise",
    "with_texts",
    "with_types",
]


@dataclass(frozen=True)
class Shape:
    """The beginning of a file.

    Attributes:
        name: Path relative to the loaded folder.
        stem: Name in lower case, without endings.
        folder: Name of its folder in lower case.
        is_json: Whether its rows are JSON objects.
        names: Fields of its first line, or columns of Parquet.
        objects: Its first objects, if it is JSON.
    """

    name: str
    stem: str
    folder: str
    is_json: bool
    names: tuple[str, ...] = ()
    objects: Sequence[Mapping[str, Any]] = ()

    @property
    def begins_with_names(self) -> bool:
        """Return whether the first line can be a header line: no column name of an export contains a digit."""
        return not any(re.search(r"\d", name) for name in self.names)


def check_name(layout: str | None) -> None:
    """Check the name of a layout.

    Raises:
        SettingError: The layout does not exist.
    """
    if layout is not None and layout not in LAYOUTS:
        raise SettingError(f"The layout {layout!r} is unknown.", f"Use one of: {', '.join(LAYOUTS)}.")


def recognise(shape: Shape) -> Export | Unwanted | None:
    """Return the export of a file, or `None` if it is not a known one."""
    for unwanted in UNWANTED:
        if _is_table_with(shape, unwanted.columns) and re.fullmatch(unwanted.stem or ".*", shape.stem):
            return unwanted
    matches = (export for export in EXPORTS if _is_named(shape, export) and _fits(shape, export))
    return next((export for export in matches if not _has_own_types(shape, export)), None)


def named(shape: Shape, layout: str) -> Export:
    """Return the export of a file within a layout.

    Raises:
        DataError: The file does not have this layout.
    """
    exports = [export for export in EXPORTS if export.layout == layout]
    match = next((export for export in exports if _fits(shape, export)), None)
    if match:
        return match
    raise DataError(
        f"{shape.name}: the file does not have the layout {layout}: {_misfit(shape, exports)}.",
        "Check the layout. docs/exports.md shows the files of each layout.",
    )


def _is_named(shape: Shape, export: Export) -> bool:
    """Return whether a file or its folder has the name of an export, if its columns are not enough."""
    return not export.stem or shape.folder == export.layout or bool(re.fullmatch(export.stem, shape.stem))


def _fits(shape: Shape, export: Export) -> bool:
    if shape.is_json:
        return not export.is_table and any(
            _has_names(row, export) and (not export.is_like or export.is_like(row)) for row in shape.objects
        )
    if export.is_like:
        return False
    is_positional = export.positions and not shape.begins_with_names and len(shape.names) == len(export.positions)
    return is_positional or _has_names(shape.names, export)


def _has_names(names: Iterable[str], export: Export) -> bool:
    names = set(names)
    return not export.missing(names) and names.isdisjoint(export.without)


def _has_own_types(shape: Shape, export: Export) -> bool:
    """Return whether a file was derived from an export and has event types, although the export has its own rule."""
    names = set(shape.names).union(*shape.objects)
    if export.fields and export.kind == "events" and not export.used("event_type"):
        return "event_type" in candidates(names)
    return names >= _OURS and not set(export.columns) >= _OURS


def _is_table_with(shape: Shape, columns: Sequence[str]) -> bool:
    return not shape.is_json and {name.lower() for name in columns} <= {name.strip().lower() for name in shape.names}


def _misfit(shape: Shape, exports: Sequence[Export]) -> str:
    keys = tuple({name: None for row in shape.objects for name in row})
    names = keys if shape.is_json else shape.names
    widths = sorted({len(export.positions) for export in exports if export.positions})
    if widths and not shape.is_json and not shape.begins_with_names:
        return f"its first line has {len(names)} fields, not {' or '.join(map(str, widths))}"
    nearest = min((export.missing(names) for export in exports), key=len)
    if not nearest:
        return "its rows have another format"
    return f"it has no {', '.join(nearest)}"
