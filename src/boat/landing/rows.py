"""SQL that maps the rows of each kind of file to the columns of the raw log, as unchecked text.

Each query reads the temporary view `landing_rows` (`record`: 0 for the first row of a file; `line`; then `c0`, `c1`, …
or, for NDJSON, `json`). It returns `record`, `line`, `flaw` (a problem that is already known, otherwise null) and the
columns of the target table.
"""

import glob
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import pyarrow as pa

from boat.errors import DataError
from boat.events import COLUMNS, ID_COLUMNS, ORDER_NUMBER, PRODUCT_SYNONYMS, SYNONYMS, candidates
from boat.landing import layouts, values
from boat.landing.dead_letters import Reason
from boat.landing.files import FileKind, LandingFile
from boat.landing.text import column_names, column_types
from boat.landing.values import is_one_of, literal
from boat.warehouse.duckdb import DuckDBTransaction

EVENT_FIELDS = (*(column.name for column in COLUMNS), "schema_version")
PRODUCT_FIELDS = ("shop", "product_id", "product_name", "category", "price")
_NO_PARTITIONS = "hive_partitioning = false"  # otherwise a folder `day=2024-01-01` would add a column
_VECTORS = ("description_vector", "image_vector")
_COVEO_EVENT = {"session_id": "session_id_hash", "event_time": "server_timestamp_epoch_ms"}
_ORDER = ORDER_NUMBER.name
_EXACT = (*ID_COLUMNS, "event_time", "received_at")
"""Columns whose numbers need all their digits."""
_WORDS_ARE_MISSING = (*_EXACT, "price", "quantity", "event_type")


@dataclass(frozen=True)
class Layout:
    """The columns of one kind of file.

    Attributes:
        fields: Columns of the target table that its rows can fill.
        required: Required columns of a file; one of each alternative.
        columns: Names in the file of some of them, if the names are fixed.
        synonyms: Synonyms of the columns, if the names are not fixed.
        is_row_by_row: Whether each record is one row of the target table.
    """

    fields: tuple[str, ...]
    required: tuple[tuple[str, ...], ...]
    columns: Mapping[str, str] = field(default_factory=dict)
    synonyms: Mapping[str, tuple[str, ...]] | None = None
    is_row_by_row: bool = True

    def sources(self, names: Iterable[str]) -> dict[str, tuple[str, ...]]:
        """Return the names that each column of the target table can be read from, the preferred name first."""
        if self.synonyms is not None:
            return {column: tuple(options) for column, options in candidates(names, self.synonyms).items()}
        sources = {name: self.columns.get(name, name) for name in self.fields}
        return {name: (source,) for name, source in sources.items() if source in set(names)}


LAYOUTS: Mapping[FileKind, Layout] = {
    "events": Layout(EVENT_FIELDS, (("event_time",), ("event_type",), ("session_id", "client_id")), synonyms=SYNONYMS),
    "catalogue": Layout(PRODUCT_FIELDS, (("product_id",),), synonyms=PRODUCT_SYNONYMS),
    "coveo_browsing": Layout(
        EVENT_FIELDS,
        tuple(
            (name,)
            for name in (
                "session_id_hash",
                "event_type",
                "product_action",
                "product_sku_hash",
                "server_timestamp_epoch_ms",
                "hashed_url",
            )
        ),
        _COVEO_EVENT | {"product_id": "product_sku_hash", "url": "hashed_url"},
    ),
    "coveo_search": Layout(
        EVENT_FIELDS,
        (("session_id_hash",), ("clicked_skus_hash",), ("server_timestamp_epoch_ms",)),
        _COVEO_EVENT | {"product_id": "clicked_skus_hash"},
        is_row_by_row=False,
    ),
    "coveo_catalogue": Layout(
        PRODUCT_FIELDS,
        (("product_sku_hash",),),
        {"product_id": "product_sku_hash", "category": "category_hash", "price": "price_bucket"},
    ),
    "coveo_names": Layout(
        PRODUCT_FIELDS, (("product_sku_hash",), ("product_name",)), {"product_id": "product_sku_hash"}
    ),
    "orders": Layout(("order_id", "user_id"), (("order_id",), ("user_id",))),
    "dead_letters": Layout(("reason", "field", "message", "payload", "received_at"), ()),
}


