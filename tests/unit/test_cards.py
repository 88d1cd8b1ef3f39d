"""A card tells what there is to know of a model version, in the UI and on a page."""

import base64
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from boat import cards
from boat.charts import calibration_svg, learning_curve_svg
from boat.evaluation.gate import decide
from boat.registry import ModelVersion

VERSION = ModelVersion(
    name="boat-recommend",
    version="3",
    uri="/store/<model>.tar.gz",
    digest="ab" * 32,
    run_id="r1",
    metrics={},
    lineage={"snapshot": "cd34", "flow_run": "f|1"},
    created_at=datetime(2026, 1, 2, 3, 4, tzinfo=UTC),
)
FIGURES: dict[str, Any] = {
    "challenger": {"targets": 931, "mrr_at_20": 0.36, "mrr_at_20_low": 0.34, "mrr_at_20_high": 0.38, "hr_at_5": 0.5},
    "champion": {"targets": 931, "mrr_at_20": 0.38},
    "popular": {"mrr_at_20": 0.003},
    "co_occurrence": {"mrr_at_20": 0.3},
}
CURVE = [
    {"epoch": 1, "seconds": 2.0, "loss": 3.0, "validation_mrr": 0.2},
    {"epoch": 2, "seconds": 4.0, "loss": 2.0, "validation_mrr": 0.35},
    {"epoch": 3, "seconds": 6.0, "loss": 1.5, "validation_mrr": 0.33},
]
CALIBRATION = [{"count": 10, "predicted": 0.1, "actual": 0.12}, {"count": 10, "predicted": 0.4, "actual": 0.35}]


@pytest.fixture
def card() -> cards.Card:
    return cards.model_card(VERSION, FIGURES, CURVE, decide("recommend", FIGURES))


def pictures(text: str) -> list[str]:
    found = re.findall(r"data:image/svg\+xml;base64,([A-Za-z0-9+/=]+)", text)
    return [base64.b64decode(picture).decode() for picture in found]


def test_figures_stand_beside_those_of_champion_and_baselines(card: cards.Card) -> None:
    lines = card.markdown().splitlines()
    assert "|  | this version | champion | popular | co occurrence |" in lines
    assert "| MRR@20 | 0.3600 (0.3400 to 0.3800) | 0.3800 | 0.0030 | 0.3000 |" in lines
    assert "| Targets | 931 | 931 |  |  |" in lines


def test_a_refusing_gate_stands_out(card: cards.Card) -> None:
    assert "| champion | NO | mrr_at_20 0.3600 is 0.0124 (3.3%) below the limit" in card.markdown()
    assert "<td class=bad>NO</td>" in card.html()


def test_lineage_and_digest_are_there_and_cannot_break_the_page(card: cards.Card) -> None:
    assert "| Flow run | f\\|1 |" in card.markdown()
    assert "| Archive | /store/&lt;model>.tar.gz |" in card.markdown()
    assert "/store/&lt;model&gt;.tar.gz" in card.html()
    assert VERSION.digest in card.html()


def test_the_learning_curve_is_a_picture_that_the_ui_shows(card: cards.Card) -> None:
    for text in (card.markdown(), card.html(), cards.learning_curve(CURVE)):
        (svg,) = pictures(text)
        assert ElementTree.fromstring(svg).tag == "{http://www.w3.org/2000/svg}svg"
        assert "validation mrr" in svg
    assert "3 epochs in 6 s; best validation mrr 0.3500." in cards.learning_curve(CURVE)


def test_the_same_figures_give_the_same_picture() -> None:
    assert learning_curve_svg(CURVE) == learning_curve_svg(CURVE)
    assert learning_curve_svg(CURVE) != learning_curve_svg(CURVE[:2])


@pytest.mark.parametrize("curve", [CURVE[:1], [{"epoch": 1}], [{"loss": float("nan"), "validation_loss": 0.1}]])
def test_a_short_or_strange_curve_still_draws(curve: list[dict[str, Any]]) -> None:
    assert pictures(cards.learning_curve(curve))


def test_a_curve_without_an_epoch_says_so() -> None:
    assert cards.learning_curve([]) == "No epoch has ended yet."
    assert not pictures(cards.model_card(VERSION, FIGURES, []).markdown())


def test_an_intent_card_shows_calibration() -> None:
    figures = {"challenger": {"targets": 500, "pr_auc": 0.3, "calibration": CALIBRATION}, "champion": None}
    markdown = cards.model_card(VERSION, figures, []).markdown()
    assert "chance that it ends with a purchase" in markdown
    assert "| PR-AUC | 0.3000 |" in markdown
    assert pictures(markdown) == [calibration_svg(CALIBRATION)]


def test_the_page_lies_under_its_name_and_version(card: cards.Card, tmp_path: Path) -> None:
    path = cards.write_page(card, VERSION, tmp_path)
    assert path == tmp_path / "cards" / "boat-recommend-3.html"
    assert path.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert "<script" not in path.read_text(encoding="utf-8")
