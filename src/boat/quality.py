"""Checks the warehouse with Great Expectations, pushed down as SQL.

A suite is a `great_expectations.ExpectationSuite` named after its table (`marts.fct_sessions`); each of its
expectations has a severity. A check passes, fails, or could not run.
"""

import copy
import json
import logging
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from shutil import rmtree
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit
from urllib.request import url2pathname

from boat import progress
from boat.errors import CheckError, QualityError
from boat.warehouse import Warehouse

if TYPE_CHECKING:
    # The import takes seconds; only a task that checks needs it.
    from great_expectations import ExpectationSuite, ValidationDefinition
    from great_expectations.core import ExpectationValidationResult
    from great_expectations.data_context.data_context.abstract_data_context import AbstractDataContext
    from great_expectations.datasource.fluent.sql_datasource import SQLDatasource
    from great_expectations.expectations.expectation import Expectation

MAX_RUNS = 30
"""Validations of each table in the Data Docs; older ones are deleted."""

_RESULTS = Path("gx") / "validations"
_PAGES = Path("data_docs")
_HISTORY = "quality.ndjson"
_CHANGED = "_changed_rows"  # ends the name of a suite for the changed rows of a table
_MAX_TEXT = 400  # characters of an observation: an error of a database can contain the whole query

Status = Literal["passed", "failed", "could not check"]


@dataclass(frozen=True)
class Check:
    """The result of one expectation.

    Attributes:
        table: Schema and table.
        rows: `changed` if only rows of the newest loads were checked.
        expectation: Type of the expectation, such as `expect_column_values_to_not_be_null`, or its description.
        column: Column or columns; `None` if the whole table is checked.
        severity: `critical`, `warning` or `info`.
        status: `passed`, `failed`, or `could not check`, which says nothing about the data.
        observed: The observed value, or the reason why the check could not run.
        failing_rows: Number of rows that break the expectation; `None` if it is not about rows.
    """

    table: str
    rows: Literal["all", "changed"]
    expectation: str
    column: str | None
    severity: str
    status: Status
    observed: str
    failing_rows: int | None

    @property
    def suite(self) -> str:
        """Return the name of the suite with this check: that of its table, or of the table's changed rows."""
        return self.table if self.rows == "all" else f"{self.table}{_CHANGED}"


@dataclass(frozen=True)
class QualityReport:
    """All checks of one run.

    Attributes:
        checks: In the order of the suites.
        pages: Data Docs page of each suite. A table that could not be opened has no page.
    """

    checks: tuple[Check, ...]
    pages: Mapping[str, Path]

    def count(self) -> Mapping[Status, int]:
        """Return the number of checks by status."""
        return Counter(check.status for check in self.checks)

    def where(self, status: Status, severity: str = "critical") -> tuple[Check, ...]:
        """Return the checks with a status and a severity."""
        return tuple(check for check in self.checks if (check.status, check.severity) == (status, severity))


@dataclass(frozen=True)
class Outcome:
    """Number of checks of a past run by result.

    Attributes:
        checked_at: End of the run, UTC.
        passed: Checks that passed.
        critical: Critical checks that failed.
        warning: Other checks that failed.
        unknown: Checks that could not run.
    """

    checked_at: datetime
    passed: int
    critical: int
    warning: int
    unknown: int


def check(
    warehouse: Warehouse,
    suites: Iterable["ExpectationSuite"],
    reports_folder: Path,
    changed: Mapping[str, str] = MappingProxyType({}),
) -> QualityReport:
    """Run suites inside the warehouse and write their Data Docs.

    Args:
        warehouse: Locked during the checks.
        suites: One per table, named `schema.table`.
        changed: SQL condition of the changed rows, by table. Expectations that look at single rows, or for equal rows,
            are checked on these rows only. Expectations of whole tables always look at all rows.
        reports_folder: Folder for `data_docs/` (open `index.html`), the results in `gx/`, and a line in
            `quality.ndjson`, which `history` reads.

    Raises:
        CheckError: The warehouse could not be reached.
    """
    folder = reports_folder.absolute()
    _prune(folder)
    context = _context(folder)
    with warehouse.exclusive(), _source(context, warehouse) as source:
        definitions, unopened = _define(context, source, suites, changed)
        results, pages = _run(context, definitions)
    report = QualityReport((*unopened, *results), pages)
    _remember(report, folder)
    return report


