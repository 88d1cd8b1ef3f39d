"""What sqlfluff puts in place of dbt's adapter."""

from collections.abc import Callable


def dispatch(name: str) -> Callable[..., str]:
    """Return a macro that becomes a column: sqlfluff knows no dialects of macros."""
    return lambda *arguments: "column_of_" + name if "dedup" not in name else "select * from events"


def get_relation(*arguments: str) -> None:
    """Return no relation: linted is a full build."""
