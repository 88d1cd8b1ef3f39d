"""Great Expectations pushed down to the warehouse: what holds, what does not, and what could not be checked.

A suite is a `great_expectations.ExpectationSuite` named after its table (`marts.fct_sessions`); each of its
expectations has a severity.
"""

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
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit
from urllib.request import url2pathname

from boat.errors import CheckError, QualityError
from boat.warehouse import Warehouse

if TYPE_CHECKING:
    # Its import takes seconds: only a task that checks pays for it.
    from great_expectations import ExpectationSuite, ValidationDefinition
    from great_expectations.core import ExpectationValidationResult
    from great_expectations.data_context.data_context.abstract_data_context import AbstractDataContext
    from great_expectations.datasource.fluent.sql_datasource import SQLDatasource

KEPT_RUNS = 30
"""Validations of a table that stay in the Data Docs."""

_RESULTS = Path("gx") / "validations"
_PAGES = Path("data_docs")
_HISTORY = "quality.ndjson"
_SHOWN = 400  # characters of what was observed: a database's error can hold the whole query

Status = Literal["passed", "failed", "could not check"]


@dataclass(frozen=True)
class Check:
    """What came of one expectation.

    Attributes:
        table: Schema and table.
        expectation: As Great Expectations calls it, `expect_column_values_to_not_be_null`, or its own description.
        column: Its column or columns; None for one on the whole table.
        severity: `critical`, `warning` or `info`.
        status: `could not check` tells nothing about the data.
        observed: What was seen, or why it could not be looked at.
        failing_rows: Number of rows that break it, where rows can.
    """

    table: str
    expectation: str
    column: str | None
    severity: str
    status: Status
    observed: str
    failing_rows: int | None


@dataclass(frozen=True)
class QualityReport:
    """All checks of one run.

    Attributes:
        checks: In the order of the suites.
        pages: The Data Docs page of this very validation, by table; a table that could not be opened has none.
    """

    checks: tuple[Check, ...]
    pages: Mapping[str, Path]

    def count(self) -> Mapping[Status, int]:
        """Number of checks by status."""
        return Counter(check.status for check in self.checks)

    def where(self, status: Status, severity: str = "critical") -> tuple[Check, ...]:
        """The checks of one status and severity."""
        return tuple(check for check in self.checks if (check.status, check.severity) == (status, severity))


@dataclass(frozen=True)
class Outcome:
    """What a past run came to, in numbers of checks.

    Attributes:
        checked_at: When it ended, UTC.
        passed: Checks that hold.
        critical: Critical ones that do not.
        warning: Others that do not.
        unknown: What could not be checked.
    """

    checked_at: datetime
    passed: int
    critical: int
    warning: int
    unknown: int


def check(warehouse: Warehouse, suites: Iterable["ExpectationSuite"], reports_folder: Path) -> QualityReport:
    """Run suites inside the warehouse and write their Data Docs.

    Args:
        warehouse: Kept exclusive meanwhile, and free again at the end.
        suites: One a table, named `schema.table`.
        reports_folder: Gets `data_docs/` (open `index.html`), `gx/`, the results behind it, and a line in
            `quality.ndjson`, which `history` reads.

    Raises:
        CheckError: The warehouse could not be reached.
    """
    folder = reports_folder.absolute()
    _prune(folder)
    context = _context(folder)
    with warehouse.exclusive(), _source(context, warehouse) as source:
        definitions, unopened = _define(context, source, suites)
        results, pages = _run(context, definitions)
    report = QualityReport((*unopened, *results), pages)
    _remember(report, folder)
    return report


def history(reports_folder: Path, runs: int = 60) -> list[Outcome]:
    """What the last runs came to, oldest first."""
    path = reports_folder / _HISTORY
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    outcomes = [outcome for line in lines[-runs:] if (outcome := _outcome(line))]
    return sorted(outcomes, key=lambda outcome: outcome.checked_at)


def raise_for(report: QualityReport) -> None:
    """Stop where something critical is wrong; warnings pass.

    Raises:
        QualityError: A critical expectation does not hold.
        CheckError: None is known not to hold, but one could not be checked.
    """
    failed, unknown = report.where("failed"), report.where("could not check")
    if failed:
        summary = f"Critical expectations that do not hold: {len(failed)} of {len(report.checks)} checks."
        raise QualityError(_listed(summary, failed, report), "Correct the data or the expectation, then run again.")
    if unknown:
        summary = f"Critical expectations that could not be checked: {len(unknown)}. The data may be good."
        raise CheckError(_listed(summary, unknown, report), "See whether the table was built, then run again.")


