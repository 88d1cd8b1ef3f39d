"""A model card shows the results and the origin of a version, in the Prefect UI and on a page."""

import base64
import re
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from boat.evaluation.behaviour import BehaviourResult
from boat.evaluation.gate import decide
from boat.evaluation.report import (
    CalibrationBin,
    DataReport,
    Difference,
    EvaluationReport,
    ModelReport,
    Slice,
)
from boat.registry.versions import ModelVersion
from boat.render import cards
from boat.render.charts import calibration_svg, learning_curve_svg
from boat.reports import model_card
from boat.transform.lineage import Node

VERSION = ModelVersion(
    name="boat-recommend",
    version="3",
    uri="/store/<model>.tar.gz",
    digest="ab" * 32,
    snapshot_uri="/snapshots/1",
    run_id="r1",
    metrics={},
    lineage={"snapshot": "cd34", "flow_run": "f|1"},
    created_at=datetime(2026, 1, 2, 3, 4, tzinfo=UTC),
)
TEST = BehaviourResult("no_product_twice", "critical", 0.25, 0.0, "at most", False, "Twice is once too often.")
SLICE = Slice(
    "shop",
    "north" * 10,
    400,
    {
        "hr_at_20": 0.5,
        "hr_at_20_low": 0.4,
        "hr_at_20_high": 0.6,
        "mrr_at_20": 0.3,
        "mrr_at_20_low": 0.2,
        "mrr_at_20_high": 0.4,
    },
)


def sliced(name: str, mrr: float) -> Slice:
    return replace(SLICE, name=name, metrics={**SLICE.metrics, "mrr_at_20": mrr})


REPORT = EvaluationReport(
    challenger=ModelReport(
        {
            "targets": 931,
            "all_targets": 931,
            "mrr_at_20": 0.36,
            "mrr_at_20_low": 0.34,
            "mrr_at_20_high": 0.38,
            "hr_at_5": 0.5,
        },
        (SLICE, sliced("south", 0.4)),
        above_champion={"mrr_at_20": Difference(-0.02, -0.03, -0.01)},
        behaviour=(TEST, replace(TEST, name="coverage", severity="warning", passed=True)),
    ),
    champion=ModelReport({"targets": 931, "mrr_at_20": 0.38}, (sliced(SLICE.name, 0.35),)),
    baselines={"popular": ModelReport({"mrr_at_20": 0.003}), "co_occurrence": ModelReport({"mrr_at_20": 0.3})},
    data=DataReport(
        first_session="2025-12-01T00:00:00",
        validation_from="2025-12-28T00:00:00",
        test_from="2025-12-30T12:00:00",
        as_of="2026-01-01T00:00:00",
        split_rule="by days",
        sessions=12345,
        rows={"intent.parquet": 99},
    ),
)
ORIGIN = model_card.Origin(
    cost="61 s, 0.02 USD",
    parameters={"model": "attention"},
    tables={
        "source": Node("raw_events", "source", ()),
        "sessions": Node("fct_sessions", "marts", ("source",)),
        "examples": Node("recommend_examples", "marts", ("source", "sessions")),
        "endpoint": Node("boat-recommend", "exposure", ("examples",), owner="Shop team"),
    },
    steps={"train": Node("train recommend: 60 s", "step", ())},
)
CURVE = [
    {"epoch": 1, "seconds": 2.0, "loss": 3.0, "validation_mrr": 0.2},
    {"epoch": 2, "seconds": 4.0, "loss": 2.0, "validation_mrr": 0.35},
    {"epoch": 3, "seconds": 6.0, "loss": 1.5, "validation_mrr": 0.33},
]
CALIBRATION = (CalibrationBin(10, 0.1, 0.12), CalibrationBin(10, 0.4, 0.35))


@pytest.fixture
def card() -> cards.Card:
    return model_card.model_card(VERSION, REPORT, CURVE, decide("recommend", REPORT), ORIGIN)


def pictures(text: str) -> list[str]:
    images = re.findall(r"data:image/svg\+xml;base64,([A-Za-z0-9+/=]+)", text)
    return [base64.b64decode(image).decode() for image in images]


def test_metrics_are_compared_with_champion_and_baselines(card: cards.Card) -> None:
    lines = card.markdown().splitlines()
    assert "|  | this version | champion | popular | co-occurrence | difference to champion |" in lines
    assert "| MRR@20 | 0.360 (0.340 to 0.380) | 0.380 | 0.003 | 0.300 | -0.020 (-0.030 to -0.010) |" in lines
    assert "| Targets | 931 | 931 |  |  |  |" in lines
    assert "MRR@20 0.360 (0.340 to 0.380); difference to the champion -0.020 (-0.030 to -0.010); refused" in lines[2]


