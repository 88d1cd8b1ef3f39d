"""Snowflake as the warehouse. What it must find there is made by `deployments/snowflake/setup.sql`."""

import base64
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

import pyarrow as pa
import snowflake.connector
from snowflake.connector.errors import DatabaseError, Error

from boat.errors import BoatError, SettingError
from boat.warehouse.duckdb import DuckDBTransaction, scratch

if TYPE_CHECKING:
    from snowflake.connector import SnowflakeConnection
    from snowflake.connector.cursor import ResultMetadata, SnowflakeCursor

STATEMENT_TIMEOUT_SECONDS = 3600
LOGIN_TIMEOUT_SECONDS = 30
NETWORK_TIMEOUT_SECONDS = 120
"""How long the connector repeats a request: without it an answer of HTTP 500 is asked for again for many minutes."""

LANDING_STAGE, LANDING_ROWS = "raw.landing", "raw.landing_rows"
TURN = "raw.turn"
SNAPSHOT_STAGE = "raw.snapshots"
_FILE_BYTES = "128MB"  # Snowflake's advice for files that are loaded in parallel: 100 to 250 MB
_WRONG_LOGIN = range(390100, 390200)
_OPTIONS = ("host", "port", "protocol", "unload")

_FIXED, _REAL, _TEXT, _DATE, _TIMESTAMP_NTZ, _BOOLEAN = 0, 1, 2, 3, 8, 13
_ARROW = {
    _REAL: pa.float64(),
    _TEXT: pa.string(),
    _DATE: pa.date32(),
    _TIMESTAMP_NTZ: pa.timestamp("us"),
    _BOOLEAN: pa.bool_(),
}
_DUCKDB = {pa.int64(): "bigint", pa.float64(): "double", pa.date32(): "date", pa.bool_(): "boolean"}


@dataclass(frozen=True)
class Login:
    """Who connects where, by key pair.

    Attributes:
        account: Account identifier, `organisation-account`.
        user: A service user with the key's public half.
        private_key: PKCS#8 DER without passphrase, in base64: what the connector, dbt and SQLAlchemy all take.
        database: Where the raw log and the marts are.
        warehouse: What computes; empty means the user's default.
        role: With the rights of `boat_load`, `boat_transform` and `boat_read`; empty means the user's default.
        host: Where the account answers if not at its own name: a private link, or an emulator.
        port: Port there.
        protocol: `https`, or `http` for an emulator.
    """

    account: str
    user: str
    private_key: str = field(repr=False)
    database: str
    warehouse: str = ""
    role: str = ""
    host: str = ""
    port: int = 443
    protocol: str = "https"

    @classmethod
    def from_key(cls, key: bytes, **parts: Any) -> "Login":
        """With the key as DER bytes."""
        return cls(private_key=base64.b64encode(key).decode(), **parts)


