"""Snowflake as the warehouse. `deployments/snowflake/setup.sql` creates the objects that it needs."""

import base64
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
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
"""Limit for the connector's retries of a request. Its default repeats an HTTP 500 for many minutes."""

LANDING_STAGE, LANDING_ROWS = "raw.landing", "raw.landing_rows"
LOCK_TABLE = "raw.turn"
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
    """Account and credentials of a connection with a key pair.

    Attributes:
        account: Account identifier, `organisation-account`.
        user: Service user with the public key.
        private_key: PKCS#8 DER without passphrase, in base64, for the connector, dbt and SQLAlchemy.
        database: Database of the raw log and the marts.
        warehouse: Snowflake warehouse for queries. Empty: the user's default.
        role: Role with the rights of `boat_load`, `boat_transform` and `boat_read`. Empty: the user's default.
        host: Address of the account, if it is not the default one: a private link, or an emulator.
        port: Port of the host.
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
        """Create a login from a key in DER bytes."""
        return cls(private_key=base64.b64encode(key).decode(), **parts)


class SnowflakeWarehouse:
    """A Snowflake database.

    Args:
        login: Account and credentials.
        tag: Query tag of every statement, such as the flow run's id. The query history shows its cost.
        unload: Whether to unload snapshots to a stage and download them, which is fast for millions of rows. False
            streams the result, because emulators cannot unload. Both give the same bytes.
    """

    dialect = "snowflake"
    spill_folder = None

    def __init__(self, login: Login, tag: str = "boat", unload: bool = True) -> None:
        self._login = login
        self._tag = tag
        self._unload = unload

    @contextmanager
    def transaction(self) -> Iterator["SnowflakeTransaction"]:
        """Open a connection in a transaction, which is committed at the end or rolled back after an error.

        Snowflake commits the transaction before each DDL statement (`create …`).

        Raises:
            SettingError: Snowflake refuses the user, key or role.
            BoatError: Snowflake does not answer.
        """
        connection = self._connect()
        try:
            try:
                yield SnowflakeTransaction(connection, self._unload)
            except BaseException:
                with suppress(Error):  # the first error is the one to show
                    connection.rollback()
                raise
            connection.commit()
        finally:
            connection.close()

    def exclusive(self) -> AbstractContextManager[None]:
        """Do nothing: Snowflake supports many writers."""
        return nullcontext()

    def publish_copy(self) -> None:
        """Do nothing: readers of Snowflake never block writers."""

    def renew_copies(self) -> None:
        """Do nothing: there are no copies."""

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
            "DBT_ENV_SECRET_SNOWFLAKE_PRIVATE_KEY": login.private_key,  # dbt masks this prefix in its logs
        }

    def sqlalchemy_url(self) -> str:
        """Return a URL without secrets, which are in `connect_arguments`."""
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
            # Set at login, so that they apply to the first statement too.
            "session_parameters": {
                "QUERY_TAG": self._tag,
                "STATEMENT_TIMEOUT_IN_SECONDS": STATEMENT_TIMEOUT_SECONDS,
                "ABORT_DETACHED_QUERY": True,
                "TIMEZONE": "UTC",
                "TIMESTAMP_TYPE_MAPPING": "TIMESTAMP_NTZ",
            },
        }

    def _connect(self) -> "SnowflakeConnection":
        account = f"{self._login.account} as user {self._login.user}"
        try:
            return snowflake.connector.connect(**self.connect_arguments(), autocommit=False, paramstyle="qmark")
        except Error as error:
            if error.errno in _WRONG_LOGIN:
                raise SettingError(
                    f"Snowflake refused the login to {account}: {error.msg}",
                    "Check that the user has the public key of this private key, and the role.",
                ) from error
            raise BoatError(
                f"Cannot connect to Snowflake account {account}: {error.msg}",
                "Check the name of the account and the network.",
            ) from error


class SnowflakeTransaction:
    """An open Snowflake connection in a transaction."""

    def __init__(self, connection: "SnowflakeConnection", unload: bool) -> None:
        self._connection = connection
        self._unload = unload

    def lock(self) -> None:
        """Lock the one row of a table until the end of the transaction.

        Snowflake has no other usable lock: inserts do not wait for each other, and keys are not enforced. An update
        waits for the transaction of an earlier update, and each statement sees all earlier commits (READ COMMITTED).

        Raises:
            BoatError: Another transaction holds the lock for too long, or the table does not exist.
        """
        try:
            self._connection.commit()
            if not self._update_lock():
                self._run(f"insert into {LOCK_TABLE} values (null)")
                self._connection.commit()
                self._update_lock()
        except DatabaseError as error:
            raise BoatError(
                f"Cannot lock the raw log on Snowflake: {error.msg}",
                "Retry after the other load has finished. Check that this version's deployments/snowflake/setup.sql "
                "was run.",
            ) from error

    def _update_lock(self) -> int:
        return self._run(f"update {LOCK_TABLE} set taken_at = current_timestamp()::timestamp_ntz").rowcount or 0

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> None:
        self._run(sql, parameters)

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> "pa.Table":
        """Return the rows of a query as an Arrow table with column names in lower case."""
        cursor = self._run(sql, parameters)
        return _typed(cursor.fetch_arrow_all(force_return_table=True), _schema(cursor.description))

    def watched(self, report: Callable[[float], None]) -> AbstractContextManager[None]:
        """Do nothing: Snowflake does not say how far a statement is."""
        return nullcontext()

    def export(self, sql: str, path: Path, order_by: Sequence[str]) -> int:
        """Write the rows of a query to a Parquet file, sorted by `order_by`. Return the number of rows."""
        if self._unload:
            return self._export_unloaded(sql, path, order_by)
        cursor = self._run(sql)
        schema = _schema(cursor.description)
        batches = (batch for rows in cursor.fetch_arrow_batches() for batch in _typed(rows, schema).to_batches())
        with scratch() as local:
            local.register("result", pa.RecordBatchReader.from_batches(schema, batches))
            # Sorted here, so that the file's bytes do not depend on how the stream is cut into batches.
            return local.export("select * from result", path, order_by)

    def scratch(self) -> AbstractContextManager[DuckDBTransaction]:
        """Open a DuckDB on this machine to read and validate files in, before their rows are uploaded."""
        return scratch()

    @contextmanager
    def upload(self, local: DuckDBTransaction, sql: str) -> Iterator[str]:
        """Upload the rows of a query on the scratch DuckDB, and return a relation to select them from.

        The rows go as Parquet through a stage into one column of an existing transient table. A new table cannot be
        created within the transaction, because Snowflake commits it before DDL.
        """
        columns = local.query(f"describe {sql}").to_pylist()
        # Readers of Parquet interpret timestamps differently, but not text.
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
        stage = f"@{LANDING_STAGE}/{uuid.uuid4().hex}"  # a new path: Snowflake skips names that were loaded before
        try:
            self._run(f"put 'file://{folder}/*.parquet' {stage} auto_compress = false parallel = 8")
            self._run(f"copy into {LANDING_ROWS} from {stage} file_format = (type = parquet) purge = true")
        except DatabaseError as error:
            raise BoatError(
                f"Snowflake did not accept the uploaded rows: {error.msg}",
                "Check that deployments/snowflake/setup.sql was run.",
            ) from error

    def _export_unloaded(self, sql: str, path: Path, order_by: Sequence[str]) -> int:
        schema = _schema(self._connection.cursor().describe(sql))
        # Snowflake cuts unloaded timestamps to milliseconds, so they are unloaded as numbers.
        selected = ", ".join(
            f"date_part(epoch_microsecond, {column.name}) as {column.name}" if _is_time(column) else column.name
            for column in schema
        )
        stage = f"@{SNAPSHOT_STAGE}/{uuid.uuid4().hex}/"
        with tempfile.TemporaryDirectory(prefix="boat-unload-") as folder, scratch() as local:
            try:
                summary = self._run(
                    f"copy into {stage} from (select {selected} from ({sql})) "
                    "file_format = (type = parquet) header = true max_file_size = 134217728"
                ).fetchall()
                if summary[0][0]:  # number of rows; without rows there is no file
                    self._run(f"get {stage} 'file://{folder}/' parallel = 8")
            finally:
                self._run(f"remove {stage}")
            return local.export(_reading(Path(folder), schema), path, order_by)

    def _run(self, sql: str, parameters: Sequence[Any] = ()) -> "SnowflakeCursor":
        cursor = self._connection.cursor()
        cursor.execute(sql, tuple(parameters) or None)
        return cursor


def from_url(url: str) -> SnowflakeWarehouse:
    """Return the warehouse of `snowflake://NAME`, a connection in the connector's `connections.toml`.

    Raises:
        SettingError: There is no connection of that name, or it has no key pair.
    """
    from snowflake.connector.config_manager import CONFIG_MANAGER

    name, options = parse(url)
    try:
        connections: Any = CONFIG_MANAGER["connections"]
        connection = dict(connections[name])
        key = _read_key(Path(connection["private_key_file"]), connection.get("private_key_file_pwd"))
        login = Login.from_key(
            key,
            **{part: connection[part] for part in ("account", "user", "database")},
            **{part: connection[part] for part in ("warehouse", "role") if part in connection},
            **options.login,
        )
    except (Error, KeyError, OSError, ValueError) as error:
        raise SettingError(
            f"There is no connection {name!r} with account, user, database and private_key_file ({error}).",
            "Add it to ~/.snowflake/connections.toml. In a flow, use the name of a Snowflake Connector block.",
        ) from error
    return SnowflakeWarehouse(login, unload=options.unload)


@dataclass(frozen=True)
class SnowflakeOptions:
    """Options of a Snowflake URL: `?host=…&port=…&protocol=…&unload=false`. `login` has the fields of `Login`."""

    login: Mapping[str, Any]
    unload: bool


def parse(url: str) -> tuple[str, SnowflakeOptions]:
    """Parse a URL into the name of the connection or block, and the options.

    Raises:
        SettingError: The URL has no name, or an unknown option.
    """
    parts = urlsplit(url)
    texts = dict(parse_qsl(parts.query))
    # The URL is not shown, because it may contain a password.
    if not parts.netloc or parts.path.strip("/") or parts.username:
        raise SettingError(
            "The Snowflake URL has no connection name, or more than that.", "Write snowflake://NAME, and no secrets."
        )
    if unknown := texts.keys() - set(_OPTIONS):
        raise SettingError(
            f"snowflake://{parts.netloc} has the unknown option {min(unknown)!r}.", f"Use {', '.join(_OPTIONS)}."
        )
    unload = texts.pop("unload", "true") != "false"
    if not texts.get("port", "0").isdigit():
        raise SettingError(f"snowflake://{parts.netloc} has the port {texts['port']!r}.", "Write a number.")
    login = {name: int(value) if name == "port" else value for name, value in texts.items()}
    return parts.netloc, SnowflakeOptions(login, unload)


def _read_key(path: Path, passphrase: str | None) -> bytes:
    from cryptography.hazmat.primitives import serialization

    key = serialization.load_pem_private_key(
        path.expanduser().read_bytes(), passphrase.encode() if passphrase else None
    )
    return key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _schema(description: "Sequence[ResultMetadata]") -> pa.Schema:
    """Return the schema that DuckDB gives to the same columns."""
    fields = []
    for column in description:
        kind = pa.int64() if column.type_code == _FIXED and not column.scale else _ARROW.get(column.type_code)
        if column.type_code == _FIXED and column.scale:
            kind = pa.decimal128(column.precision or 38, column.scale)
        fields.append(pa.field(column.name.lower(), kind or pa.string()))
    return pa.schema(fields)


def _typed(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    # An unsafe cast: Snowflake's times have nanoseconds, which Boat does not use.
    return rows.rename_columns(schema.names).cast(schema, safe=False)


def _is_time(column: pa.Field) -> bool:
    return bool(pa.types.is_timestamp(column.type))


def _reading(folder: Path, schema: pa.Schema) -> str:
    """Return the query for unloaded files, with the types of a DuckDB warehouse."""
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
