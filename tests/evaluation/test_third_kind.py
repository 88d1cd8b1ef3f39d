"""A third kind of model needs a package and one word in `boat.kinds`. No other code changes."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

_SCRIPT = """
import json, sys
from datetime import UTC, datetime
from pathlib import Path

from boat import kinds, snapshot
from boat.evaluation import evaluate, gate
from boat.evaluation.report import EvaluationReport
from boat.models import archive, train
from boat.models.served import SavedModel
from boat.registry.versions import ModelVersion
from boat.reports.model_card import model_card
from boat.serving.endpoints import check_model
from boat.tuning.space import space
from flows.retrain import retrain
from tasks.training import training_parameters

folder, output = sys.argv[1:]
model, report_path = f"{output}/model.tar.gz", f"{output}/report.json"
retrain.validate_parameters({"kinds": ["cart"], "parameters": {"cart": {"smoothing": 2}}})
chosen = training_parameters({"seed": 3}, {"cart": {"smoothing": 2}})["cart"]
parameters = json.dumps({"seed": chosen.values.seed, "smoothing": chosen.values.smoothing})
arguments = ["--kind", "cart", "--snapshot", folder, "--output", output, "--parameters", parameters]
assert train.main(arguments) == 0
assert evaluate.main(["--kind", "cart", "--model", model, "--snapshot", folder, "--output", report_path]) == 0
report = EvaluationReport.from_json(Path(report_path).read_text(), report_path)
manifest = archive.unpack(Path(model), Path(output, "model"), archive.digest(Path(model)))
check_model("boat-cart", model, SavedModel(Path(output, "model"), manifest))
print(json.dumps({
    "endpoint": kinds.load("cart").endpoint,
    "smoothing": manifest.parameters["smoothing"],
    "tuned": list(space("cart", "constant")),
    "gates": [condition.name for condition in gate.decide("cart", report).gates if condition.passed],
    "files": list(snapshot._queries("shop", None, datetime.now(UTC))),
}))
"""


@pytest.mark.slow
def test_a_third_kind_is_trained_evaluated_and_served_after_one_line(shop: Path, tmp_path: Path) -> None:
    core = tmp_path / "src" / "boat"
    shutil.copytree(ROOT / "src/boat", core, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "tests/third_kind", core / "cart", ignore=shutil.ignore_patterns("__pycache__"))
    line = 'KindName = Literal["recommend", "intent"'
    text = (core / "kinds.py").read_text()
    assert line in text
    (core / "kinds.py").write_text(text.replace(line, f'{line}, "cart"'))

    environment = {**os.environ, "PYTHONPATH": f"{core.parent}:{ROOT}", "PREFECT_HOME": str(tmp_path / "prefect")}
    command = [sys.executable, "-c", _SCRIPT, str(shop), str(tmp_path / "output")]
    run = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, check=False)
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout.splitlines()[-1]) == {
        "endpoint": "boat-cart",
        "smoothing": 2,
        "tuned": ["smoothing"],
        "gates": ["targets", "champion", "none", "behaviour"],
        "files": ["recommend.parquet", "intent.parquet", "cart.parquet", "products.parquet"],
    }