class SnowflakeWarehouse:
    """A Snowflake database.

    Args:
        login: Who connects where.
        tag: Query tag of every statement, such as the flow run's id: what it cost is found by it in the query history.
        unload: Whether snapshots are unloaded to a stage and fetched from there, which is the fast way for millions of
            rows; else the result is streamed, which is all that an emulator can do. The files are the same, byte by
            byte.
    """

    dialect = "snowflake"

    def __init__(self, login: Login, tag: str = "boat", unload: bool = True) -> None:
        self._login = login
        self._tag = tag
        self._unload = unload

    @contextmanager
    def transaction(self) -> Iterator["SnowflakeTransaction"]:
        """Open a connection in one transaction: committed at the end, rolled back on an error.

        A statement that defines something (`create …`) commits what came before it: Snowflake has it so.

        Raises:
            SettingError: Snowflake refuses the user, key or role.
            BoatError: It cannot be reached.
        """
        connection = self._connect()
        try:
            try:
                yield SnowflakeTransaction(connection, self._unload)
            except BaseException:
                with suppress(Error):  # the error that came first is the one to show
                    connection.rollback()
                raise
            connection.commit()
        finally:
            connection.close()

    def exclusive(self) -> AbstractContextManager[None]:
        """Nothing to do: Snowflake takes many writers."""
        return nullcontext()

    def dbt_environment(self) -> Mapping[str, str]:
        login = self._login
        return {
            "BOAT_DBT_TARGET": self.dialect,
            "BOAT_SNOWFLAKE_ACCOUNT": login.account,
            "BOAT_SNOWFLAKE_USER": login.user,
            "BOAT_SNOWFLAKE_DATABASE": login.database,
            "BOAT_SNOWFLAKE_WAREHOUSE": login.warehouse,
            "BOAT_SNOWFLAKE_ROLE": login.role,
            "BOAT_SNOWFLAKE_HOST": login.host,
            "BOAT_SNOWFLAKE_PORT": str(login.port),
            "BOAT_SNOWFLAKE_PROTOCOL": login.protocol,
            "BOAT_SNOWFLAKE_QUERY_TAG": self._tag,
            "DBT_ENV_SECRET_SNOWFLAKE_PRIVATE_KEY": login.private_key,  # of this name dbt writes no value to its logs
        }

    def sqlalchemy_url(self) -> str:
        """Without secrets: they are in `connect_arguments`."""
        return f"snowflake://{self._login.user}@{self._login.account}/{self._login.database}"

    def connect_arguments(self) -> Mapping[str, Any]:
        login = self._login
        optional = {"warehouse": login.warehouse, "role": login.role, "host": login.host}
        return {
            **{name: value for name, value in optional.items() if value},
            "account": login.account,
            "user": login.user,
            "database": login.database,
            "authenticator": "SNOWFLAKE_JWT",
            "private_key": login.private_key,
            "port": login.port,
            "protocol": login.protocol,
            "login_timeout": LOGIN_TIMEOUT_SECONDS,
            "network_timeout": NETWORK_TIMEOUT_SECONDS,
            # With the login, so that not even the first statement goes without.
            "session_parameters": {
                "QUERY_TAG": self._tag,
                "STATEMENT_TIMEOUT_IN_SECONDS": STATEMENT_TIMEOUT_SECONDS,
                "ABORT_DETACHED_QUERY": True,
                "TIMEZONE": "UTC",
                "TIMESTAMP_TYPE_MAPPING": "TIMESTAMP_NTZ",
            },
        }

    def _connect(self) -> "SnowflakeConnection":
        place = f"{self._login.account} as {self._login.user}"
        try:
            return snowflake.connector.connect(**self.connect_arguments(), autocommit=False, paramstyle="qmark")
        except Error as error:
            if error.errno in _WRONG_LOGIN:
                raise SettingError(
                    f"Snowflake refuses {place}: {error.msg}",
                    "Does the user have the public half of this key, and the role?",
                ) from error
            raise BoatError(
                f"Cannot connect to Snowflake {place}: {error.msg}", "See the account's name and the network."
            ) from error


