"""Temporary tables and views of DuckDB that `boat.landing` and `boat.raw_log` use while they read files."""

from collections.abc import Mapping

TEMPORARY: Mapping[str, str] = {
    "landing_rows": "view of the records of a file: record, line, and c0, c1, … or json",
    "landing_text": "records of a file as text; landing_rows reads it if the lines of the records are needed",
    "landing_shifts": "records of a CSV file from which on lines run ahead of records, with the shift",
    "landing_lines": "lines that become dead letters for the same reason",
    "landing_failed": "dead letters of a file, with the columns of raw.dead_letters except load_id",
    "landing_events": "view of typed events of a file, with row, line, flaw and has_id",
    "landing_events_typed": "table behind landing_events",
    "landing_equal": "new ids of equal purchases, adds and removes of a file",
    "landing_repeats": "rows of events with the id of an earlier event of the same file",
    "landing_products": "view of typed products of a catalogue, with row, line and flaw",
    "landing_names": "view of product names in the second file of a Coveo catalogue",
    "landing_texts": "rows that may contain the id of a client, as text, with their lines",
    "landing_own": "lines of the rows of a client",
    "preview": "view of typed rows of a file for boat load --dry-run, with flaw",
}
"""Description of each table or view by name. They belong to one DuckDB connection or transaction and end with it."""
