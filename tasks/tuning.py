"""Tuning of training parameters. Without Prefect: `boat.tuning.study`, `boat.reports.tuning_card`."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from prefect import get_run_logger, runtime, task
from prefect.artifacts import create_link_artifact

from boat.kinds import KindName, TrainingParameters
from boat.models.parameters import ChosenParameters
from boat.snapshot import Snapshot
from tasks.blocks import Platform
from tasks.live import LiveArtifact

if TYPE_CHECKING:
    from optuna import Study


@dataclass(frozen=True)
class Advice:
    """The parameters for a training.

    Attributes:
        parameters: The best parameters of the tuning, or the user's own.
        page: URL of the tuning's page; empty without a tuning.
    """

    parameters: TrainingParameters
    page: str = ""


@task(task_run_name="tune {kind}")
def tune_parameters(
    platform: Platform, snapshot: Snapshot, kind: KindName, chosen: ChosenParameters, minutes: float, trials: int
) -> Advice:
    """Tune the parameters of a training. The trial with the best validation metric wins.

    A second attempt, or a later run on the same data, continues the study. A page in the UI shows the trials.
    """
    from boat.reports import tuning_card
    from boat.tuning.study import Budget, TuningTask, best, tune

    logger = get_run_logger()
    tuning = TuningTask(kind, chosen.values, chosen.fixed, snapshot.uri, snapshot.digest, platform.store)
    if not tuning.space:
        logger.info("The model %s has no parameters to tune.", chosen.values.model)
        return Advice(chosen.values)
    chart = LiveArtifact(f"tuning-{kind}", f"Tuning of {kind}")

    def show(study: "Study") -> None:
        chart.update(lambda: tuning_card.tuning_card(study, tuning).markdown())

    budget = Budget(minutes, trials, str(runtime.flow_run.id))
    study = tune(platform.compute, tuning, budget, show)
    card = tuning_card.tuning_card(study, tuning, is_over=True)
    chart.update(card.markdown, now=True)
    with platform.reporting() as folder:
        page = tuning_card.write_page(card, study, folder)
    link = platform.report_link(page, folder)
    create_link_artifact(link, link_text=card.title)
    trial = best(study)
    if trial is None:
        logger.warning("No trial of %s is complete. It is trained with the chosen parameters. See %s.", kind, link)
        return Advice(chosen.values, link)
    logger.info("%s: trial %s of %s is the best: %s.", kind, trial.number, len(study.trials), trial.params)
    return Advice(replace(chosen.values, **trial.params), link)
