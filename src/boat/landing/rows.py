"""SQL that reads the rows of each kind of file into the columns of the raw log, all still text and nothing judged yet.

Each query reads the temporary view `landing_rows` (`record`: 0 for a file's first row; `line`; then `c0`, `c1`, … or,
for NDJSON, `json`) and gives `record`, `line`, `flaw` (what is wrong with a row already, else null) and the columns of
the target table.
"""

import glob
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from boat.errors import DataError
from boat.events import COLUMNS
from boat.landing.dead_letters import Reason
from boat.landing.files import Kind, LandingFile, column_names, first_keys

EVENT_FIELDS = (*(column.name for column in COLUMNS), "schema_version")
PRODUCT_FIELDS = ("shop", "product_id", "product_name", "category", "price")
_AS_IT_IS = "hive_partitioning = false"  # else a folder called `day=2024-01-01` adds a column
_VECTORS = ("description_vector", "image_vector")
_COVEO_EVENT = {"session_id": "session_id_hash", "event_time": "server_timestamp_epoch_ms"}


@dataclass(frozen=True)
class Layout:
    """How one kind of file is written.

    Attributes:
        fields: Columns of the target table that its rows may fill.
        columns: What the file calls them where it has another name for them.
        required: Columns a file must have, by the file's names; one of each alternative.
        is_row_by_row: Whether each record is one row of the target table.
    """

    fields: tuple[str, ...]
    required: tuple[tuple[str, ...], ...]
    columns: Mapping[str, str] = field(default_factory=dict)
    is_row_by_row: bool = True

    def column(self, name: str) -> str:
        """What the file calls a column of the target table."""
        return self.columns.get(name, name)