class SnowflakeTransaction:
    """An open Snowflake connection."""

    def __init__(self, connection: "SnowflakeConnection", unload: bool) -> None:
        self._connection = connection
        self._unload = unload

    def lock(self) -> None:
        """Lock the one row of a table until the end of the transaction.

        Snowflake knows no other lock that holds: inserts do not wait for each other, and keys are not enforced. An
        update waits for the transaction of the one before it, and each statement sees what was committed before it
        (READ COMMITTED).

        Raises:
            BoatError: Another session has kept its turn all the time, or there is no such table.
        """
        try:
            self._connection.commit()
            if not self._update_turn():
                self._run(f"insert into {TURN} values (null)")
                self._connection.commit()
                self._update_turn()
        except DatabaseError as error:
            raise BoatError(
                f"Snowflake gave no turn to write to the raw log: {error.msg}",
                "Try again when the other load is done. Was this version's deployments/snowflake/setup.sql run?",
            ) from error

    def _update_turn(self) -> int:
        return self._run(f"update {TURN} set taken_at = current_timestamp()::timestamp_ntz").rowcount or 0

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> None:
        self._run(sql, parameters)

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> "pa.Table":
        """Rows of a query as Arrow; column names in lower case."""
        cursor = self._run(sql, parameters)
        return _typed(cursor.fetch_arrow_all(force_return_table=True), _schema(cursor.description))

    def export(self, sql: str, path: Path, order_by: Sequence[str]) -> int:
        """Write a query's rows to one Parquet file, in the order of these columns; returns the number of rows."""
        if self._unload:
            return self._export_unloaded(sql, path, order_by)
        cursor = self._run(sql)
        schema = _schema(cursor.description)
        batches = (batch for rows in cursor.fetch_arrow_batches() for batch in _typed(rows, schema).to_batches())
        with scratch() as local:
            local.register("result", pa.RecordBatchReader.from_batches(schema, batches))
            # Sorted here: how the stream was cut into batches would show in the file's bytes.
            return local.export("select * from result", path, order_by)

    def scratch(self) -> AbstractContextManager[DuckDBTransaction]:
        """A DuckDB on this machine, to read and judge files with before they go to the warehouse."""
        return scratch()

    @contextmanager
    def received(self, local: DuckDBTransaction, sql: str) -> Iterator[str]:
        """Rows of a query on the scratch DuckDB, as something to select from here.

        They go as Parquet through a stage into one column of a transient table, in this very transaction: a table of
        their own would have to be created, and that commits.
        """
        columns = local.query(f"describe {sql}").to_pylist()
        # A time as text says the same to every reader of Parquet.
        texts = {c["column_name"] for c in columns if c["column_type"] == "TIMESTAMP"}
        written = ", ".join(
            f"cast({c['column_name']} as varchar) as {c['column_name']}"
            if c["column_name"] in texts
            else c["column_name"]
            for c in columns
        )
        with tempfile.TemporaryDirectory(prefix="boat-landing-") as folder:
            local.execute(
                f"copy (select {written} from ({sql})) to '{folder}/rows' "
                f"(format parquet, compression zstd, per_thread_output, file_size_bytes '{_FILE_BYTES}')"
            )
            self._copy_in(Path(folder) / "rows")
        read = ", ".join(f"record:{c['column_name']}::{c['column_type']} as {c['column_name']}" for c in columns)
        yield f"(select {read} from {LANDING_ROWS})"
        self._run(f"delete from {LANDING_ROWS}")

    def _copy_in(self, folder: Path) -> None:
        place = f"@{LANDING_STAGE}/{uuid.uuid4().hex}"  # a name of its own: files of a name loaded before are skipped
        try:
            self._run(f"put 'file://{folder}/*.parquet' {place} auto_compress = false parallel = 8")
            self._run(f"copy into {LANDING_ROWS} from {place} file_format = (type = parquet) purge = true")
        except DatabaseError as error:
            raise BoatError(
                f"Snowflake did not take the rows: {error.msg}", "Was deployments/snowflake/setup.sql run?"
            ) from error

    def _export_unloaded(self, sql: str, path: Path, order_by: Sequence[str]) -> int:
        schema = _schema(self._connection.cursor().describe(sql))
        # As a number, a time loses nothing: unloaded as a time it is cut to milliseconds.
        selected = ", ".join(
            f"date_part(epoch_microsecond, {column.name}) as {column.name}" if _is_time(column) else column.name
            for column in schema
        )
        place = f"@{SNAPSHOT_STAGE}/{uuid.uuid4().hex}/"
        with tempfile.TemporaryDirectory(prefix="boat-unload-") as folder, scratch() as local:
            try:
                done = self._run(
                    f"copy into {place} from (select {selected} from ({sql})) "
                    "file_format = (type = parquet) header = true max_file_size = 134217728"
                ).fetchall()
                if done[0][0]:  # rows unloaded; none make no file
                    self._run(f"get {place} 'file://{folder}/' parallel = 8")
            finally:
                self._run(f"remove {place}")
            return local.export(_reading(Path(folder), schema), path, order_by)

    def _run(self, sql: str, parameters: Sequence[Any] = ()) -> "SnowflakeCursor":
        cursor = self._connection.cursor()
        cursor.execute(sql, tuple(parameters) or None)
        return cursor


