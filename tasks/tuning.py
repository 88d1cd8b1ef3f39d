"""Better parameters, if a run asks for them. Without Prefect: `boat.tuning.study`, `boat.reports.tuning_card`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from prefect import get_run_logger, runtime, task
from prefect.artifacts import create_link_artifact

from boat.kinds import KindName
from boat.snapshot import Snapshot
from tasks.blocks import Platform
from tasks.reports import LiveArtifact

if TYPE_CHECKING:
    from optuna import Study


@dataclass(frozen=True)
class Advice:
    """What a training is to be told.

    Attributes:
        parameters: What it is told anyway, and what a search has found to be better.
        page: Address of the page about that search; empty where there was none.
    """

    parameters: Mapping[str, Any]
    page: str = ""


@task(task_run_name="tune {kind}")
def tune_parameters(
    platform: Platform, taken: Snapshot, kind: KindName, told: Mapping[str, Any], minutes: float, trials: int
) -> Advice:
    """Try parameters, with a page that grows in the UI. The best by the validation figure is taken.

    A second attempt, or a later run on the same data, goes on with what the first one left.
    """
    from boat.reports import tuning_card
    from boat.tuning.study import Budget, Subject, best, search

    logger = get_run_logger()
    subject = Subject(kind, told, taken.uri, taken.digest, platform.store)
    if not subject.space:
        logger.info("The model %s has no parameters to search for.", told.get("model", kind))
        return Advice(told)
    chart = LiveArtifact(f"tuning-{kind}", f"Tuning of {kind}")

    def show(study: "Study") -> None:
        chart.update(lambda: tuning_card.search_card(study, subject).markdown())

    budget = Budget(minutes, trials, str(runtime.flow_run.id))
    study = search(platform.compute, subject, budget, show)
    card = tuning_card.search_card(study, subject, over=True)
    chart.update(card.markdown, now=True)
    with platform.reporting() as folder:
        page = tuning_card.write_page(card, study, folder)
    link = platform.report_link(page, folder)
    create_link_artifact(link, link_text=card.title)
    found = best(study)
    if found is None:
        logger.warning("No trial came to its end: %s is trained with what it is told anyway. See %s.", kind, link)
        return Advice(told, link)
    logger.info("%s: trial %s of %s is the best, %s.", kind, found.number, len(study.trials), found.params)
    return Advice({**told, **found.params}, link)