def history(reports_folder: Path, runs: int = 60) -> list[Outcome]:
    """Read the outcomes of the last runs, oldest first."""
    path = reports_folder / _HISTORY
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    outcomes = [outcome for line in lines[-runs:] if (outcome := _outcome(line))]
    return sorted(outcomes, key=lambda outcome: outcome.checked_at)


def raise_for(report: QualityReport) -> None:
    """Raise an error if a critical expectation failed or could not be checked; ignore warnings.

    Raises:
        QualityError: A critical expectation failed.
        CheckError: No critical expectation failed, but one could not be checked.
    """
    failed, unknown = report.where("failed"), report.where("could not check")
    if failed:
        summary = f"Critical expectations failed: {len(failed)} of {len(report.checks)} checks."
        raise QualityError(_listed(summary, failed, report), "Correct the data or the expectation, then run again.")
    if unknown:
        summary = f"Critical expectations could not be checked: {len(unknown)}. The data may be good."
        raise CheckError(_listed(summary, unknown, report), "Check that the table was built, then run again.")


def rows_table(report: QualityReport) -> list[dict[str, str | int]]:
    """Return one row per check for a table in the UI, failed checks first."""
    order = {"failed": 0, "could not check": 1, "passed": 2}
    return [
        {
            "status": check.status,
            "severity": check.severity,
            "table": check.table,
            "rows": check.rows,
            "column": check.column or "",
            "expectation": check.expectation,
            "observed": check.observed,
            "failing rows": "" if check.failing_rows is None else check.failing_rows,
        }
        for check in sorted(report.checks, key=lambda check: (order[check.status], check.severity != "critical"))
    ]


def _remember(report: QualityReport, folder: Path) -> None:
    count = report.count()
    critical = len(report.where("failed"))
    outcome = Outcome(
        checked_at=datetime.now(UTC).replace(tzinfo=None, microsecond=0),
        passed=count.get("passed", 0),
        critical=critical,
        warning=count.get("failed", 0) - critical,
        unknown=count.get("could not check", 0),
    )
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / _HISTORY).open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(outcome), default=datetime.isoformat) + "\n")


def _outcome(line: str) -> Outcome | None:
    try:
        content: dict[str, Any] = json.loads(line)
        return Outcome(**{**content, "checked_at": datetime.fromisoformat(content["checked_at"])})
    except (ValueError, KeyError, TypeError):  # incomplete: its writer was killed
        return None


def _context(folder: Path) -> "AbstractDataContext":
    """Build a context in memory, so that no connection string is written to disk. Results and pages are files."""
    import great_expectations as gx
    from great_expectations.data_context.types.base import DataContextConfig, InMemoryStoreBackendDefaults

    def files(base: Path) -> dict[str, str]:
        return {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(base)}

    # For every check of a column type it logs that DuckDB is unknown, and then compares correctly.
    logging.getLogger("great_expectations.expectations.type_comparison").setLevel(logging.ERROR)
    defaults = InMemoryStoreBackendDefaults()
    defaults.stores[defaults.validation_results_store_name]["store_backend"] = files(folder / _RESULTS)
    defaults.data_docs_sites = {
        "local_site": {
            "class_name": "SiteBuilder",
            "show_how_to_buttons": False,
            "store_backend": files(folder / _PAGES),
            "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
        }
    }
    quiet: Any = {"globally": False, "metric_calculations": False}
    return gx.get_context(
        mode="ephemeral",
        project_config=DataContextConfig(store_backend_defaults=defaults, progress_bars=quiet, analytics_enabled=False),
    )


