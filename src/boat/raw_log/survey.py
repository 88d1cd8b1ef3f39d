"""Rows of one client in tables of the warehouse and in Parquet files."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from boat.events import plain_name
from boat.raw_log import tables
from boat.raw_log.traces import CLIENT_NAMES, Client, Match, batches, spellings
from boat.warehouse import Transaction
from boat.warehouse.duckdb import DuckDBTransaction, scratch

_RAW = tables.SCHEMA


def client_tables(transaction: Transaction) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield tables with shops or sessions, the raw log first, with the types of their columns by name."""
    columns = transaction.query(
        """select lower(c.table_schema) as schema_name, lower(c.table_name) as table_name,
            c.column_name as column_name, lower(c.data_type) as data_type
        from information_schema.columns as c
        join information_schema.tables as t on t.table_schema = c.table_schema and t.table_name = c.table_name
        where t.table_type = 'BASE TABLE' and lower(c.table_schema) <> 'information_schema'"""
    ).to_pylist()
    types_of: dict[str, dict[str, str]] = {}
    for row in columns:
        types_of.setdefault(f"{row['schema_name']}.{row['table_name']}", {})[row["column_name"]] = row["data_type"]
    events = f"{_RAW}.events"
    for table, types in sorted(types_of.items(), key=lambda item: (item[0] != events, item[0])):
        if {"shop", "session_key"} & set(map(str.lower, types)):
            yield table, types


@dataclass(frozen=True)
class ClientRows:
    """Rows of a client in a table.

    Attributes:
        conditions: SQL conditions, with parameters, of the rows to erase. A row can meet several of them.
        rows: Number of these rows.
        mentions: Number of other rows with the id, by column.
        linked: Other client ids of the rows to erase.
    """

    conditions: tuple[tuple[str, list[str]], ...]
    rows: int
    mentions: Mapping[str, int]
    linked: frozenset[str]


def find_rows(
    transaction: Transaction | DuckDBTransaction, relation: str, types: Mapping[str, str], client: Client
) -> ClientRows:
    """Find the rows of a client in a table or in Parquet files.

    Args:
        transaction: Transaction of the warehouse, or of a local DuckDB.
        relation: Table or expression to select from.
        types: Types of its columns, by the names in the database.
        client: The client.
    """
    names = {name.lower(): name for name in types}
    of_shop, shop = ("shop = ?", [client.shop]) if "shop" in names else _of_shop(client)
    by_client, ids = _by_client(names, client)
    not_by_client = f"not coalesce({by_client}, false)"
    by_session = list(_by_session(names, client))
    conditions = [(f"{of_shop} and {by_client}", [*shop, *ids])]
    conditions += [(f"{condition} and {not_by_client}", [*parameters, *ids]) for condition, parameters in by_session]
    rows = sum(count_rows(transaction, relation, *condition) for condition in conditions)
    texts = [name for name, data_type in types.items() if _is_searched(name, data_type)]
    values: dict[str, set[str]] = {}
    mentions: Counter[str] = Counter()
    linked = set()
    is_of_session = _session_check(client)
    for row in _candidates(transaction, relation, names, texts, client):
        if is_of_session(row):
            continue
        matches = {name: _match(name, row[name.lower()], client) for name in texts}
        if Match.OWN not in matches.values():
            mentions.update({name.lower(): row["n"] for name, match in matches.items() if match is Match.MENTION})
            continue
        rows += row["n"]
        linked |= {row["client_id"]} if row.get("client_id") else set()
        for name, match in matches.items():
            if match is Match.OWN:
                values.setdefault(name, set()).add(row[name.lower()])
    for name, own in sorted(values.items()):
        for batch in batches(sorted(own)):
            conditions.append((f'{of_shop} and "{name}" in ({", ".join("?" * len(batch))})', [*shop, *batch]))
    return ClientRows(tuple(conditions), rows, mentions, frozenset(linked))


def find_rows_in_files(files: Sequence[str], client: Client) -> ClientRows:
    """Find the rows of a client in Parquet files."""
    paths = ", ".join("'" + path.replace("'", "''") + "'" for path in files)
    relation = f"read_parquet([{paths}], union_by_name = true)"
    with scratch() as local:
        described = local.query(f"describe from {relation}").to_pylist()
        columns = {row["column_name"]: row["column_type"].lower() for row in described}
        return find_rows(local, relation, columns, client)


def _of_shop(client: Client) -> tuple[str, list[str]]:
    """Return the condition of rows of the client's shop in a table that has session keys and no shop."""
    prefixes = [f"{part}:" for part in _key_parts(client.shop)]
    return f"({' or '.join(f'left(session_key, {len(prefix)}) = ?' for prefix in prefixes)})", prefixes


