"""The page about scale has the output of the script, and its costs depend on the inputs as expected."""

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.conftest import ROOT

BENCHMARKS = ("elt", "growth", "collect", "accuracy", "training", "serving", "orchestration")


@pytest.fixture(scope="module")
def printed() -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "benchmarks/scale.py"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)


def figures(inputs: dict[str, Any], folder: Any) -> dict[str, float]:
    path = folder / "inputs.json"
    path.write_text(json.dumps(inputs))
    command = [sys.executable, "benchmarks/scale.py", "--inputs", str(path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])["figures"]
    return figures


def test_the_page_shows_the_table_that_the_script_prints(printed: "subprocess.CompletedProcess[str]") -> None:
    page = (ROOT / "docs" / "scale.md").read_text()
    table = page.split("<!-- scale.py -->\n")[1].split("\n<!-- /scale.py -->")[0]
    assert table == printed.stderr.rstrip("\n")


def test_the_last_line_has_the_figures(printed: "subprocess.CompletedProcess[str]") -> None:
    line = json.loads(printed.stdout.splitlines()[-1])
    assert line["benchmark"] == "scale"
    assert all(bar["holds"] for bar in line["bars"])


def test_every_rate_names_the_benchmark_that_prints_it() -> None:
    inputs = json.loads((ROOT / "benchmarks" / "scale.json").read_text())
    assert inputs["measured"]
    for rate in inputs["measured"].values():
        assert rate["benchmark"] in BENCHMARKS
        assert rate["figure"]


def test_more_events_cost_more_in_total_and_less_per_event(printed: "subprocess.CompletedProcess[str]") -> None:
    figures = json.loads(printed.stdout.splitlines()[-1])["figures"]
    assert figures["total_36M"] < figures["total_1B"] < figures["total_100B"]
    assert figures["per_million_events_36M"] > figures["per_million_events_1B"] > figures["per_million_events_100B"]
    assert figures["standing_36M"] == figures["standing_100B"], "Prefect does not grow with events"


def test_half_the_training_speed_takes_twice_as_long(
    tmp_path: Any, printed: "subprocess.CompletedProcess[str]"
) -> None:
    inputs = json.loads((ROOT / "benchmarks" / "scale.json").read_text())
    before = json.loads(printed.stdout.splitlines()[-1])["figures"]["training_hours_36M"]
    inputs["measured"]["training_events_per_second"]["value"] /= 2
    assert figures(inputs, tmp_path)["training_hours_36M"] == pytest.approx(2 * before)
