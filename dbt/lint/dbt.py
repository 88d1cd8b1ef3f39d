"""What sqlfluff puts in place of dbt's functions: SQL of the right kind."""


def dateadd(part: str, interval: object, moment: str) -> str:
    """Return a timestamp."""
    return f"{moment} + interval '{interval}' {part}"
