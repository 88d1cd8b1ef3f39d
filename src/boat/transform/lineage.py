"""What came from what: the tables behind a model, as dbt's manifest has them, and the steps of a run."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_KINDS = ("source", "model", "exposure")


@dataclass(frozen=True)
class Node:
    """A table, a step, or what is made of them.

    Attributes:
        label: What people call it.
        kind: Such as `source`, `staging`, `marts`, `exposure` or `step`; nodes of a kind look alike.
        parents: Names of the nodes it is made from.
        owner: Who answers for it; empty where nobody is named.
    """

    label: str
    kind: str
    parents: tuple[str, ...]
    owner: str = ""


Graph = Mapping[str, Node]
"""Nodes by name."""


def of_dbt(target: Path) -> Graph:
    """Sources, models and exposures of the project whose manifest lies in dbt's target folder."""
    manifest = json.loads((target / "manifest.json").read_text(encoding="utf-8"))
    entries = {**manifest["sources"], **manifest["nodes"], **manifest["exposures"]}
    return {
        name: Node(
            label=entry.get("label") or entry["name"],
            kind=entry["fqn"][1] if entry["resource_type"] == "model" else entry["resource_type"],
            parents=tuple(entry.get("depends_on", {}).get("nodes", ())),
            owner=(entry.get("owner") or {}).get("name") or "",
        )
        for name, entry in entries.items()
        if entry["resource_type"] in _KINDS
    }


def before(graph: Graph, name: str) -> Graph:
    """A node and all that it is made from; empty where there is no such node."""
    found: dict[str, Node] = {}
    waiting = [name]
    while waiting:
        each = waiting.pop()
        if each in graph and each not in found:
            found[each] = graph[each]
            waiting += graph[each].parents
    return found


def exposure(graph: Graph, endpoint: str) -> str:
    """Name of the exposure that is an endpoint; empty where dbt knows none."""
    wanted = (name for name, node in graph.items() if node.kind == "exposure" and node.label == endpoint)
    return next(wanted, "")


def to_json(graph: Graph) -> str:
    """A graph as text, for the artifact store."""
    return json.dumps({name: vars(node) for name, node in graph.items()}, indent=1) + "\n"


def from_json(text: str) -> Graph:
    """A graph from the text that `to_json` made."""
    return {name: Node(**{**node, "parents": tuple(node["parents"])}) for name, node in json.loads(text).items()}