def test_results_by_segment_are_compared_with_the_champion(card: cards.Card) -> None:
    lines = card.markdown().splitlines()
    assert "|  | segment | targets | HR@20 | MRR@20 | champion |" in lines
    shop = "| shop | northnorthnorthnorthnor… | 400 | 0.500 (0.400 to 0.600) | 0.300 (0.200 to 0.400) |"
    assert f"{shop} 0.350 (0.200 to 0.400) |" in lines
    assert "|  | south | 400 | 0.500 (0.400 to 0.600) | 0.400 (0.200 to 0.400) |  |" in lines
    assert any("northnorth" in picture and "(400)" in picture for picture in pictures(card.html()))


def test_failed_behaviour_tests_are_listed_first(card: cards.Card) -> None:
    markdown = card.markdown()
    assert "2 tests on the exported model; 1 failed, 1 of them critical." in markdown
    assert "| No product twice | critical | NO | 0.25 | at most 0 | Twice is once too often. |" in markdown
    assert markdown.index("| No product twice |") < markdown.index("| Coverage |")


def test_data_owner_cost_and_parameters_are_listed(card: cards.Card) -> None:
    lines = card.markdown().splitlines()
    assert "| Trained on | 2025-12-01 00:00 to 2025-12-30 12:00 |" in lines
    assert "| Tested on | 2025-12-30 12:00 to 2026-01-01 00:00 |" in lines
    assert "| Owner | Shop team |" in lines
    assert "| Model | attention |" in lines
    assert "The job took 61 s, 0.02 USD." in card.markdown()


def test_data_lineage_and_flow_run_are_drawn(card: cards.Card) -> None:
    images = pictures(card.html())
    tables = next(picture for picture in images if "boat-recommend" in picture)
    assert "raw_events" in tables
    assert "recommend_" in tables  # broken over two lines
    assert any("train" in picture and "recommend: 60 s" in picture for picture in images)


def test_a_failed_gate_is_highlighted(card: cards.Card) -> None:
    assert (
        "| champion | NO | mrr_at_20 0.3600, the champion 0.3800: difference -0.0200 (-0.0300 to -0.0100)"
        in card.markdown()
    )
    assert "<td class=bad>NO</td>" in card.html()


def test_origin_and_digest_are_listed_and_escaped(card: cards.Card) -> None:
    assert "| Flow run | f\\|1 |" in card.markdown()
    assert "| Archive | /store/&lt;model>.tar.gz |" in card.markdown()
    assert "/store/&lt;model&gt;.tar.gz" in card.html()
    assert VERSION.digest in card.html()


def test_the_learning_curve_is_an_svg_image(card: cards.Card) -> None:
    for text in (card.markdown(), card.html(), cards.learning_curve(CURVE)):
        (svg,) = (picture for picture in pictures(text) if "validation mrr" in picture)
        assert ElementTree.fromstring(svg).tag == "{http://www.w3.org/2000/svg}svg"
    assert "3 epochs in 6 s; best validation mrr 0.3500." in cards.learning_curve(CURVE)


def test_the_same_curve_has_the_same_picture() -> None:
    assert learning_curve_svg(CURVE) == learning_curve_svg(CURVE)
    assert learning_curve_svg(CURVE) != learning_curve_svg(CURVE[:2])


@pytest.mark.parametrize("curve", [CURVE[:1], [{"epoch": 1}], [{"loss": float("nan"), "validation_loss": 0.1}]])
def test_a_short_or_incomplete_curve_is_drawn(curve: list[dict[str, Any]]) -> None:
    assert pictures(cards.learning_curve(curve))


def test_a_training_without_epochs_has_no_curve() -> None:
    assert cards.learning_curve([]) == "No epoch has ended yet."
    assert "## Training" not in model_card.model_card(VERSION, REPORT, []).markdown()


def test_an_intent_card_shows_calibration_contacts_and_results_by_moment() -> None:
    moments = {"1": {"targets": 90, "pr_auc": 0.1}, "add_to_cart": {"targets": 20, "pr_auc": 0.5}}
    contacts = {"threshold": 0.05, "gain": 0.25}
    challenger = ModelReport({"targets": 500, "pr_auc": 0.3}, (), moments, CALIBRATION, contacts)
    version = replace(VERSION, name="boat-intent")
    markdown = model_card.model_card(version, EvaluationReport(challenger), []).markdown()
    assert "chance that a session ends with a purchase" in markdown
    assert "| PR-AUC | 0.300 |" in markdown
    assert "| after 1 event | 90 | 0.100 |" in markdown
    assert "| Add to cart | 20 | 0.500 |" in markdown
    assert "| Contact if the chance is above | 0.05 |" in markdown
    assert pictures(markdown) == [calibration_svg([asdict(row) for row in CALIBRATION])]


def test_a_page_is_named_after_model_and_version(card: cards.Card, tmp_path: Path) -> None:
    path = model_card.write_page(card, VERSION, tmp_path)
    assert path == tmp_path / "cards" / "boat-recommend-3.html"
    assert path.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert "<script" not in path.read_text(encoding="utf-8")