@dataclass(frozen=True)
class Columns:
    """Columns of a file, or keys of its objects, and how they are read.

    Attributes:
        names: Names in the file, in order.
        sources: Names that each column of the target table can be read from, the preferred name first. A table has one
            source for all rows; in NDJSON, objects can have different sources.
        types: Column types of a Parquet file, in order; empty for text files.
        is_json: Whether the names are keys.
        layout: Layout with rules for these columns, if any.
    """

    names: tuple[str, ...]
    sources: Mapping[str, tuple[str, ...]]
    types: tuple[pa.DataType, ...] = ()
    is_json: bool = False
    layout: str = ""

    def source(self, column: str) -> str:
        """Return the name in the file of a column of the target table."""
        return self.sources.get(column, (column,))[0]

    def notes(self) -> tuple[str, ...]:
        """Return notes about the layout, and about columns that are ambiguous or changed."""
        binary = [name for name, data_type in zip(self.names, self.types, strict=False) if _is_binary(data_type)]
        return (
            *((f"read as an export of the layout {self.layout}",) if self.layout else ()),
            *(
                f"{column} is read from {names[0]!r}; {', '.join(map(repr, names[1:]))} could be it too: kept in extra"
                + ("" if not self.is_json else ", or read in rows without the first")
                for column, names in self.sources.items()
                if len(names) > 1
            ),
            *(f"{name!r} is binary: read as text, or as hexadecimal digits if it is not UTF-8" for name in binary),
        )


def flaw_sql(reason: Reason, column: str, value: str, message: str) -> str:
    """Return SQL of the flaw of a row: a JSON list of reason, column of the target, value and message."""
    return f"to_json([{literal(reason)}, {literal(column)}, {value}, {literal(message)}])::varchar"


def columns(file: LandingFile) -> Columns:
    """Return the columns of a CSV or Parquet file.

    Raises:
        DataError: The file has no header, has a column twice, has no required column, or has lists, objects or booleans
            in a column of ids.
    """
    names, types = column_names(file), column_types(file)
    layout = LAYOUTS[file.kind]
    has_own_sql = file.layout and (file.layout.fields or file.layout.objects)
    sources = _sources(file.layout, names) if file.layout and has_own_sql else layout.sources(names)
    result = Columns(tuple(names), sources, types, layout=_own_layout(file))
    for alternatives in () if has_own_sql else layout.required:
        if not any(column in result.sources or column in names for column in alternatives):
            known = sorted({name for column in alternatives for name in (layout.synonyms or {}).get(column, ())})
            synonyms = f" (or {', '.join(known)})" if known else ""
            raise DataError(
                f"{file.header_position}: the column {' or '.join(alternatives)} is missing.",
                f"Rename the column to that name{synonyms}. The file has: {', '.join(names)}.",
            )
    for column in ID_COLUMNS:
        if types and column in result.sources:
            _refuse_no_id(file, result.source(column), types[names.index(result.source(column))])
    return result


def _own_layout(file: LandingFile) -> str:
    """Return the layout of a file if it has rules; a layout with column names only is read by the contract."""
    return file.layout.layout if file.layout and file.layout.has_own_rules else ""


