"""The page about scale shows what the script prints, and the arithmetic behaves as arithmetic should."""

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
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])["figures"]
    return found


def test_the_page_shows_the_table_that_the_script_prints(printed: "subprocess.CompletedProcess[str]") -> None:
    page = (ROOT / "docs" / "scale.md").read_text()
    shown = page.split("<!-- scale.py -->\n")[1].split("\n<!-- /scale.py -->")[0]
    assert shown == printed.stderr.rstrip("\n")


def test_the_last_line_is_the_figures(printed: "subprocess.CompletedProcess[str]") -> None:
    line = json.loads(printed.stdout.splitlines()[-1])
    assert line["benchmark"] == "scale"
    assert all(bar["holds"] for bar in line["bars"])


def test_every_rate_names_the_benchmark_that_prints_it() -> None:
    inputs = json.loads((ROOT / "benchmarks" / "scale.json").read_text())
    assert inputs["measured"]
    for rate in inputs["measured"].values():
        assert rate["benchmark"] in BENCHMARKS
        assert rate["figure"]


def test_more_events_cost_more_in_all_and_less_each(printed: "subprocess.CompletedProcess[str]") -> None:
    found = json.loads(printed.stdout.splitlines()[-1])["figures"]
    assert found["total_36M"] < found["total_1B"] < found["total_100B"]
    assert found["per_million_events_36M"] > found["per_million_events_1B"] > found["per_million_events_100B"]
    assert found["standing_36M"] == found["standing_100B"], "Prefect does not grow with events"


def test_a_training_half_as_fast_takes_twice_as_long(
    tmp_path: Any, printed: "subprocess.CompletedProcess[str]"
) -> None:
    inputs = json.loads((ROOT / "benchmarks" / "scale.json").read_text())
    before = json.loads(printed.stdout.splitlines()[-1])["figures"]["training_hours_36M"]
    inputs["measured"]["training_events_per_second"]["value"] /= 2
    assert figures(inputs, tmp_path)["training_hours_36M"] == pytest.approx(2 * before)