@contextmanager
def _source(context: "AbstractDataContext", warehouse: Warehouse) -> Iterator["SQLDatasource"]:
    from great_expectations.datasource.fluent.interfaces import GxDatasourceWarning, TestConnectionError

    try:
        with warnings.catch_warnings():
            # It recommends its Snowflake data source, which is limited to one schema.
            warnings.simplefilter("ignore", GxDatasourceWarning)
            source = context.data_sources.add_sql(  # type: ignore[call-arg]  # `kwargs` is missing in its stub
                "warehouse",
                connection_string=warehouse.sqlalchemy_url(),
                kwargs={"connect_args": dict(warehouse.connect_arguments())},
            )
    except TestConnectionError as error:
        raise CheckError(f"The {warehouse.dialect} warehouse could not be reached: {error}") from error
    try:
        yield source
    finally:
        # Both have a connection pool, and a pooled connection would hold DuckDB's lock.
        source.get_engine().dispose()
        source.get_execution_engine().close()


def _define(
    context: "AbstractDataContext",
    source: "SQLDatasource",
    suites: Iterable["ExpectationSuite"],
    changed: Mapping[str, str],
) -> tuple[list["ValidationDefinition"], list[Check]]:
    """Define the validations. Return them with the checks whose table cannot be opened."""
    import great_expectations as gx
    from great_expectations.datasource.fluent.interfaces import TestConnectionError

    definitions: list[ValidationDefinition] = []
    unopened: list[Check] = []
    for suite in suites:
        schema, table = suite.name.split(".")
        try:
            # `schema_name` is deprecated, but no other way reaches two schemas from one source.
            asset: Any = source.add_table_asset(suite.name, table_name=table, schema_name=schema)
        except TestConnectionError as error:
            unopened.extend(_unopened(suite, error))
            continue
        for part, condition in _parts(suite, changed.get(suite.name)):
            if condition:
                query = f"select * from {suite.name} where {condition}"
                asset = source.add_query_asset(part.name, query=query)
            batch = asset.add_batch_definition_whole_table("whole table")
            definition = gx.ValidationDefinition(name=part.name, data=batch, suite=context.suites.add(part))
            definitions.append(context.validation_definitions.add(definition))
    return definitions, unopened


def _parts(suite: "ExpectationSuite", condition: str | None) -> Iterator[tuple["ExpectationSuite", str | None]]:
    """Yield the part of a suite for the whole table, and the part for the rows of a condition if there is one."""
    import great_expectations as gx
    from great_expectations.expectations.core.expect_column_values_to_be_in_type_list import (
        ExpectColumnValuesToBeInTypeList,
    )
    from great_expectations.expectations.expectation import ColumnMapExpectation, MulticolumnMapExpectation

    if condition is None:
        yield suite, None
        return
    by_row: list[Expectation] = []
    whole: list[Expectation] = []
    for check in suite.expectations:
        is_by_row = isinstance(check, (ColumnMapExpectation, MulticolumnMapExpectation))
        is_by_row = is_by_row or getattr(check, "looks_at_rows", False)  # of Boat's own expectations
        is_by_row = is_by_row and not isinstance(check, ExpectColumnValuesToBeInTypeList)  # it reads the schema
        (by_row if is_by_row else whole).append(copy.copy(check))  # an expectation belongs to one suite
    yield gx.ExpectationSuite(suite.name, expectations=whole), None
    yield gx.ExpectationSuite(f"{suite.name}{_CHANGED}", expectations=by_row), condition


def _run(
    context: "AbstractDataContext", definitions: list["ValidationDefinition"]
) -> tuple[list[Check], dict[str, Path]]:
    import great_expectations as gx
    from great_expectations.core.run_identifier import RunIdentifier
    from great_expectations.data_context.types.resource_identifiers import ExpectationSuiteIdentifier

    if not definitions:
        return [], {}
    run_id = RunIdentifier(run_time=datetime.now(UTC))
    results: dict[Any, Any] = {}
    for number, definition in enumerate(definitions):  # one checkpoint for each, to report the progress
        progress.report(definition.name, number, len(definitions), "tables")
        checkpoint = gx.Checkpoint(name=definition.name, validation_definitions=[definition], actions=[])
        results |= context.checkpoints.add(checkpoint).run(run_id=run_id).run_results
    # At the end, because an action of the checkpoint would rebuild the index after every table.
    suites = (ExpectationSuiteIdentifier(name=definition.suite.name) for definition in definitions)
    resources: list[Any] = [*results, *suites]
    context.build_data_docs(resource_identifiers=resources)
    checks = [_check(result.suite_name, check) for result in results.values() for check in result.results]
    pages = {}
    for key, result in results.items():
        (site,) = context.get_docs_sites_urls(resource_identifier=key)
        pages[result.suite_name] = Path(url2pathname(urlsplit(str(site["site_url"])).path))
    return checks, pages


