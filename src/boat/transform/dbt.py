"""What a dbt run did, read from the files it leaves: `target/run_results.json` and `target/manifest.json`.

The same without Boat: `dbt build --project-dir dbt --profiles-dir dbt`, then look into `dbt/target`.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from boat.errors import TransformError

FAILURES = ("error", "fail", "runtime error", "partial success")
"""Statuses that stop a flow; `warn` and `skipped` do not: what is skipped has a failed node before it."""

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True)
class NodeResult:
    """What became of one node of the graph.

    Attributes:
        unique_id: As dbt calls it, `model.boat.fct_sessions`.
        name: Its own name; a unit test's with the model before it.
        resource_type: `model`, `test`, `unit_test`, `exposure`, …
        status: `success`, `pass`, `warn`, `fail`, `error`, `skipped` or `no-op`.
        message: What dbt said, without colours; may be empty.
        seconds: Time it took.
        failures: Rows that a test found, where it ran.
        path: The file it is written in, from the dbt project's folder.
        compiled_sql: The SQL sent to the warehouse; None where it did not come so far.
        compiled_path: Where that SQL lies, if dbt wrote it down.
    """

    unique_id: str
    name: str
    resource_type: str
    status: str
    message: str
    seconds: float
    failures: int | None
    path: str
    compiled_sql: str | None
    compiled_path: str | None

    @property
    def failed(self) -> bool:
        return self.status in FAILURES


@dataclass(frozen=True)
class Freshness:
    """How old the newest row of a source is.

    Attributes:
        source: Schema and table.
        status: `pass`, `warn` or `error`, by the limits that its YAML has.
        newest_at: Time of the newest row, ISO 8601.
        hours: How long ago that was.
    """

    source: str
    status: str
    newest_at: str
    hours: float


def read_freshness(target: Path) -> tuple[Freshness, ...]:
    """What the last `dbt source freshness` found; a source that could not be asked is left out.

    Raises:
        TransformError: dbt left no results.
    """
    return tuple(
        Freshness(
            source=".".join(result["unique_id"].split(".")[2:]),
            status=result["status"],
            newest_at=result["max_loaded_at"],
            hours=result["max_loaded_at_time_ago_in_s"] / 3600,
        )
        for result in _read(target / "sources.json")["results"]
        if "max_loaded_at" in result
    )


def read_results(target: Path) -> tuple[NodeResult, ...]:
    """What each node of the last run did, in the order in which they ended.

    dbt keeps the results of an older run where a new one ends before its first node: remove `run_results.json`
    before you start it.

    Raises:
        TransformError: dbt left no results.
    """
    results = _read(target / "run_results.json")["results"]
    nodes = _nodes(_read(target / "manifest.json"))
    return tuple(_node_result(result, nodes.get(result["unique_id"], {})) for result in results)


def failure(results: Sequence[NodeResult]) -> TransformError | None:
    """The error that names each failing node, what it said and where its SQL is; None where nothing failed."""
    failed = [result for result in results if result.failed]
    if not failed:
        return None
    names = ", ".join(result.name for result in failed)
    skipped = sum(result.status == "skipped" for result in results)
    summary = f"dbt failed at {names}: {len(failed)} of {len(results)} nodes, and {skipped} after them were skipped."
    # The last line break keeps the hint off what dbt said, which can be a table.
    message = "\n".join([summary, *map(_describe, failed), ""])
    return TransformError(message, "Correct the data or the model and build again.")


def rows_table(results: Sequence[NodeResult]) -> list[dict[str, str | int | float]]:
    """One row a node for a table in the UI, failing ones first with their SQL; exposures run nothing and go."""
    shown = [result for result in results if result.resource_type != "exposure"]
    return [
        {
            "node": result.name,
            "type": result.resource_type.replace("_", " "),
            "status": result.status,
            "seconds": round(result.seconds, 2),
            "failing rows": "" if result.failures is None else result.failures,
            "message": result.message if result.failed or result.status == "warn" else "",
            "file": result.path,
            "sql": (result.compiled_sql or "").strip() if result.failed else "",
        }
        for result in sorted(shown, key=lambda result: (not result.failed, result.status != "warn"))
    ]


def manifest_digest(target: Path) -> str:
    """SHA-256 of the rules that make the tables: models, macros and variables; the same for any database and time.

    The text as written: what it is compiled to also depends on what was built before.

    Raises:
        TransformError: dbt left no manifest.
    """
    manifest = _read(target / "manifest.json")
    models = [
        [name, node["raw_code"], node["config"]["materialized"], node["config"]["meta"]]
        for name, node in sorted(manifest["nodes"].items())
        if node["resource_type"] == "model"
    ]
    project = manifest["metadata"]["project_name"]
    macros = [
        [name, macro["macro_sql"]]
        for name, macro in sorted(manifest["macros"].items())
        if macro["package_name"] == project
    ]
    return hashlib.sha256(json.dumps([models, macros]).encode()).hexdigest()


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except FileNotFoundError as error:
        raise TransformError(
            f"dbt ended before it wrote {path}.",
            "Its output or logs/dbt.log says why; `dbt parse` finds mistakes in the project itself.",
        ) from error


def _nodes(manifest: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    kinds = ("nodes", "sources", "unit_tests", "exposures")
    return {name: node for kind in kinds for name, node in manifest[kind].items()}


def _node_result(result: Mapping[str, Any], node: Mapping[str, Any]) -> NodeResult:
    unique_id = result["unique_id"]
    kind = node.get("resource_type") or unique_id.split(".")[0]
    name = node.get("name") or unique_id.split(".", 2)[-1]
    return NodeResult(
        unique_id=unique_id,
        name=f"{node['model']}.{name}" if "model" in node else name,
        resource_type=kind,
        status=result["status"],
        message=_COLOURS.sub("", result["message"] or "").replace("\r\n", "\n").strip(),
        seconds=result["execution_time"],
        failures=result["failures"] if kind == "test" else None,
        path=node.get("original_file_path", ""),
        compiled_sql=result["compiled_code"],
        compiled_path=node.get("compiled_path"),
    )


def _describe(result: NodeResult) -> str:
    found = f", {result.failures} failing rows" if result.failures else ""
    sql = f", SQL in {result.compiled_path}" if result.compiled_path else ""
    kind = result.resource_type.replace("_", " ")
    return f"- {kind} {result.name} ({result.path}{found}{sql}): {result.message}"