def _by_client(names: Mapping[str, str], client: Client) -> tuple[str, list[str]]:
    """Return the condition of rows with the id in a column of clients."""
    conditions = [client.has_id(f'"{name}"') for name in names.values() if plain_name(name) in CLIENT_NAMES]
    return (
        f"({' or '.join(condition for condition, _ids in conditions) or '1 = 0'})",
        [parameter for _condition, ids in conditions for parameter in ids],
    )


def _by_session(names: Mapping[str, str], client: Client) -> Iterator[tuple[str, list[str]]]:
    """Yield conditions of rows of the client's sessions. No row meets two of them."""
    if "session_key" in names:
        for cut, not_cut in _cut_prefixes(client):
            yield f"left(session_key, {len(cut)}) = ? and left(session_key, {len(not_cut)}) <> ?", [cut, not_cut]
        for keys in batches(sorted(_session_keys(client))):
            yield f"session_key in ({', '.join('?' * len(keys))})", list(keys)
    elif {"shop", "client_id", "session_id"} <= names.keys():
        yield from client.without_client(client.sessions)


def _session_check(client: Client) -> Callable[[Mapping[str, Any]], bool]:
    """Return the conditions of `_by_session` as a function of a row."""
    cuts, keys = tuple(_cut_prefixes(client)), _session_keys(client)

    def is_of_session(row: Mapping[str, Any]) -> bool:
        if (key := row.get("session_key")) is not None:
            return key in keys or any(key.startswith(cut) and not key.startswith(not_cut) for cut, not_cut in cuts)
        return row.get("client_id", "") is None and row.get("session_id") in client.sessions

    return is_of_session


def _key_parts(text: str) -> tuple[str, ...]:
    """Return an id as a part of session keys: as dbt's `key_part` writes it, and as earlier versions did."""
    parts = {part for spelling in spellings(text) for part in (spelling, _escaped(spelling))}
    return tuple(sorted(parts))


def _escaped(text: str) -> str:
    return text.replace("%", "%25").replace(":", "%3A")


def _cut_prefixes(client: Client) -> Iterator[tuple[str, str]]:
    """Yield the prefix of keys of sessions cut from the client's events, and the prefix of others that share it."""
    for shop in _key_parts(client.shop):
        for client_id in _key_parts(client.client_id):
            cut = f"{shop}:{client_id}:"
            yield cut, f"{cut}client:"  # parts of a session of this id


def _session_keys(client: Client) -> set[str]:
    """Return the keys of sessions with a session id."""
    shops, clients = _key_parts(client.shop), _key_parts(client.client_id)
    own = {f"{shop}:{part}" for session in client.sessions for part in _key_parts(session) for shop in shops}
    return own | {
        f"{shop}:{part}:client:{client_id}"
        for session in client.shared
        for part in _key_parts(session)
        for shop in shops
        for client_id in clients
    }


def _is_searched(name: str, data_type: str) -> bool:
    """Return whether a column is searched for the id, in addition to columns of clients and sessions."""
    is_text = data_type in {"varchar", "text"}
    return is_text and plain_name(name) not in {
        *CLIENT_NAMES,
        *map(plain_name, ("shop", "session_key", "load_id", "event_type")),
    }


def _is_id(name: str) -> bool:
    """Return whether values of a column are compared as a whole."""
    return name.lower().endswith("_id")


def _match(name: str, value: str | None, client: Client) -> Match:
    if value is None:
        return Match.NONE
    if _is_id(name):
        return Match.MENTION if value.strip() in client.ids else Match.NONE
    return client.match(value, name)


def _candidates(
    transaction: Transaction | DuckDBTransaction,
    relation: str,
    names: Mapping[str, str],
    texts: Sequence[str],
    client: Client,
) -> list[dict[str, Any]]:
    """Return groups of equal rows (`n`) that may contain the id in a text, without rows that `_by_client` finds."""
    if not texts:
        return []
    of_shop, parameters = ("shop = ?", [client.shop]) if "shop" in names else _of_shop(client)
    by_client, ids = _by_client(names, client)
    parameters = [*parameters, *ids]
    conditions = []
    for name in texts:
        condition, values = client.has_id(f'"{name}"') if _is_id(name) else (client.may_be_in(f'"{name}"'), [])
        conditions.append(condition)
        parameters += values
    keys = [names[key] for key in ("client_id", "session_id", "session_key") if key in names]
    columns = [f'"{name}"' for name in dict.fromkeys([*keys, *texts])]
    groups: list[dict[str, Any]] = transaction.query(
        f"""select {", ".join(columns)}, count(*) as n from {relation}
        where {of_shop} and not coalesce({by_client}, false) and ({" or ".join(conditions)})
        group by {", ".join(columns)}""",
        parameters,
    ).to_pylist()
    return groups


def count_rows(transaction: Transaction | DuckDBTransaction, table: str, condition: str, parameters: list[str]) -> int:
    """Return the number of rows that meet a condition."""
    rows: int = transaction.query(f"select count(*) as n from {table} where {condition}", parameters)["n"][0].as_py()
    return rows