def from_url(url: str) -> SnowflakeWarehouse:
    """The warehouse of `snowflake://NAME`, a connection in the connector's own `connections.toml`.

    Raises:
        SettingError: There is none of that name, or it has no key pair.
    """
    from snowflake.connector.config_manager import CONFIG_MANAGER

    name, options = parse(url)
    try:
        connections: Any = CONFIG_MANAGER["connections"]
        known = dict(connections[name])
        key = _read_key(Path(known["private_key_file"]), known.get("private_key_file_pwd"))
        login = Login.from_key(
            key,
            **{part: known[part] for part in ("account", "user", "database")},
            **{part: known[part] for part in ("warehouse", "role") if part in known},
            **options.login,
        )
    except (Error, KeyError, OSError, ValueError) as error:
        raise SettingError(
            f"{url!r}: no connection {name!r} with account, user, database and private_key_file ({error}).",
            "Write it into ~/.snowflake/connections.toml; in a flow, it is the name of a Snowflake Connector block.",
        ) from error
    return SnowflakeWarehouse(login, unload=options.unload)


@dataclass(frozen=True)
class SnowflakeOptions:
    """What a URL can say beside the connection's name: `?host=…&port=…&protocol=…&unload=false`."""

    login: Mapping[str, Any]
    unload: bool


def parse(url: str) -> tuple[str, SnowflakeOptions]:
    """The connection's or block's name, and the options.

    Raises:
        SettingError: No name, or an unknown option.
    """
    parts = urlsplit(url)
    given = dict(parse_qsl(parts.query))
    # The URL itself is not shown: somebody may have put a password in.
    if not parts.netloc or parts.path.strip("/") or parts.username:
        raise SettingError("The Snowflake URL names no connection.", "Write snowflake://NAME, and no secrets.")
    if unknown := given.keys() - set(_OPTIONS):
        raise SettingError(
            f"snowflake://{parts.netloc} has the unknown option {min(unknown)!r}.", f"Use {', '.join(_OPTIONS)}."
        )
    unload = given.pop("unload", "true") != "false"
    if not given.get("port", "0").isdigit():
        raise SettingError(f"snowflake://{parts.netloc} has the port {given['port']!r}.", "Write a number.")
    place = {name: int(value) if name == "port" else value for name, value in given.items()}
    return parts.netloc, SnowflakeOptions(place, unload)


def _read_key(path: Path, passphrase: str | None) -> bytes:
    from cryptography.hazmat.primitives import serialization

    key = serialization.load_pem_private_key(
        path.expanduser().read_bytes(), passphrase.encode() if passphrase else None
    )
    return key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _schema(description: "Sequence[ResultMetadata]") -> pa.Schema:
    """The Arrow types that DuckDB has for the same columns."""
    fields = []
    for column in description:
        kind = pa.int64() if column.type_code == _FIXED and not column.scale else _ARROW.get(column.type_code)
        if column.type_code == _FIXED and column.scale:
            kind = pa.decimal128(column.precision or 38, column.scale)
        fields.append(pa.field(column.name.lower(), kind or pa.string()))
    return pa.schema(fields)


def _typed(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    # Unsafe: Snowflake's times have nanoseconds, of which ours use none.
    return rows.rename_columns(schema.names).cast(schema, safe=False)


def _is_time(column: pa.Field) -> bool:
    return bool(pa.types.is_timestamp(column.type))


def _reading(folder: Path, schema: pa.Schema) -> str:
    """The query for unloaded files, with the types that a DuckDB warehouse would give."""
    columns = ", ".join(
        f"make_timestamp({c.name}::bigint) as {c.name}" if _is_time(c) else f"{c.name}::{_duckdb_type(c)} as {c.name}"
        for c in schema
    )
    if any(folder.iterdir()):
        return f"select {columns} from read_parquet('{folder}/*.parquet')"
    nothing = ", ".join(f"null as {column.name}" for column in schema)
    return f"select {columns} from (select {nothing}) where false"  # no rows, no file


def _duckdb_type(column: pa.Field) -> str:
    if pa.types.is_decimal(column.type):
        return f"decimal({column.type.precision}, {column.type.scale})"
    return _DUCKDB.get(column.type, "varchar")
