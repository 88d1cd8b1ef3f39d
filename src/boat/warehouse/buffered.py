"""A SQLAlchemy dialect for DuckDB whose results can be read after their connection is closed.

Great Expectations reads the rows of a metric after the connection is back in the pool. duckdb-engine fetches rows
lazily from that connection, so every metric fails. This dialect fetches the few rows of a metric with the statement.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from duckdb_engine import Dialect
from sqlalchemy import URL
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.postgresql.psycopg2 import PGExecutionContext_psycopg2
from sqlalchemy.engine.cursor import FullyBufferedCursorFetchStrategy

_NAME = "duckdb_buffered"


class _BufferedExecutionContext(PGExecutionContext_psycopg2):
    def post_exec(self) -> None:
        if self.cursor is not None and self.cursor.description:
            rows = self.cursor.fetchall()
            self.cursor_fetch_strategy = FullyBufferedCursorFetchStrategy(  # type: ignore[no-untyped-call]
                self.cursor, initial_buffer=rows
            )


class BufferedDialect(Dialect):
    """duckdb-engine's dialect with rows fetched at once."""

    supports_statement_cache = True
    execution_ctx_cls = _BufferedExecutionContext

    def connect(self, *arguments: Any, settings: Mapping[str, str], **options: Any) -> Any:
        """Connect, and set DuckDB's limits afterwards: all connections to a file must be opened with the same ones."""
        connection = super().connect(*arguments, **options)
        for name, value in settings.items():
            connection.execute(f"set {name} = '{value}'")
        return connection


def url(path: Path) -> str:
    """Register the dialect with SQLAlchemy and return the URL of a DuckDB file in it."""
    registry.register(_NAME, __name__, BufferedDialect.__name__)
    return URL.create(_NAME, database=str(path)).render_as_string()