def rows_table(report: QualityReport) -> list[dict[str, str | int]]:
    """One row a check for a table in the UI, what went wrong first."""
    order = {"failed": 0, "could not check": 1, "passed": 2}
    return [
        {
            "status": check.status,
            "severity": check.severity,
            "table": check.table,
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
    except (ValueError, KeyError, TypeError):  # torn: its writer was killed
        return None


def _context(folder: Path) -> "AbstractDataContext":
    """A context in memory, so that no connection string comes to lie on disk; results and pages are kept in files."""
    import great_expectations as gx
    from great_expectations.data_context.types.base import DataContextConfig, InMemoryStoreBackendDefaults

    def files(base: Path) -> dict[str, str]:
        return {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(base)}

    # It says of each check of a column's type that it knows no DuckDB, and then compares as it should.
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
            # It recommends a data source of its own for Snowflake, whose tables are all of one schema.
            warnings.simplefilter("ignore", GxDatasourceWarning)
            source = context.data_sources.add_sql(  # type: ignore[call-arg]  # its stub forgets `kwargs`
                "warehouse",
                connection_string=warehouse.sqlalchemy_url(),
                kwargs={"connect_args": dict(warehouse.connect_arguments())},
            )
    except TestConnectionError as error:
        raise CheckError(f"The {warehouse.dialect} warehouse could not be reached: {error}") from error
    try:
        yield source
    finally:
        # Each has a pool of its own, and a pooled connection would keep DuckDB's lock.
        source.get_engine().dispose()
        source.get_execution_engine().close()


def _define(
    context: "AbstractDataContext", source: "SQLDatasource", suites: Iterable["ExpectationSuite"]
) -> tuple[list["ValidationDefinition"], list[Check]]:
    """What to validate, and the checks whose table cannot be opened."""
    import great_expectations as gx
    from great_expectations.datasource.fluent.interfaces import TestConnectionError

    definitions: list[ValidationDefinition] = []
    unopened: list[Check] = []
    for suite in suites:
        schema, table = suite.name.split(".")
        try:
            # `schema_name` is deprecated, yet the only way to reach two schemas from one source.
            asset = source.add_table_asset(suite.name, table_name=table, schema_name=schema)
        except TestConnectionError as error:
            unopened.extend(_unopened(suite, error))
            continue
        batch = asset.add_batch_definition_whole_table("whole table")
        definition = gx.ValidationDefinition(name=suite.name, data=batch, suite=context.suites.add(suite))
        definitions.append(context.validation_definitions.add(definition))
    return definitions, unopened


def _run(
    context: "AbstractDataContext", definitions: list["ValidationDefinition"]
) -> tuple[list[Check], dict[str, Path]]:
    import great_expectations as gx
    from great_expectations.data_context.types.resource_identifiers import ExpectationSuiteIdentifier

    if not definitions:
        return [], {}
    checkpoint = gx.Checkpoint(name="boat", validation_definitions=definitions, actions=[])
    results = context.checkpoints.add(checkpoint).run().run_results
    # Once, at the end: as an action of the checkpoint it makes the index anew after every table.
    made: list[Any] = [*results, *(ExpectationSuiteIdentifier(name=each.suite.name) for each in definitions)]
    context.build_data_docs(resource_identifiers=made)
    checks = [_check(result.suite_name, each) for result in results.values() for each in result.results]
    pages = {}
    for key, result in results.items():
        (site,) = context.get_docs_sites_urls(resource_identifier=key)
        pages[result.suite_name] = Path(url2pathname(urlsplit(str(site["site_url"])).path))
    return checks, pages


def _check(table: str, result: "ExpectationValidationResult") -> Check:
    configuration, found = result.expectation_config, result.result
    if configuration is None:
        raise CheckError(f"Great Expectations answered for {table} without saying which expectation it means.")
    error = _error(result.exception_info or {})
    counted = "observed_value" if "unexpected_rows_query" in configuration.kwargs else "unexpected_count"
    return Check(
        table=table,
        expectation=configuration.description or configuration.type,
        column=_column(configuration.kwargs),
        severity=configuration.severity.value,
        status="could not check" if error else "passed" if result.success else "failed",
        observed=error or _observed(found),
        failing_rows=None if error else found.get(counted),
    )


def _error(exception_info: Mapping[str, Any]) -> str:
    """What was raised while the check ran; empty where nothing was."""
    # A flat record where nothing was raised, one record a metric where something was.
    records = [exception_info] if "raised_exception" in exception_info else exception_info.values()
    return next((_shortened(each["exception_message"]) for each in records if each["raised_exception"]), "")


def _unopened(suite: "ExpectationSuite", error: Exception) -> Iterator[Check]:
    for expectation in suite.expectations:
        configuration = expectation.configuration
        yield Check(
            table=suite.name,
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


def _observed(found: Mapping[str, Any]) -> str:
    if "element_count" not in found:
        count = str(found.get("observed_value"))
        rows = (found.get("details") or {}).get("unexpected_rows", [])
        shown = "; ".join(", ".join(f"{name} {value}" for name, value in row.items()) for row in rows)
        return _shortened(f"{count}, such as {shown}" if shown else count)
    seen = f"{found['unexpected_count'] or 0:,} of {found['element_count']:,} rows"  # None in an empty table
    values = (value for value in found.get("partial_unexpected_list", []) if value is not None)
    examples = list(dict.fromkeys(map(repr, values)))[:3]
    return _shortened(f"{seen}, such as {', '.join(examples)}" if examples else seen)


def _shortened(text: str) -> str:
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


def _listed(summary: str, checks: Sequence[Check], report: QualityReport) -> str:
    lines = []
    for each in checks:
        place = f"{each.table}.{each.column}" if each.column else each.table
        page = f" ({report.pages[each.table]})" if each.table in report.pages else ""
        lines.append(f"- {place}: {each.expectation}: {each.observed}{page}.")
    return "\n".join([summary, *lines])


def _prune(folder: Path) -> None:
    """Make room for one more run of each table, in the pages and the results that their index is made from."""
    for kind in (_RESULTS, _PAGES / "validations"):
        for table in (folder / kind).glob("*/*/*"):  # schema, table and the name of the run, which is always the same
            runs = sorted(run for run in table.iterdir() if run.is_dir())  # named by their time
            for run in runs[: 1 - KEPT_RUNS]:
                rmtree(run)
