"""Lineage: the tables behind a model, from dbt's manifest, and the steps of a run."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_KINDS = ("source", "model", "exposure")


@dataclass(frozen=True)
class Node:
    """A table, a step or an exposure.

    Attributes:
        label: Name for people.
        kind: Such as `source`, `staging`, `marts`, `exposure` or `step`; nodes of a kind are drawn alike.
        parents: Names of the nodes that it is built from.
        owner: Owner; empty if unknown.
    """

    label: str
    kind: str
    parents: tuple[str, ...]
    owner: str = ""


Graph = Mapping[str, Node]
"""Nodes by name."""


def of_dbt(target: Path) -> Graph:
    """Read sources, models and exposures from the manifest in dbt's target folder."""
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
    """Return a node and all its ancestors; empty if the node does not exist."""
    ancestors: dict[str, Node] = {}
    queue = [name]
    while queue:
        current = queue.pop()
        if current in graph and current not in ancestors:
            ancestors[current] = graph[current]
            queue += graph[current].parents
    return ancestors


def exposure(graph: Graph, endpoint: str) -> str:
    """Return the name of the exposure of an endpoint; empty if dbt does not have one."""
    exposures = (name for name, node in graph.items() if node.kind == "exposure" and node.label == endpoint)
    return next(exposures, "")


def to_json(graph: Graph) -> str:
    """Return a graph as JSON text, for the artifact store."""
    return json.dumps({name: vars(node) for name, node in graph.items()}, indent=1) + "\n"


def from_json(text: str) -> Graph:
    """Read a graph from the text of `to_json`."""
    return {name: Node(**{**node, "parents": tuple(node["parents"])}) for name, node in json.loads(text).items()}
