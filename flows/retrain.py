"""Nightly training, evaluation and registration of models."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Annotated, Any

from prefect import Task, flow, get_run_logger
from prefect.deployments import run_deployment
from prefect.exceptions import CancelledRun
from prefect.states import Completed, State
from pydantic import Field

from boat.errors import RetrainError
from boat.evaluation import gate
from boat.kinds import KINDS, KindName, TrainingParameters, load
from boat.recommend.parameters import RecommendModel, RecommendParameters
from boat.registry.versions import ModelVersion
from boat.snapshot import Snapshot
from tasks.alerts import alert_failure
from tasks.blocks import Platform, RetryPolicy
from tasks.evaluation import Evaluation, Release, evaluate_model, fit_release
from tasks.naming import dated
from tasks.quality import check_quality
from tasks.registry import publish_card, register_model
from tasks.training import TrainedModel, kinds_in, take_snapshot, train_model, training_parameters
from tasks.tuning import Advice, tune_parameters
from tasks.turns import take_turn


@flow(name="retrain", flow_run_name=dated("retrain"), on_failure=[alert_failure], timeout_seconds=6 * 3600)
def retrain(
    days: Annotated[int, Field(ge=2, le=730)] = 90,
    as_of: datetime | None = None,
    test_days: Annotated[int, Field(ge=1, le=90)] | None = None,
    kinds: tuple[KindName, ...] = KINDS,
    recommender: RecommendModel = RecommendParameters.model,
    parameters: dict[KindName, dict[str, Any]] | None = None,
    seed: int = 0,
    max_minutes: Annotated[float, Field(ge=0.1, le=240)] = 10,
    tuning_minutes: Annotated[float, Field(ge=0, le=120)] = 0,
    tuning_trials: Annotated[int, Field(ge=1, le=1000)] = 50,
    promote: bool = True,
    platform: str = "default",
) -> State:
    """Train, evaluate and register models on the newest sessions, then start `promote/latest`.

    Args:
        days: Days of sessions in the snapshot. The newest complete days are for validation and test.
        as_of: End of the snapshot and of the test days (UTC). Empty: the newest event and the last complete day.
        test_days: Days for the test. Empty: as few as give narrow intervals.
        kinds: Kinds of models to train.
        recommender: Recommendation model to train.
        parameters: Extra training parameters by kind, such as {"recommend": {"dropout": 0.3}, "intent": {"units": 64}}.
        seed: The same seed on the same data gives the same model, up to rounding.
        max_minutes: Longest training time of each model.
        tuning_minutes: Time to tune the parameters of each model before its training. 0: no tuning.
        tuning_trials: Largest number of tuning trials of each model.
        promote: Start `promote/latest` at the end, for the kinds whose training did not fail.
        platform: Name of the Boat Platform block.
    """
    common = {"seed": seed, "max_seconds": 60 * max_minutes}
    chosen = training_parameters(common, {"recommend": {"model": recommender}}, parameters or {})
    block = Platform.load(platform)
    take_turn(platform, "retrain")
    retried = RetryPolicy.load("default").apply

    retried(check_quality)(block)
    snapshot = retried(take_snapshot)(block, days, as_of, test_days)
    challengers: list[ModelVersion] = []
    failures: dict[KindName, Exception] = {}
    for kind in kinds_in(snapshot, kinds):
        try:
            advice = Advice(chosen[kind].values)
            if tuning_minutes:
                advice = retried(tune_parameters)(block, snapshot, kind, chosen[kind], tuning_minutes, tuning_trials)
            trained, evaluation = train_and_evaluate(block, retried, snapshot, kind, advice.parameters)
            release = Release(None, "The gates refuse this version.")
            if evaluation.decision.accepted:
                release = retried(fit_release)(block, snapshot, trained)
            version = retried(register_model)(block, snapshot, trained, evaluation, release, advice.page)
            retried(publish_card)(block, version, trained, evaluation, release)
            challengers.append(version)
        except (CancelledRun, TimeoutError):  # of this flow run
            raise
        except Exception as error:  # the other kinds are still trained and released
            failures[kind] = error
            get_run_logger().exception("There is no new %s model.", kind)

    others = tuple(kind for kind in kinds if kind not in failures)
    if promote and others:
        run_deployment("promote/latest", parameters={"kinds": others, "platform": platform}, timeout=0)
    raise_for(failures, challengers)
    return Completed(
        name=None if all(version.is_registered for version in challengers) else "Unregistered",
        message=" ".join(f"{version.name} version {version.version}." for version in challengers),
    )


def train_and_evaluate(
    block: Platform,
    retried: Callable[[Task[..., Any]], Task[..., Any]],
    snapshot: Snapshot,
    kind: KindName,
    parameters: TrainingParameters,
) -> tuple[TrainedModel, Evaluation]:
    """Train a model without the test days of a snapshot, and evaluate it on them.

    If only its baselines refuse a first model that the user has not chosen, the best of them is trained instead.
    """
    trained = retried(train_model)(block, snapshot, kind, parameters)
    test_from = snapshot.test_from.isoformat()
    evaluation = retried(evaluate_model)(block, kind, trained.uri, snapshot.uri, test_from, needs_champion=False)
    simpler = gate.simpler_model(kind, evaluation.report, evaluation.decision)
    is_default = parameters.model == load(kind).parameters().model
    if simpler is None or not is_default:
        return trained, evaluation
    get_run_logger().warning("%s Its baseline %s is trained instead.", evaluation.decision.text, simpler)
    return train_and_evaluate(block, retried, snapshot, kind, replace(parameters, model=simpler))


def raise_for(failures: Mapping[KindName, Exception], registered: Sequence[ModelVersion]) -> None:
    """Raise an error that names the kinds without a new model, if there are any.

    Raises:
        RetrainError: A training, an evaluation or a registration failed.
    """
    if failures:
        reasons = " ".join(f"{kind}: {type(error).__name__}: {error}" for kind, error in failures.items())
        versions = ", ".join(f"{version.name} version {version.version}" for version in registered)
        raise RetrainError(
            f"There is no new model of {' and '.join(failures)}. {reasons}"
            + (f" Registered: {versions}." if versions else ""),
            "Correct the cause, then run `retrain/nightly` again.",
        ) from next(iter(failures.values()))
