"""Measure the cost of Prefect: the same steps as plain function calls and as the flows that users run.

Both pipelines load the same synthetic events, build the warehouse and its documentation, check it, report its KPIs and
take a snapshot. Then they train, evaluate and register both models and update their endpoints. Each pipeline has its
own process and shop; they run one after the other on the same services. The flows report to a real Prefect server. The
time in which a worker waits for work is left out. Both run several times and take turns to be first. The fastest runs
are compared, because other work on the machine only makes a run longer.

    python benchmarks/orchestration.py [--sessions 20000] [--training-seconds 15] [--times 2]
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path

from bars import at_most, conclude
from boat import settings
from boat.kinds import KINDS, endpoint_of
from boat.settings import Settings

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))  # flows and tasks are not installed: Prefect imports them from the current folder
LIMIT = 0.10


def plain(config: Settings, shop: str, files: Path, training_seconds: float) -> None:
    """Run the pipeline as function calls."""
    from boat import quality, raw_log, snapshot
    from boat.compute import JobSpec
    from boat.evaluation import gate
    from boat.evaluation.report import EvaluationReport
    from boat.models import archive
    from boat.registry.tracking import Training
    from boat.reports import kpis, model_card
    from boat.serving import ServedModel
    from boat.serving.base import invoke
    from expectations import suites
    from tasks.blocks import Platform
    from tasks.serving import SMOKE_SESSION

    block = Platform.on_laptop(config, shop)
    raw_log.load(block.warehouse, files)
    dbt, folders = str(Path(sys.executable).with_name("dbt")), ["--project-dir", "dbt", "--profiles-dir", "dbt"]
    target = config.dbt_target("default")
    targets = {"DBT_TARGET_PATH": str(target), "DBT_LOG_PATH": str(target.with_name("logs"))}
    environment = {**os.environ, **block.warehouse.dbt_environment(), **targets}
    with block.warehouse.exclusive():
        for command in (["build", "--exclude-resource-type", "unit_test"], ["docs", "generate", "--static"]):
            subprocess.run([dbt, *command, *folders], env=environment, check=True, stdout=subprocess.DEVNULL)
    block.warehouse.publish_copy()
    for _ in range(2):  # ingestion and retrain both check
        quality.raise_for(quality.check(block.warehouse, suites(), Path(block.reports)))
    kpis.write(block.warehouse, Path(block.reports))
    examples = snapshot.take(block.warehouse, Path(block.store), days=90)
    for kind in KINDS:
        name = endpoint_of(kind)
        output = Path(block.store) / "models" / kind
        parameters = json.dumps({"seed": 0, "max_seconds": training_seconds})
        arguments = {"kind": kind, "snapshot": examples.uri, "output": str(output), "parameters": parameters}
        block.compute.run(JobSpec("train", "boat.models.train", arguments), lambda line: None)
        model, figures = output / "model.tar.gz", output / "evaluation.json"
        arguments = {"kind": kind, "snapshot": examples.uri, "model": str(model), "output": str(figures)}
        block.compute.run(JobSpec("evaluate", "boat.evaluation.evaluate", arguments), lambda line: None)
        report = EvaluationReport.from_json(figures.read_text(), str(figures))
        digest = archive.digest(model)
        version = block.registry.register(Training(name, str(model), digest, "", {}, {}, {}))
        model_card.write_page(model_card.model_card(version, report, []), version, Path(block.reports))
        gate.decide(kind, report)
        block.serving.update(name, ServedModel(str(model), digest, version.version))
        invoke(block.serving.runtime(), name, [SMOKE_SESSION])
        block.registry.promote(name, version.version)


def flows(config: Settings, shop: str, files: Path, training_seconds: float) -> None:
    """Run the pipeline as flows."""
    from flows.ingestion import ingestion
    from flows.promote import promote
    from flows.retrain import retrain
    from tasks.blocks import Platform

    Platform.on_laptop(config, shop).save(shop, overwrite=True)
    ingestion(source=str(files), platform=shop)
    retrain(max_minutes=training_seconds / 60, promote=False, platform=shop)
    promote(platform=shop)


PIPELINES: dict[str, Callable[[Settings, str, Path, float], None]] = {"plain": plain, "flows": flows}


def timed(pipeline: str, config: Settings, shop: str, files: Path, training_seconds: float) -> float:
    """Return the seconds of a pipeline in a new process, including its start."""
    from deployments.environment import of_services

    started = time.monotonic()
    options = ["--pipeline", pipeline, "--shop", shop, "--files", str(files)]
    options += ["--training-seconds", str(training_seconds)]
    subprocess.run(
        [sys.executable, __file__, *options], env=of_services(config), cwd=ROOT, check=True, stdout=sys.stderr
    )
    return time.monotonic() - started


def compare(sessions: int, training_seconds: float, times: int) -> int:
    """Compare both pipelines. They take turns to be first."""
    from boat import synthetic
    from deployments import services

    took: dict[str, list[float]] = {pipeline: [] for pipeline in PIPELINES}
    with tempfile.TemporaryDirectory(prefix="boat-benchmark-") as folder, redirect_stdout(sys.stderr):
        os.environ.update(BOAT_HOME=f"{folder}/boat", HOME=folder, PREFECT_HOME=f"{folder}/prefect")
        files = Path(folder, "landing")
        synthetic.generate(files, sessions=sessions, days=28, seed=7)
        config = services.up(settings.load())
        try:
            for turn in range(times):
                for pipeline in sorted(PIPELINES, reverse=turn % 2 == 0):
                    took[pipeline].append(timed(pipeline, config, f"{pipeline}-{turn}", files, training_seconds))
        finally:
            services.down(config)
    fastest = {pipeline: min(seconds) for pipeline, seconds in took.items()}
    share = fastest["flows"] / fastest["plain"] - 1
    figures = {
        "plain_seconds": round(fastest["plain"], 1),
        "plain_slowest": round(max(took["plain"]), 1),
        "flow_seconds": round(fastest["flows"], 1),
        "flow_slowest": round(max(took["flows"]), 1),
        "overhead_share": round(share, 3),
    }
    return conclude("orchestration", figures, at_most("overhead_share", round(share, 3), LIMIT))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sessions", type=int, default=20_000)
    parser.add_argument("--training-seconds", type=float, default=15)
    parser.add_argument("--times", type=int, default=2, help="number of runs of each pipeline")
    parser.add_argument("--pipeline", choices=sorted(PIPELINES), help=argparse.SUPPRESS)
    parser.add_argument("--shop", help=argparse.SUPPRESS)
    parser.add_argument("--files", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.pipeline is None:
        return compare(options.sessions, options.training_seconds, options.times)
    PIPELINES[options.pipeline](settings.load(), options.shop, options.files, options.training_seconds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