def _check(table: str, result: "ExpectationValidationResult") -> Check:
    configuration, details = result.expectation_config, result.result
    if configuration is None:
        raise CheckError(f"Great Expectations returned a result for {table} without its expectation.")
    error = _error(result.exception_info or {})
    counted = "observed_value" if "unexpected_rows_query" in configuration.kwargs else "unexpected_count"
    return Check(
        table=table.removesuffix(_CHANGED),
        rows="changed" if table.endswith(_CHANGED) else "all",
        expectation=configuration.description or configuration.type,
        column=_column(configuration.kwargs),
        severity=configuration.severity.value,
        status="could not check" if error else "passed" if result.success else "failed",
        observed=error or _observed(details),
        failing_rows=None if error else details.get(counted),
    )


def _error(exception_info: Mapping[str, Any]) -> str:
    """Return the error that a check raised, or an empty text."""
    # One flat record if nothing was raised, otherwise one record per metric.
    records = [exception_info] if "raised_exception" in exception_info else exception_info.values()
    return next((_shortened(record["exception_message"]) for record in records if record["raised_exception"]), "")


def _unopened(suite: "ExpectationSuite", error: Exception) -> Iterator[Check]:
    for expectation in suite.expectations:
        configuration = expectation.configuration
        yield Check(
            table=suite.name,
            rows="all",
            expectation=configuration.description or configuration.type,
            column=_column(configuration.kwargs),
            severity=configuration.severity.value,
            status="could not check",
            observed=_shortened(f"The table {suite.name} cannot be opened: {error}"),
            failing_rows=None,
        )


def _column(arguments: Mapping[str, Any]) -> str | None:
    column = arguments.get("column")
    return str(column) if column else ", ".join(arguments.get("column_list", [])) or None


def _observed(details: Mapping[str, Any]) -> str:
    if "element_count" not in details:
        count = str(details.get("observed_value"))
        rows = (details.get("details") or {}).get("unexpected_rows", [])
        sample = "; ".join(", ".join(f"{name} {value}" for name, value in row.items()) for row in rows)
        return _shortened(f"{count}, such as {sample}" if sample else count)
    failing = f"{details['unexpected_count'] or 0:,} of {details['element_count']:,} rows"  # None in an empty table
    values = (value for value in details.get("partial_unexpected_list", []) if value is not None)
    examples = list(dict.fromkeys(map(repr, values)))[:3]
    return _shortened(f"{failing}, such as {', '.join(examples)}" if examples else failing)


def _shortened(text: str) -> str:
    return text if len(text) <= _MAX_TEXT else text[: _MAX_TEXT - 1] + "…"


def _listed(summary: str, checks: Sequence[Check], report: QualityReport) -> str:
    lines = []
    for check in checks:
        name = f"{check.table}.{check.column}" if check.column else check.table
        page = f" ({report.pages[check.suite]})" if check.suite in report.pages else ""
        lines.append(f"- {name}: {check.expectation}: {check.observed}{page}.")
    return "\n".join([summary, *lines])


def _prune(folder: Path) -> None:
    """Delete the oldest results and pages of each table, so that one more run keeps within `MAX_RUNS`."""
    for kind in (_RESULTS, _PAGES / "validations"):
        for table in (folder / kind).glob("*/*/*"):  # schema, table and the constant name of the run
            runs = sorted(run for run in table.iterdir() if run.is_dir())  # named by their time
            for run in runs[: 1 - MAX_RUNS]:
                rmtree(run)
