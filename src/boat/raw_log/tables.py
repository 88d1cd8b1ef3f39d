"""The raw log's tables: append-only, typed, with where each row came from."""

from typing import TYPE_CHECKING

from boat.events import COLUMNS

if TYPE_CHECKING:
    from boat.warehouse import Transaction

SCHEMA = "raw"
ERASED = "erased"
"""Kind of a ledger row for bytes that a file once had and must not bring back: nothing of it is in the log."""

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

`loads` is the file ledger: one row a file, `received = accepted + duplicate + failed`, `digest` is the SHA-256 of
its bytes. `extra` is JSON as text. `products` holds every catalogue row ever loaded; the newest of a product counts.
`dead_letters` holds what failed: `reason` is of `boat.landing.Reason` or `boat.collect.Reason`, `payload` is the row
as it came.
"""


def ensure(transaction: "Transaction", schema: str = SCHEMA) -> None:
    """Make what is missing: a loader without the right to make a schema or a table can append to those there."""
    schemas = transaction.query(f"select 1 as n from information_schema.schemata where lower(schema_name) = '{schema}'")
    tables = transaction.query(
        f"select lower(table_name) as name from information_schema.tables where lower(table_schema) = '{schema}'"
    )
    if not schemas.num_rows:
        transaction.execute(f"create schema if not exists {schema}")
    for name in TABLES.keys() - set(tables["name"].to_pylist()):
        transaction.execute(f"create table if not exists {schema}.{name} ({TABLES[name]})")
