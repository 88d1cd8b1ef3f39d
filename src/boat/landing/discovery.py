"""Find the files of a landing folder, and recognise their kind and layout."""

import json
import re
import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import IO, Any

from boat.errors import DataError
from boat.landing import layouts
from boat.landing.files import FileKind, Format, Ignored, LandingFile
from boat.landing.layouts import Unwanted
from boat.landing.streams import BLOCK, GZIP_SUFFIX, open_binary, open_text
from boat.landing.text import first_row, naming_broken_gzip, parquet_columns

_FORMATS: dict[str, Format] = {
    ".csv": "csv",
    ".tsv": "csv",
    ".ndjson": "ndjson",
    ".jsonl": "ndjson",
    ".json": "ndjson",
    ".parquet": "parquet",
}
_KNOWN_TYPES = (
    f"Known file types: {', '.join(_FORMATS)}, also with {GZIP_SUFFIX}. docs/exports.md has the files of known exports."
)
_HEADERLESS = ".dat"
"""Ending of files of a layout without a header line."""
_COVEO: dict[str, FileKind] = {
    "browsing_train": "coveo_browsing",
    "search_train": "coveo_search",
    "sku_to_content": "coveo_catalogue",
    "product_names": "coveo_names",
}
_DEAD_LETTER = ".dead-letter"
"""Hidden folder with the dead letters of the collector; other hidden folders are ignored."""
_FIRST_OBJECTS = 50


def discover(source: Path, layout: str | None = None) -> tuple[tuple[LandingFile, ...], tuple[Ignored, ...]]:
    """Return the files to load at `source`, a file or a folder with subfolders, and the ignored files.

    Hidden files and `*.tmp`, which may be incomplete, are in neither list. Dead letters of the collector are loaded.

    Args:
        source: A file or a folder.
        layout: Layout of its event files. Without one, each file is recognised by itself.

    Raises:
        DataError: The source does not exist, a single file has an unknown type, or a file does not have the layout.
        SettingError: The layout is unknown.
    """
    layouts.check_name(layout)
    if source.is_file():
        file = _paired_alone(_recognise(source, source.name, layout))
        if isinstance(file, Ignored) and not is_empty(source):
            raise DataError(f"{source}: the file {file.reason}.", _KNOWN_TYPES)
        return ((), (file,)) if isinstance(file, Ignored) else ((file,), ())
    if not source.is_dir():
        raise DataError(f"{source}: no such file or folder.", "Check the path.")
    recognised = _pair_orders(
        _recognise(path, path.relative_to(source).as_posix(), layout) for path in sorted(_visible(source))
    )
    files = _pair_names([file for file in recognised if isinstance(file, LandingFile)])
    return files, tuple(file for file in recognised if isinstance(file, Ignored))