_EVENTS = Layout(EVENT_FIELDS, (("event_time",), ("event_type",), ("session_id", "client_id")))
_ALIASES = {
    "event_time": ("timestamp", "ts"),
    "event_type": ("event",),
    "product_id": ("item_id", "itemid", "sku"),
    "session_id": ("user_session",),
    "client_id": ("user_id", "visitor_id", "visitorid"),
}
"""What other systems call a column of an event; it is read so in a file that does not have the column itself."""
LAYOUTS: Mapping[Kind, Layout] = {
    "events": _EVENTS,
    "catalogue": Layout(PRODUCT_FIELDS, (("product_id",),)),
    "coveo_browsing": Layout(
        EVENT_FIELDS,
        tuple(
            (name,)
            for name in (
                [
                    "session_id_hash",
                    "event_type",
                    "product_action",
                    "product_sku_hash",
                    "server_timestamp_epoch_ms",
                    "hashed_url",
                ]
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
    "dead_letters": Layout(("reason", "field", "message", "payload", "received_at"), ()),
}


def literal(text: str) -> str:
    """A text as SQL."""
    return "'" + text.replace("'", "''") + "'"


def is_one_of(text: str, values: Iterable[str]) -> str:
    """SQL of whether a text is one of these. Not `in (…)`: DuckDB makes a join of that, and rows lose their order."""
    return f"list_contains([{', '.join(map(literal, values))}], {text})"


def flaw_sql(reason: Reason, column: str, value: str, message: str) -> str:
    """SQL of what is wrong with a row: a JSON list of the reason, the target's column, its value and the message."""
    return f"to_json([{literal(reason)}, {literal(column)}, {value}, {literal(message)}])::varchar"


def columns(file: LandingFile) -> list[str]:
    """What the columns of a CSV or Parquet file are, in its order.

    Raises:
        DataError: The file has no header, a column twice, or misses one that files of its kind must have.
    """
    given = column_names(file)
    aliases = _aliases(file, given)
    names = [aliases.get(name, name) for name in given]
    for alternatives in LAYOUTS[file.kind].required:
        if not set(alternatives) & set(names):
            raise DataError(
                f"{file.header_place}: the column {' or '.join(alternatives)} is missing.",
                f"Give that name to the column that holds it; the file has: {', '.join(given)}.",
            )
    return names


def _aliases(file: LandingFile, names: Iterable[str]) -> dict[str, str]:
    """Columns of an event that a file has under another name, by that name."""
    if file.kind != "events":
        return {}
    missing = {column: others for column, others in _ALIASES.items() if column not in names}
    return {
        next(other for other in others if other in names): column
        for column, others in missing.items()
        if not set(others).isdisjoint(names)
    }


def reader(file: LandingFile, names: list[str]) -> str:
    """The query that reads a file: columns `c0`, `c1`, …, or `json` for NDJSON."""
    path = literal(glob.escape(str(file.path.absolute())))  # DuckDB takes `*`, `?` and `[` for patterns
    if file.format == "parquet":
        given = [name.replace('"', '""') for name in column_names(file)]
        renamed = ", ".join(f'"{name}" as c{index}' for index, name in enumerate(given))
        return f"select {renamed} from read_parquet({path}, binary_as_string = true, {_AS_IT_IS})"
    if file.format == "ndjson":
        # Lines as they are, so that a broken one can be told by its number. No JSON holds a raw control character.
        return f"""select nullif(trim(json, e' \\t\\r'), '') as json
            from read_csv({path}, columns = {{'json': 'varchar'}}, header = false, auto_detect = false, delim = '\x1f',
            quote = '', escape = '', strict_mode = false, {_AS_IT_IS})"""
    texts = ", ".join(f"'c{index}': 'varchar'" for index in range(len(names)))
    return f"""from read_csv({path}, columns = {{{texts}}}, header = true, auto_detect = false, delim = ',',
        quote = '"', escape = '"', {_AS_IT_IS})"""


def payload(file: LandingFile, names: list[str]) -> str:
    """SQL of a row of `landing_rows` as text, to keep with what is wrong with it."""
    if file.format == "ndjson":
        return "json"
    pairs = ", ".join(f"{literal(name)}, cast(c{index} as varchar)" for index, name in enumerate(names))
    return f"cast(json_object({pairs}) as varchar)"


def select(file: LandingFile, names: list[str]) -> str:
    """The query over `landing_rows` for a file with these columns."""
    if file.format == "ndjson":
        return _json_lines(file)
    table = _Table(names)
    if file.kind == "coveo_browsing":
        return _browsing(table)
    if file.kind == "coveo_search":
        return _search(table)
    layout = LAYOUTS[file.kind]
    texts = {name: table.text(layout.column(name)) for name in layout.fields}
    used = {layout.column(name) for name in layout.fields}
    return _query(texts, table.extra(used, _VECTORS if file.kind == "coveo_catalogue" else ()))


def _json_lines(file: LandingFile) -> str:
    """Rows of NDJSON, which may each have other fields."""
    fields = LAYOUTS[file.kind].fields
    aliases = {} if file.is_collected else {"user_id": "client_id"} | _aliases(file, first_keys(file))
    names = [*fields, *aliases, "extra"]
    values = f"json_extract_string(json, {[f'$.{name}' for name in names]})"
    field = {name: f"field[{position}]" for position, name in enumerate(names, 1)}
    texts = {name: field[name] for name in fields}
    is_used = ["false"]
    for alias, column in aliases.items():
        if column in fields:
            is_used.append(f"(key = {literal(alias)} and {texts[column]} is null)")
            texts[column] = f"coalesce({texts[column]}, {field[alias]})"
    given = field["extra"]
    known = [*fields, "extra"]
    keys = f"list_filter(json_keys(json), lambda key: not list_contains({known}, key) and not ({' or '.join(is_used)}))"
    pointer = "'/' || replace(replace(key, '~', '~0'), '/', '~1')"  # a JSON pointer takes any key
    pair = f"to_json(key)::varchar || ':' || json_extract(json, {pointer})::varchar"
    others = f"nullif('{{' || array_to_string(list_transform({keys}, lambda key: {pair}), ',') || '}}', '{{}}')"
    return _query(
        texts, _merged(given, others), f"(select *, {values} as field from landing_rows where json is not null)"
    )


class _Table:
    """Columns of `landing_rows`, by the file's names."""

    def __init__(self, columns: list[str]) -> None:
        self.position = {name: f"c{index}" for index, name in enumerate(columns)}

    def text(self, name: str) -> str:
        return f"cast({self.position[name]} as varchar)" if name in self.position else "null"

    def extra(self, used: Iterable[str], lists: Iterable[str] = ()) -> str:
        """JSON of the columns that are not used; those without a value are left out, and so is what JSON cannot say."""
        pairs = []
        for name, column in self.position.items():
            if name in {*used, "extra"}:
                continue
            value = f"to_json({column})::varchar"
            if name in lists:
                as_json = f"replace({column}, '''', '\"')"
                value = f"case when json_valid({as_json}) then {as_json} else {value} end"
            nothing = is_one_of(f"to_json({column})::varchar", ('""', "NaN", "Infinity", "-Infinity"))
            says = f"{column} is not null and not {nothing}"
            pairs.append(f"case when {says} then {literal(json.dumps(name) + ':')} || {value} end")
        others = f"nullif('{{' || concat_ws(',', {', '.join(pairs)}) || '}}', '{{}}')" if pairs else "null"
        return _merged(self.text("extra"), others)


def _merged(given: str, others: str) -> str:
    """`extra` as the file gives it, with its other fields; left as it is where it is no JSON, to be judged later."""
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
    layout = LAYOUTS["coveo_browsing"]
    texts = {name: table.text(layout.column(name)) for name in layout.fields}
    event_type, given = table.text("event_type"), table.text("product_action")
    # An empty action is a page view without a product, whatever the event type: so says the data set's own description.
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
    used = {*(layout.column(name) for name in layout.fields), "product_action"}
    return _query(texts, table.extra(used), flaw=flaw)


def _search(table: _Table) -> str:
    """One `search` for a row, and one `click` for each product clicked in its results."""
    layout = LAYOUTS["coveo_search"]
    texts = {name: table.text(layout.column(name)) for name in layout.fields}
    clicked = table.text("clicked_skus_hash")
    flaw = (
        f"case when {clicked} <> '' and {clicked} not similar to '\\[.*\\]' "
        f"then {flaw_sql(Reason.WRONG_TYPE, 'product_id', clicked, 'is not a list')} end"
    )
    used = {layout.column(name) for name in layout.fields}
    extra = table.extra(used, ("query_vector", "product_skus_hash"))
    search = _query(texts | {"event_type": "'search'", "product_id": "null"}, extra, flaw=flaw)
    skus = f"unnest(regexp_extract_all({clicked}, '[''\"]([^''\"]+)[''\"]', 1))"
    rows = f"(select *, {skus} as sku from landing_rows)"
    click = _query(texts | {"event_type": "'click'", "product_id": "sku"}, "null", rows)
    return f"{search} union all {click}"
