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
_HOW_FILES_ARE_KNOWN = (
    f"Known endings: {', '.join(_FORMATS)}, also with {GZIP_SUFFIX}. docs/exports.md has the files of known exports."
)
_HEADERLESS = ".dat"
"""Ending of a file of a layout whose files have no header line."""
_COVEO: dict[str, FileKind] = {
    "browsing_train": "coveo_browsing",
    "search_train": "coveo_search",
    "sku_to_content": "coveo_catalogue",
    "product_names": "coveo_names",
}
_DEAD_LETTER = ".dead-letter"
"""Where the collector puts the events that it did not take: the one hidden folder that is looked into."""
_FIRST_OBJECTS = 50


def discover(source: Path, layout: str | None = None) -> tuple[tuple[LandingFile, ...], tuple[Ignored, ...]]:
    """Return the files to load at `source`, a file or a folder with subfolders, and those that are ignored.

    Hidden files and `*.tmp`, which may still be written, are in neither; the collector's dead letters are.

    Args:
        source: A file or a folder.
        layout: Layout of its event files; without one, each file is recognised by itself.

    Raises:
        DataError: Nothing is there, a file named alone is of no known kind, or an event file does not have the layout.
        SettingError: The layout is not known.
    """
    layouts.check_name(layout)
    if source.is_file():
        file = _paired_alone(_recognise(source, source.name, layout))
        if isinstance(file, Ignored) and not is_empty(source):
            raise DataError(f"{source}: the file {file.reason}.", _HOW_FILES_ARE_KNOWN)
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
        return Ignored(path, name, "is no file of the collector's dead letters")
    known = path.name.lower().removesuffix(GZIP_SUFFIX)
    ending = next((ending for ending in _FORMATS if known.endswith(ending)), None)
    if known.endswith(_HEADERLESS):
        return _recognise_headerless(path, name, layout)
    if ending is None or (path.name.lower().endswith(GZIP_SUFFIX) and ending == ".parquet"):
        return Ignored(path, name, "has an ending that is not known")
    stem, file_format = known.removesuffix(ending), _FORMATS[ending]
    if file_format != "ndjson" and is_empty(path):  # NDJSON without a line is an hour without shoppers
        return Ignored(path, name, "is empty")
    kind: FileKind = "catalogue" if stem == "products" else "events"
    if file_format == "csv":
        kind = _COVEO.get(stem, kind)
    if ending == ".json" and is_array(path):
        file_format = "json"
    return _with_layout(LandingFile(path, name, kind, file_format), stem, layout)


def _recognise_headerless(path: Path, name: str, layout: str | None) -> LandingFile | Ignored:
    """Recognise a file whose ending says nothing: it is of a layout or ignored."""
    stem = path.name.lower().removesuffix(GZIP_SUFFIX).removesuffix(_HEADERLESS)
    if is_empty(path):
        return Ignored(path, name, "is empty")
    file = _with_layout(LandingFile(path, name, "events", "csv"), stem, layout)
    if isinstance(file, LandingFile) and not file.layout:
        return Ignored(path, name, "has an ending that is not known")
    return file


def _with_layout(file: LandingFile, stem: str, layout: str | None) -> LandingFile | Ignored:
    """Recognise the known export that a file of events or products is of, if any."""
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
    """Return the beginning of a file; an empty one of a file that cannot be read, which is left to its reader."""
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
    """Yield the elements of an array that are whole in the beginning of its text."""
    decoder, between = json.JSONDecoder(), re.compile(r"[\s,\[]*")
    end = 0
    with suppress(ValueError, RecursionError):
        while match := between.match(text, end):
            value, end = decoder.raw_decode(text, match.end())
            yield value


def is_empty(path: Path) -> bool:
    """Whether a file holds nothing but blanks. One that cannot be read is left to its reader."""
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
    """Put each file of product names to the catalogue in its folder; without one it stays a file of its own."""
    catalogues = {file.path.parent for file in files if file.kind == "coveo_catalogue"}
    names = {file.path.parent: file for file in files if file.kind == "coveo_names"}
    return tuple(
        replace(file, names=names.get(file.path.parent)) if file.kind == "coveo_catalogue" else file
        for file in files
        if not (file.kind == "coveo_names" and file.path.parent in catalogues)
    )


def _pair_orders(found: Iterable[LandingFile | Ignored]) -> list[LandingFile | Ignored]:
    """Put the file that others of its folder need to each of them. Without each other, they are ignored."""
    found = list(found)
    companions = {file.path.parent: file for file in found if isinstance(file, LandingFile) and file.kind == "orders"}
    paired = [_paired(file, companions.get(file.path.parent)) for file in found]
    needed = {file.names.path for file in paired if isinstance(file, LandingFile) and file.names}
    return [_used(file) for file in paired if file.path not in needed]


def _used(file: LandingFile | Ignored) -> LandingFile | Ignored:
    """Ignore a file that only others need, if none of them does."""
    if isinstance(file, LandingFile) and file.kind == "orders":
        return Ignored(file.path, file.name, "holds orders, and no file with their lines is beside it")
    return file


def _paired(file: LandingFile | Ignored, companion: LandingFile | None) -> LandingFile | Ignored:
    if isinstance(file, Ignored) or not file.layout:
        return file
    if file.layout.companion:
        missing = f"holds lines of orders, and no file {file.layout.companion!r} with the orders is beside it"
        return replace(file, names=companion) if companion else Ignored(file.path, file.name, missing)
    return file


def _paired_alone(file: LandingFile | Ignored) -> LandingFile | Ignored:
    if isinstance(file, Ignored) or not file.layout or not file.layout.companion:
        return _used(file)
    beside = (_recognise(path, path.name) for path in sorted(file.path.parent.glob(f"{file.layout.companion}.*")))
    return _paired(file, next((f for f in beside if isinstance(f, LandingFile) and f.kind == "orders"), None))