def _visible(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        parts = path.relative_to(folder).parts
        hidden = any(part.startswith(".") and part != _DEAD_LETTER for part in parts)
        if path.is_file() and not hidden and path.suffix != ".tmp":
            yield path


def _recognise(path: Path, name: str, layout: str | None = None) -> LandingFile | Ignored:
    if _DEAD_LETTER in path.parts:
        if path.suffix == ".ndjson":
            return LandingFile(path, name, "dead_letters", "ndjson")
        return Ignored(path, name, "is not a file of dead letters")
    lower_name = path.name.lower().removesuffix(GZIP_SUFFIX)
    ending = next((ending for ending in _FORMATS if lower_name.endswith(ending)), None)
    if lower_name.endswith(_HEADERLESS):
        return _recognise_headerless(path, name, layout)
    if ending is None or (path.name.lower().endswith(GZIP_SUFFIX) and ending == ".parquet"):
        return Ignored(path, name, "has an unknown file type")
    stem, file_format = lower_name.removesuffix(ending), _FORMATS[ending]
    if file_format != "ndjson" and is_empty(path):  # empty NDJSON is an hour without events
        return Ignored(path, name, "is empty")
    kind: FileKind = "catalogue" if stem == "products" else "events"
    if file_format == "csv":
        kind = _COVEO.get(stem, kind)
    if ending == ".json" and is_array(path):
        file_format = "json"
    return _with_layout(LandingFile(path, name, kind, file_format), stem, layout)


def _recognise_headerless(path: Path, name: str, layout: str | None) -> LandingFile | Ignored:
    """Recognise a file of a layout by its content; ignore other files with this ending."""
    stem = path.name.lower().removesuffix(GZIP_SUFFIX).removesuffix(_HEADERLESS)
    if is_empty(path):
        return Ignored(path, name, "is empty")
    file = _with_layout(LandingFile(path, name, "events", "csv"), stem, layout)
    if isinstance(file, LandingFile) and not file.layout:
        return Ignored(path, name, "has an unknown file type")
    return file


def _with_layout(file: LandingFile, stem: str, layout: str | None) -> LandingFile | Ignored:
    """Add the known export of a file of events or products, if it is one."""
    if file.kind not in {"events", "catalogue"} or file.is_collected:
        return file
    shape = _shape(file, stem)
    export = layouts.recognise(shape)
    if isinstance(export, Unwanted):
        return Ignored(file.path, file.name, export.reason)
    if layout and file.kind == "events" and not (export and export.kind == "catalogue"):
        export = layouts.named(shape, layout)
    if not export or (file.kind == "catalogue" and export.kind != "catalogue"):
        return file
    has_header = not export.positions or shape.begins_with_names
    return replace(file, kind=export.kind, layout=export, has_header=has_header)


def _shape(file: LandingFile, stem: str) -> layouts.Shape:
    """Return the beginning of a file; empty if it cannot be read, because its reader reports the error."""
    shape = layouts.Shape(file.name, stem, file.path.parent.name.lower(), file.is_json)
    try:
        if file.is_json:
            return replace(shape, objects=tuple(_first_objects(file)))
        return replace(shape, names=tuple(parquet_columns(file) if file.format == "parquet" else first_row(file)))
    except DataError:
        return shape


def _first_objects(file: LandingFile) -> Iterator[dict[str, Any]]:
    with naming_broken_gzip(file), open_text(file.path) as stream:
        values = _elements(stream.read(BLOCK)) if file.format == "json" else _json_values(stream)
        for value in islice(values, _FIRST_OBJECTS):
            if isinstance(value, dict):
                yield value


def _json_values(stream: IO[str]) -> Iterator[Any]:
    for line in stream:
        with suppress(ValueError, RecursionError):
            yield json.loads(line)


def _elements(text: str) -> Iterator[Any]:
    """Yield the complete elements at the beginning of the text of an array."""
    decoder, between = json.JSONDecoder(), re.compile(r"[\s,\[]*")
    end = 0
    with suppress(ValueError, RecursionError):
        while match := between.match(text, end):
            value, end = decoder.raw_decode(text, match.end())
            yield value


def is_empty(path: Path) -> bool:
    """Return whether a file contains only blanks; false if it cannot be read, because its reader reports the error."""
    try:
        with open_binary(path) as stream:
            while block := stream.read(BLOCK):
                if block.strip():
                    return False
    except (OSError, EOFError, zlib.error):
        return False
    return True


def is_array(path: Path) -> bool:
    try:
        with open_text(path) as stream:
            return next((line for line in stream if line.strip()), "").lstrip().startswith("[")
    except (OSError, EOFError, zlib.error):
        return False


def _pair_names(files: list[LandingFile]) -> tuple[LandingFile, ...]:
    """Add each file of product names to the catalogue of its folder; without a catalogue it is a separate file."""
    catalogues = {file.path.parent for file in files if file.kind == "coveo_catalogue"}
    names = {file.path.parent: file for file in files if file.kind == "coveo_names"}
    return tuple(
        replace(file, names=names.get(file.path.parent)) if file.kind == "coveo_catalogue" else file
        for file in files
        if not (file.kind == "coveo_names" and file.path.parent in catalogues)
    )


def _pair_orders(recognised: Iterable[LandingFile | Ignored]) -> list[LandingFile | Ignored]:
    """Add orders to the files with order lines of the same folder. Without each other, both are ignored."""
    recognised = list(recognised)
    companions = {
        file.path.parent: file for file in recognised if isinstance(file, LandingFile) and file.kind == "orders"
    }
    paired = [_paired(file, companions.get(file.path.parent)) for file in recognised]
    needed = {file.names.path for file in paired if isinstance(file, LandingFile) and file.names}
    return [_used(file) for file in paired if file.path not in needed]


def _used(file: LandingFile | Ignored) -> LandingFile | Ignored:
    """Ignore a file of orders that no other file needs."""
    if isinstance(file, LandingFile) and file.kind == "orders":
        return Ignored(file.path, file.name, "contains orders, and their lines are not in the same folder")
    return file


def _paired(file: LandingFile | Ignored, companion: LandingFile | None) -> LandingFile | Ignored:
    if isinstance(file, Ignored) or not file.layout:
        return file
    if file.layout.companion:
        missing = f"contains lines of orders, and {file.layout.companion!r} with the orders is not in the same folder"
        return replace(file, names=companion) if companion else Ignored(file.path, file.name, missing)
    return file


def _paired_alone(file: LandingFile | Ignored) -> LandingFile | Ignored:
    if isinstance(file, Ignored) or not file.layout or not file.layout.companion:
        return _used(file)
    siblings = (_recognise(path, path.name) for path in sorted(file.path.parent.glob(f"{file.layout.companion}.*")))
    return _paired(
        file,
        next((sibling for sibling in siblings if isinstance(sibling, LandingFile) and sibling.kind == "orders"), None),
    )
