"""Reads the results of a dbt run from `target/run_results.json` and `target/manifest.json`.

Without Boat: `dbt build --project-dir dbt --profiles-dir dbt`, then open `dbt/target`.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from boat import progress
from boat.errors import TransformError

FAILURES = ("error", "fail", "runtime error", "partial success")
"""Statuses that stop a flow. `warn` and `skipped` do not: a skipped node has a failed node before it."""

_NODE = re.compile(r" (\d+) of (\d+) ([A-Z]+)(?:-OP)? (.*?) \.{2,}")
"""A line of dbt's log about a node: its number, the number of nodes, `START` or the result, and its description."""
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True)
class NodeResult:
    """The result of one node of the graph.

    Attributes:
        unique_id: Id of the node in dbt, such as `model.boat.fct_sessions`.
        name: Name of the node; a unit test has the name of its model before it.
        resource_type: `model`, `test`, `unit_test`, `exposure`, …
        status: `success`, `pass`, `warn`, `fail`, `error`, `skipped` or `no-op`.
        message: Message of dbt, without colours; may be empty.
        seconds: Duration.
        failures: Number of rows that a test returned; `None` if it did not run.
        path: File of the node, relative to the dbt project.
        compiled_sql: SQL that was sent to the warehouse; `None` if the node was not compiled.
        compiled_path: File of that SQL; `None` if dbt did not write one.
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
        """Return whether the node stops a flow."""
        return self.status in FAILURES


@dataclass(frozen=True)
class Freshness:
    """The age of the newest row of a source.

    Attributes:
        source: Schema and table.
        status: `pass`, `warn` or `error`, by the limits in its YAML.
        newest_at: Time of the newest row, ISO 8601.
        hours: Age of that row.
    """

    source: str
    status: str
    newest_at: str
    hours: float


class RunningBuild:
    """Follows a running dbt by its log.

    Args:
        log: `dbt.log`; it need not exist yet.
    """

    def __init__(self, log: Path) -> None:
        self._log = log
        self._read = log.stat().st_size if log.exists() else 0
        self._stage, self._ended, self._nodes = "dbt starts", 0, 0

    def report(self) -> None:
        """Report the newest node that has started, and how many nodes have ended."""
        if self._log.exists() and self._log.stat().st_size < self._read:
            self._read = 0  # dbt has begun a new file
        with suppress(FileNotFoundError), self._log.open("rb") as file:
            file.seek(self._read)
            lines = file.read().rpartition(b"\n")[0]
            self._read += len(lines)
            for _number, nodes, state, node in _NODE.findall(lines.decode(errors="replace")):
                self._nodes = int(nodes)
                if state == "START":
                    self._stage = node
                else:
                    self._ended += 1
        progress.report(self._stage, self._ended, self._nodes, "nodes")


def read_freshness(target: Path) -> tuple[Freshness, ...]:
    """Read the results of the last `dbt source freshness`, without sources that could not be queried.

    Raises:
        TransformError: dbt wrote no results.
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
    """Read the result of each node of the last run, in the order of their ends.

    Remove `run_results.json` before you start dbt: a run that ends before its first node leaves the old file.

    Raises:
        TransformError: dbt wrote no results.
    """
    results = _read(target / "run_results.json")["results"]
    nodes = _nodes(_read(target / "manifest.json"))
    return tuple(_node_result(result, nodes.get(result["unique_id"], {})) for result in results)


def failure(results: Sequence[NodeResult]) -> TransformError | None:
    """Return an error that names each failed node, its message and its SQL file; `None` if no node failed."""
    failed = [result for result in results if result.failed]
    if not failed:
        return None
    names = ", ".join(result.name for result in failed)
    skipped = sum(result.status == "skipped" for result in results)
    summary = f"dbt failed at {names}: {len(failed)} of {len(results)} nodes, and {skipped} after them were skipped."
    # The last line break separates the hint from dbt's message, which can be a table.
    message = "\n".join([summary, *map(_describe, failed), ""])
    return TransformError(message, "Correct the data or the model and build again.")


def rows_table(results: Sequence[NodeResult]) -> list[dict[str, str | int | float]]:
    """Return one row per node for a table in the UI, failed nodes first with their SQL, without exposures."""
    nodes = [result for result in results if result.resource_type != "exposure"]
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
        for result in sorted(nodes, key=lambda result: (not result.failed, result.status != "warn"))
    ]


def manifest_digest(target: Path) -> str:
    """Return the SHA-256 of models, macros and variables, which does not depend on the database or the time.

    The source text is used, because compiled SQL also depends on earlier builds.

    Raises:
        TransformError: dbt wrote no manifest.
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
            "Read its output or logs/dbt.log; `dbt parse` reports mistakes in the project.",
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
    rows = f", {result.failures} failing rows" if result.failures else ""
    sql = f", SQL in {result.compiled_path}" if result.compiled_path else ""
    kind = result.resource_type.replace("_", " ")
    return f"- {kind} {result.name} ({result.path}{rows}{sql}): {result.message}"
