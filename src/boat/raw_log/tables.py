"""Tables of the raw log: append-only, typed, with the origin of each row."""

from typing import TYPE_CHECKING

from boat.events import COLUMNS

if TYPE_CHECKING:
    from boat.warehouse import Transaction

SCHEMA = "raw"
ERASED = "erased"
"""Kind of a ledger row for earlier bytes of an erased file, which must not be loaded again."""

_PROVENANCE = "load_id varchar not null, source_file varchar not null, source_line bigint not null"

TABLES = {
    "events": f"""{", ".join(f"{column.name} {column.type}" for column in COLUMNS)},
        schema_version integer, extra varchar, {_PROVENANCE}""",
    "products": f"""shop varchar, product_id varchar, product_name varchar, category varchar, price double,
        extra varchar, {_PROVENANCE}""",
    "loads": """load_id varchar not null, source_file varchar not null, digest varchar not null, kind varchar not null,
        received bigint not null, accepted bigint not null, duplicate bigint not null, failed bigint not null,
        loaded_at timestamp not null""",
    "dead_letters": f"""{_PROVENANCE}, reason varchar not null, field varchar, message varchar, payload varchar,
        received_at timestamp not null""",
}
"""Columns of the tables, for DuckDB and Snowflake alike.

`loads` is the ledger: one row per file, `received = accepted + duplicate + failed`, and `digest` is the SHA-256 of its
bytes. `extra` is JSON as text. `products` has every catalogue row that was ever loaded; the newest of a product counts.
`dead_letters` has failed rows: `reason` is a value of `boat.landing.Reason` or `boat.collect.CollectReason`, `payload`
is the original row.
"""


def ensure(transaction: "Transaction", schema: str = SCHEMA) -> None:
    """Create missing tables. A loader without the right to create can append to existing tables."""
    schemas = transaction.query(f"select 1 as n from information_schema.schemata where lower(schema_name) = '{schema}'")
    tables = transaction.query(
        f"select lower(table_name) as name from information_schema.tables where lower(table_schema) = '{schema}'"
    )
    if not schemas.num_rows:
        transaction.execute(f"create schema if not exists {schema}")
    for name in TABLES.keys() - set(tables["name"].to_pylist()):
        transaction.execute(f"create table if not exists {schema}.{name} ({TABLES[name]})")