def _sources(export: layouts.Export, names: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Return the first source of each column of the target table."""
    actual = export.actual(names)
    used = {column: [actual[name] for name in export.used(column) if name in actual] for column in export.fields}
    return {column: (sources[0],) for column, sources in used.items() if sources}


def _refuse_no_id(file: LandingFile, name: str, data_type: pa.DataType) -> None:
    if pa.types.is_nested(data_type) or pa.types.is_boolean(data_type):
        raise DataError(
            f"{file.header_position}: the column {name!r} has the type {data_type}, which is not an id.",
            "Write ids as text or whole numbers, one per row.",
        )


def keys(local: DuckDBTransaction, file: LandingFile) -> Columns:
    """Return the keys of the objects in `landing_text`, beginning with the first object."""
    layout = LAYOUTS[file.kind]
    if file.layout and file.layout.objects:
        return Columns((), {}, is_json=True, layout=_own_layout(file))
    if file.is_collected or layout.synonyms is None:
        return Columns(layout.fields, {name: (name,) for name in layout.fields})
    rows = local.query(
        """select key from (
            select unnest(json_keys(json)) as key, rowid as record from landing_text where json is not null)
        group by key order by min(record), key"""
    )
    names = tuple(rows.column(0).to_pylist())
    return Columns(names, layout.sources(names), is_json=True, layout=_own_layout(file))


def reader(file: LandingFile, width: int) -> str:
    """Return the query that reads a file of so many columns: columns `c0`, `c1`, …, or `json` for NDJSON."""
    path = literal(glob.escape(str(file.path.absolute())))  # DuckDB reads `*`, `?` and `[` as patterns
    positions = ", ".join(f"c{index}" for index in range(width))
    if file.format == "parquet":
        # By position: DuckDB does not distinguish `SKU` and `sku`.
        return f"select * from read_parquet({path}, {_NO_PARTITIONS}) as t({positions})"
    if file.format == "json":
        return f"""select json::varchar as json
            from read_json_objects({path}, format = 'array', maximum_object_size = {1 << 28}, {_NO_PARTITIONS})"""
    if file.format == "ndjson":
        # Whole lines, so that a broken one has its number. JSON does not contain raw control characters.
        return f"""select nullif(trim(json, e' \\t\\r'), '') as json
            from read_csv({path}, columns = {{'json': 'varchar'}}, header = false, auto_detect = false, delim = '\x1f',
            quote = '', escape = '', strict_mode = false, {_NO_PARTITIONS}{_packed(file)})"""
    texts = ", ".join(f"'c{index}': 'varchar'" for index in range(width))
    return f"""from read_csv({path}, columns = {{{texts}}}, header = {file.has_header}, auto_detect = false,
        delim = {literal(file.delimiter)}, quote = '"', escape = '"', {_NO_PARTITIONS}{_packed(file)})"""


def _packed(file: LandingFile) -> str:
    return ", compression = 'gzip'" if file.is_compressed else ""


def payload(file: LandingFile, columns: Columns) -> str:
    """Return SQL of a row of `landing_rows` as text, for the payload of a dead letter."""
    if file.is_json:
        return "json"
    table = _Table(columns)
    pairs = ", ".join(f"{literal(name)}, {table.text(name)}" for name in columns.names)
    return f"cast(json_object({pairs}) as varchar)"


def select(file: LandingFile, columns: Columns) -> str:
    """Return the query over `landing_rows` for a file with these columns."""
    if not file.layout:
        return _select(file, columns)
    if file.layout.objects:
        flat = Columns(EVENT_FIELDS, {name: (name,) for name in EVENT_FIELDS}, is_json=True)
        lines = "(select * from landing_rows where json is not null)"
        objects = file.layout.objects(lines if file.is_json else _as_objects(columns))
        return layouts.with_types(file.layout, _json_lines(file, flat, f"({objects})", "flaw"))
    query = _layout_rows(file, file.layout, columns) if file.layout.fields else _select(file, columns)
    return layouts.with_types(file.layout, query)


def _as_objects(columns: Columns) -> str:
    """Return SQL of the rows of a table as JSON objects, with names in lower case and without empty texts."""
    table = _Table(columns)
    pairs = ", ".join(f"{literal(name.lower())}, {table.json(name)}" for name in columns.names)
    return f"(select record, line, json_merge_patch('{{}}', json_object({pairs})) as json from landing_rows)"


def _layout_rows(file: LandingFile, export: layouts.Export, columns: Columns) -> str:
    table, actual = _Table(columns), export.actual(columns.names)

    def filled(sql: str) -> str:
        return layouts.with_texts(sql, lambda name: f"nullif({table.text(actual.get(name, ''))}, '')")

    texts = dict.fromkeys(LAYOUTS[file.kind].fields, "null") | {
        name: filled(sql) for name, sql in export.fields.items()
    }
    extra = table.extra(used=[actual[name] for name in export.all_used() if name in actual])
    if export.extras:
        pairs = ", ".join(f"{literal(name)}, {filled(sql)}" for name, sql in export.extras.items())
        extras = f"json_merge_patch('{{}}', json_object({pairs}))::varchar"
        extra = f"nullif(json_merge_patch({extras}, coalesce({extra}, '{{}}'))::varchar, '{{}}')"
    if not export.source or not file.names:
        return _query(texts, extra)
    names = column_names(file.names)
    orders = _Table(Columns(tuple(names), {}, column_types(file.names)))
    selected = ", ".join(f'{orders.text(name)} as "{name.lower()}"' for name in names)
    companion = f"(select {selected} from ({reader(file.names, len(names))}))"
    rows = filled(export.source.replace("{companion}", companion))
    missing = flaw_sql(Reason.MISSING, "order_id", filled("{order_id}"), f"is not an order of {file.names.name}")
    return _query(texts, extra, rows, f"case when not has_order then {missing} end")


def is_row_by_row(file: LandingFile) -> bool:
    """Return whether each record of a file gives one row of the target table, in the order of the file."""
    return LAYOUTS[file.kind].is_row_by_row and (not file.layout or file.layout.is_row_by_row)


def _select(file: LandingFile, columns: Columns) -> str:
    if file.is_json:
        return _json_lines(file, columns)
    table = _Table(columns)
    if file.kind == "coveo_browsing":
        return _browsing(table)
    if file.kind == "coveo_search":
        return _search(table)
    return _query(table.fields(LAYOUTS[file.kind].fields), table.extra(_VECTORS))


def _json_lines(file: LandingFile, columns: Columns, source: str = "landing_rows", known_flaw: str = "null") -> str:
    """Return the query for NDJSON, whose rows can have different keys.

    Args:
        file: The file.
        columns: Its keys.
        source: SQL of a relation like `landing_rows`.
        known_flaw: SQL of a flaw of a row that is already known.
    """
    fields = LAYOUTS[file.kind].fields
    sources = {column: names for column, names in columns.sources.items() if column in (*fields, _ORDER)}
    used = list(dict.fromkeys([*(name for names in sources.values() for name in names), "extra"]))
    value = {name: f"v{index}" for index, name in enumerate(used)}
    exact = {name for column in _EXACT for name in sources.get(column, ())} if not file.is_collected else set()
    selected = ", ".join(
        f"{_digits_of_json(name, f'field[{index}]') if name in exact else f'field[{index}]'} as {value[name]}"
        for index, name in enumerate(used, 1)
    )
    texts, present, spare = dict.fromkeys(fields, "null"), [], []
    for column, names in sources.items():
        texts[column] = value[names[0]]
        if len(names) > 1:
            are_words = column in _WORDS_ARE_MISSING
            present += [
                f"{values.cleaned(value[name]) if are_words else value[name]} as p{value[name]}" for name in names
            ]
            texts[column] = f"coalesce({', '.join(f'p{value[name]}' for name in names)})"
            for index, name in enumerate(names[1:], 1):  # a key that could be the column, if another key has a value
                preferred = ", ".join(f"p{value[other]}" for other in names[:index])
                spare.append(f"(key = {literal(name)} and coalesce({preferred}) is not null)")
    is_kept = " or ".join([f"not {is_one_of('key', used)}", *spare])
    pointer = "'/' || replace(replace(key, '~', '~0'), '/', '~1')"  # a JSON pointer accepts any key
    pair = f"to_json(key)::varchar || ':' || json_extract(json, {pointer})::varchar"
    pairs = f"list_transform(list_filter(json_keys(json), lambda key: {is_kept}), lambda key: {pair})"
    if order := texts.pop(_ORDER, None):
        number = f"case when {order} is not null then ['\"{_ORDER}\":' || to_json({order})::varchar] else [] end"
        pairs = f"list_concat({pairs}, {number})"
    pointers = ", ".join(literal(_pointer(name)) for name in used)
    # One layer per step: DuckDB would evaluate an expression again for each use.
    rows = f"(select *, json_extract_string(json, [{pointers}]) as field from {source} where json is not null)"
    rows = f"(select *, {selected} from {rows})"
    rows = f"(select *, {', '.join(present)} from {rows})" if present else rows
    rows = f"(select *, nullif('{{' || array_to_string({pairs}, ',') || '}}', '{{}}') as others from {rows})"
    flaw = "null" if file.is_collected else f"coalesce({known_flaw}, {_no_id_in_json(sources, value)})"
    return _query(texts, _merged(value["extra"], "others"), rows, flaw)


def _pointer(key: str) -> str:
    return "/" + key.replace("~", "~0").replace("/", "~1")


def _digits_of_json(key: str, text: str) -> str:
    """Return SQL of a JSON value as text, with the digits of a number that has an exponent."""
    is_number = f"json_type(json, {literal(_pointer(key))}) = 'DOUBLE'"
    return f"case when {_has_exponent(text)} and {is_number} then {_digits(text)} else {text} end"


def _no_id_in_json(sources: Mapping[str, tuple[str, ...]], value: Mapping[str, str]) -> str:
    """Return SQL of the flaw of a row with a list, an object or a boolean instead of an id."""
    cases = ""
    for column in ID_COLUMNS:
        for key in sources.get(column, ()):
            text = value[key]
            may_be = f"{text}[1] = '[' or {text}[1] = chr(123) or {text} = 'true' or {text} = 'false'"
            kind = f"json_type(json, {literal(_pointer(key))})"
            flaw = flaw_sql(
                Reason.WRONG_TYPE, column, text, "is a list, an object or a boolean: an id is text or a number"
            )
            cases += f" when ({may_be}) and {is_one_of(kind, ('ARRAY', 'OBJECT', 'BOOLEAN'))} then {flaw}"
    return f"case{cases} end" if cases else "null"


def _has_exponent(text: str) -> str:
    return f"contains({text}, 'e') and not contains({text}, 'e-')"


def _digits(text: str) -> str:
    """Return SQL of the digits that a float shows; a large one without an exponent."""
    return f"coalesce(cast(try_cast({text} as decimal(38, 0)) as varchar), {text})"


class _Table:
    """Columns of `landing_rows`, by the names of the contract."""

    def __init__(self, columns: Columns) -> None:
        self._columns = columns
        self._position = {name: f"c{index}" for index, name in enumerate(columns.names)}
        self._type = dict(zip(columns.names, columns.types, strict=False))

    def text(self, name: str) -> str:
        """Return SQL of a column of the file as text."""
        if name not in self._position:
            return "null"
        position, data_type = self._position[name], self._type.get(name)
        return position if data_type is None else self._typed_text(position, data_type)

    def _typed_text(self, position: str, data_type: pa.DataType) -> str:
        text = f"cast({position} as varchar)"
        if _is_binary(data_type):
            return f"coalesce(try(decode({position})), hex({position}))"
        if pa.types.is_floating(data_type) or pa.types.is_decimal256(data_type):
            return f"case when {_has_exponent(text)} then {_digits(text)} else {text} end"
        if pa.types.is_decimal(data_type):
            return f"case when contains({text}, '.') then rtrim(rtrim({text}, '0'), '.') else {text} end"
        if pa.types.is_timestamp(data_type) and data_type.tz:
            return f"cast({position} at time zone 'UTC' as varchar)"
        return text

    def json(self, name: str) -> str:
        """Return SQL of a column of the file for a JSON object: lists and objects as JSON, other values as text."""
        data_type = self._type.get(name)
        is_nested = data_type is not None and pa.types.is_nested(data_type)
        return f"to_json({self._position[name]})" if is_nested else f"nullif({self.text(name)}, '')"

    def column(self, name: str) -> str:
        """Return SQL of a column of the target table as text."""
        if name not in self._columns.sources:
            return "null"
        source = self._columns.source(name)
        if name in ID_COLUMNS and source in self._type and pa.types.is_floating(self._type[source]):
            return f"case when isfinite({self._position[source]}) then {self.text(source)} end"
        return self.text(source)

    def fields(self, names: Iterable[str]) -> dict[str, str]:
        """Return SQL of columns of the target table as text."""
        return {name: self.column(name) for name in names}

    def extra(self, lists: Iterable[str] = (), used: Iterable[str] = ()) -> str:
        """Return SQL of the JSON of the columns that are not used.

        Those without a value are left out, and so is what JSON cannot say.
        """
        order = self._columns.sources.get(_ORDER, ("",))[0]
        read = {names[0] for column, names in self._columns.sources.items() if column != _ORDER}
        pairs = []
        for name, position in self._position.items():
            if name in {*read, *used, "extra"}:
                continue
            value = self._json(name, position)
            if name == order:
                value = f"to_json({self.text(name)})::varchar"
            if name in lists:
                as_json = f"replace({position}, '''', '\"')"
                value = f"case when json_valid({as_json}) then {as_json} else {value} end"
            nothing = is_one_of(f"{self._json(name, position)}", ('""', "NaN", "Infinity", "-Infinity"))
            key = literal(json.dumps(_ORDER if name == order else name) + ":")
            pairs.append(f"case when {position} is not null and not {nothing} then {key} || {value} end")
        others = f"nullif('{{' || concat_ws(',', {', '.join(pairs)}) || '}}', '{{}}')" if pairs else "null"
        return _merged(self.text("extra"), others)

    def _json(self, name: str, position: str) -> str:
        is_binary = name in self._type and _is_binary(self._type[name])
        return f"to_json({self.text(name) if is_binary else position})::varchar"


def _is_binary(data_type: pa.DataType) -> bool:
    return any(
        check(data_type) for check in (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary)
    )


def _merged(given: str, others: str) -> str:
    """Return SQL of `extra` of the file merged with other fields; unchanged if it is not JSON."""
    if given == "null":
        return others
    return (
        f"case when {others} is null or not coalesce(json_valid({given}), true) then {given} "
        f"else json_merge_patch(coalesce({given}, '{{}}'), {others})::varchar end"
    )


def _query(texts: Mapping[str, str], extra: str, rows: str = "landing_rows", flaw: str = "null") -> str:
    columns = {**texts, "extra": extra}
    selected = ", ".join(f"nullif(cast({text} as varchar), '') as {name}" for name, text in columns.items())
    return f"select record, line, cast({flaw} as varchar) as flaw, {selected} from {rows}"


def _browsing(table: _Table) -> str:
    texts = table.fields(EVENT_FIELDS)
    event_type, given = table.text("event_type"), table.text("product_action")
    # By the description of the data set, an empty action is a page view without a product, for any event type.
    action = f"coalesce(nullif({given}, ''), 'pageview')"
    texts["event_type"] = f"case when {event_type} = 'event_product' then {action} else {event_type} end"
    types = "is neither pageview nor event_product"
    actions = "is none of detail, add, remove, purchase"
    flaw = f"""case
        when not {is_one_of(f"coalesce({event_type}, '')", ("pageview", "event_product"))}
            then {flaw_sql(Reason.UNKNOWN_EVENT_TYPE, "event_type", event_type, types)}
        when not {is_one_of(action, ("pageview", "detail", "add", "remove", "purchase"))}
            then {flaw_sql(Reason.UNKNOWN_EVENT_TYPE, "product_action", given, actions)}
        end"""
    return _query(texts, table.extra(used=["product_action"]), flaw=flaw)


def _search(table: _Table) -> str:
    """Return the query for one `search` per row, and one `click` per clicked product of its results."""
    texts = table.fields(EVENT_FIELDS)
    clicked = table.text("clicked_skus_hash")
    flaw = (
        f"case when {clicked} <> '' and {clicked} not similar to '\\[.*\\]' "
        f"then {flaw_sql(Reason.WRONG_TYPE, 'product_id', clicked, 'is not a list')} end"
    )
    extra = table.extra(("query_vector", "product_skus_hash"))
    search = _query(texts | {"event_type": "'search'", "product_id": "null"}, extra, flaw=flaw)
    skus = f"unnest(regexp_extract_all({clicked}, '[''\"]([^''\"]+)[''\"]', 1))"
    rows = f"(select *, {skus} as sku from landing_rows)"
    click = _query(texts | {"event_type": "'click'", "product_id": "sku"}, "null", rows)
    return f"{search} union all {click}"
