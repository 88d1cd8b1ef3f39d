"""Lineage is read from dbt's manifest and drawn as a graph."""

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from boat.render.charts import graph_svg
from boat.transform import lineage
from boat.transform.lineage import Graph, Node


@pytest.fixture
def graph() -> Graph:
    return {
        "events": Node("events", "source", ()),
        "prices": Node("prices", "source", ()),
        "staged": Node("stg_events", "staging", ("events", "a test")),
        "sessions": Node("fct_sessions", "marts", ("staged", "events")),
        "kpis": Node("kpi_daily", "marts", ("sessions", "prices")),
        "endpoint": Node("boat-recommend", "exposure", ("sessions",), owner="Shop team"),
    }


def test_a_manifest_gives_sources_models_and_exposures(tmp_path: Path) -> None:
    model = {"name": "stg_events", "resource_type": "model", "fqn": ["boat", "staging", "stg_events"]}
    test = {"name": "not_null", "resource_type": "test", "fqn": ["boat", "not_null"]}
    exposure = {"name": "boat_recommend", "label": "boat-recommend", "resource_type": "exposure", "fqn": ["boat", "e"]}
    manifest = {
        "sources": {"source.events": {"name": "events", "resource_type": "source", "fqn": ["boat", "raw", "events"]}},
        "nodes": {"model.stg": {**model, "depends_on": {"nodes": ["source.events"]}}, "test.one": test},
        "exposures": {
            "exposure.one": {**exposure, "owner": {"name": "Shop team"}, "depends_on": {"nodes": ["model.stg"]}}
        },
    }
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    graph = lineage.of_dbt(tmp_path)
    assert graph == {
        "source.events": Node("events", "source", ()),
        "model.stg": Node("stg_events", "staging", ("source.events",)),
        "exposure.one": Node("boat-recommend", "exposure", ("model.stg",), "Shop team"),
    }
    assert lineage.exposure(graph, "boat-recommend") == "exposure.one"
    assert lineage.exposure(graph, "boat-intent") == ""


def test_the_ancestors_of_a_node_are_a_graph(graph: Graph) -> None:
    assert set(lineage.before(graph, "endpoint")) == {"endpoint", "sessions", "staged", "events"}
    assert lineage.before(graph, "") == {}


def test_a_graph_is_the_same_after_writing_and_reading(graph: Graph) -> None:
    assert lineage.from_json(lineage.to_json(graph)) == graph


def test_a_picture_shows_every_node_without_implied_edges(graph: Graph) -> None:
    svg = graph_svg(graph)
    root = ElementTree.fromstring(svg)
    labels = {text.text for text in root.iter("{http://www.w3.org/2000/svg}text")}
    assert {"events", "prices", "stg_events", "fct_sessions", "kpi_daily", "boat-recommend"} <= labels
    # Sessions also depend on events through `stg_events`, so the picture omits the direct edge.
    assert svg == graph_svg({**graph, "sessions": Node("fct_sessions", "marts", ("staged",))})
    assert svg != graph_svg({**graph, "kpis": Node("kpi_daily", "marts", ("prices",))})


def test_a_graph_without_edges_is_drawn() -> None:
    assert graph_svg({name: Node(name, "step", ()) for name in "ab"}).startswith("<svg")
