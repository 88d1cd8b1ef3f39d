"""Files of known exports: how they are recognised, and SQL that gives their columns the names of `boat.events`."""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from boat.events import COLUMNS, plain_name
from boat.landing.values import cleaned, is_one_of, literal, plain_type, trimmed

EVENT_FIELDS = (*(column.name for column in COLUMNS), "schema_version")
_COLUMN = re.compile(r"\{([\w.]+)\}")


@dataclass(frozen=True, eq=False, repr=False)
class Export:
    """One kind of file of a publisher.

    SQL in `fields`, `extras` and `source` refers to the text of column `x` of the file as `{x}`.

    Attributes:
        layout: Name of the publisher's layout, for `boat load --layout`.
        columns: Columns of the header line, or keys of the objects, that identify such a file; `a|b` is either.
        without: Columns or keys that such a file does not have.
        kind: Meaning of its rows. `orders` are not loaded; they are read with the lines of the orders.
        positions: Names of all columns, in order, of a file without a header line.
        stem: Pattern of the file name without endings, if the columns do not identify the file.
        is_like: Check of an object, in addition to its keys, for an export that is JSON only.
        fields: SQL of columns of the target table. Without it and `objects`, the names of `boat.events` apply.
        extras: SQL of further fields of `extra`.
        renamed: New names of fields of `extra`, by the publisher's names, if rows are read without SQL of this export.
        types: Event types by the publisher's names.
        has_other_types: Whether a type outside `types` is not used; otherwise its row is bad.
        types_of_products: Further types, which are used in rows with a product.
        source: Query that replaces `landing_rows`, for rows that need another file, `{companion}`.
        companion: Pattern of the name of that file in the same folder.
        objects: Builds SQL of the rows as flat JSON objects from SQL of a relation with `record`, `line` and `json`.
            A row can give several objects.
    """

    layout: str
    columns: tuple[str, ...]
    without: tuple[str, ...] = ()
    kind: Literal["events", "catalogue", "orders"] = "events"
    positions: tuple[str, ...] = ()
    stem: str = ""
    is_like: Callable[[Mapping[str, Any]], bool] | None = None
    fields: Mapping[str, str] = field(default_factory=dict)
    extras: Mapping[str, str] = field(default_factory=dict)
    renamed: Mapping[str, str] = field(default_factory=dict)
    types: Mapping[str, str] | None = None
    has_other_types: bool = False
    types_of_products: tuple[str, ...] = ()
    source: str = ""
    companion: str = ""
    objects: Callable[[str], str] | None = None

    @property
    def is_table(self) -> bool:
        """Return whether it is a table only, never JSON."""
        return bool(self.fields) or self.kind == "orders"

    @property
    def has_own_rules(self) -> bool:
        """Return whether it has rules in addition to the columns that identify a file."""
        return bool(self.fields or self.objects or self.types)

    @property
    def is_row_by_row(self) -> bool:
        """Return whether each record gives one row, in the order of the file."""
        return not self.objects and not self.source

    def missing(self, names: Iterable[str]) -> tuple[str, ...]:
        """Return the required columns that a file does not have."""
        plain = set(map(plain_name, names))
        return tuple(
            column.replace("|", " or ")
            for column in self.columns
            if not any(plain_name(name) in plain for name in column.split("|"))
        )

    def actual(self, names: Iterable[str]) -> dict[str, str]:
        """Return the name in the file of each column that SQL of this export can use."""
        plain: dict[str, str] = {}
        for name in names:
            plain.setdefault(plain_name(name), name)
        names_of: dict[str, tuple[str, ...]] = {name: (name,) for name in self.all_used()}
        names_of |= {column.split("|")[0]: tuple(column.split("|")) for column in self.columns}
        return {
            first: plain[plain_name(match)]
            for first, alternatives in names_of.items()
            if (match := next((name for name in alternatives if plain_name(name) in plain), None))
        }

    def used(self, column: str) -> tuple[str, ...]:
        """Return the columns of the file, by the names of this export, for a column of the target."""
        return tuple(_COLUMN.findall(self.fields.get(column, "")))

    def all_used(self) -> set[str]:
        """Return the columns of the file, by the names of this export, in its SQL."""
        return {name for sql in (*self.fields.values(), *self.extras.values()) for name in _COLUMN.findall(sql)}


@dataclass(frozen=True)
class Unwanted:
    """A file of a publisher without events and without a catalogue.

    Attributes:
        layout: Name of the publisher's layout.
        columns: Columns of its header line.
        reason: Reason why it is not loaded, written to follow "the file".
        stem: Pattern of its name without endings, if the columns are not enough.
    """

    layout: str
    columns: tuple[str, ...]
    reason: str
    stem: str = ""


def with_texts(sql: str, text: Callable[[str], str]) -> str:
    """Return SQL with each `{column}` replaced by its text."""
    return _COLUMN.sub(lambda match: text(match[1]), sql)


def with_types(export: Export, query: str) -> str:
    """Return a query of events with the types of `boat.events`."""
    if export.types is None:
        return query
    plain = f"({plain_type(trimmed('event_type'))})"
    names = " ".join(f"when {literal(name)} then {literal(meant)}" for name, meant in export.types.items())
    unused = "flaw"
    if export.has_other_types:
        named = "to_json(['unused', 'event_type', event_type, 'is not used'])::varchar"
        is_other = f"coalesce({plain}, '') <> '' and not {is_one_of(plain, export.types)}"
        if export.types_of_products:
            has_product = f"({cleaned('product_id')}) is not null"
            is_other += f" and not ({is_one_of(plain, export.types_of_products)} and {has_product})"
        unused = f"case when {is_other} then {named} else flaw end"
    extra = ", " + _with_new_names(export.renamed) + " as extra" if export.renamed else ""
    return f"""select * replace ({unused} as flaw, case {plain} {names} else event_type end as event_type{extra})
        from ({query})"""


def _with_new_names(renamed: Mapping[str, str]) -> str:
    has_one = " or ".join(f"contains(extra, {literal(json.dumps(name))})" for name in renamed)
    values = ", ".join(f"{literal(new)}, extra -> {literal('$.' + old)}" for old, new in renamed.items())
    nulls = ", ".join(f"{literal(name)}, null" for name in renamed)
    merged = f"json_merge_patch(json_merge_patch('{{}}', json_object({values})), extra)"
    return f"""case when extra is not null and ({has_one}) and json_valid(extra)
        then json_merge_patch({merged}, json_object({nulls}))::varchar else extra end"""


def flat(base: str, fields: Mapping[str, str], dropped: Iterable[str] = ()) -> str:
    """Return SQL of a JSON object with fields of an event, and further fields for `extra`.

    Args:
        base: SQL of an object with the further fields. Names of event columns are removed from it.
        fields: SQL by name; nulls are omitted.
        dropped: Further names to remove from `base`.
    """
    every = {**dict.fromkeys((*EVENT_FIELDS, "extra", *dropped), "null"), **fields}
    pairs = ", ".join(f"{literal(name)}, {value}" for name, value in every.items())
    return f"json_merge_patch({base}, json_object({pairs}))::varchar"
