"""Update an endpoint, test it, and roll back if it fails. Without Prefect: `boat.serving.connect(url).update(...)`."""

from prefect import get_run_logger, task

from boat.errors import EndpointError
from boat.models.sessions import SessionEvent
from boat.registry.versions import ModelVersion
from boat.serving import ServedModel
from boat.serving.base import invoke
from tasks.blocks import Platform

SMOKE_SESSION: list[SessionEvent] = [
    {"event_type": "pageview", "url": "smoke-test", "event_time": 0.0},
    {"event_type": "detail", "product_id": "a product that is not in the shop", "event_time": 1.0},
]
"""A session that every model must answer, also if it was trained on other products."""


@task(task_run_name="describe {version.name}")
def describe_endpoint(platform: Platform, version: ModelVersion) -> ServedModel | None:
    """Return the model that an endpoint serves before its update, or `None` if the endpoint does not answer.

    After an interrupted update the endpoint serves the version already. Then the champion is returned.
    """
    live = platform.serving.describe(version.name)
    if live is None or live.digest != version.released.digest:
        return live
    champion = platform.registry.by_alias(version.name, "champion")
    return None if champion is None or champion.version == version.version else _served(platform, champion)


@task(task_run_name="update {version.name} to version {version.version}")
def update_endpoint(platform: Platform, version: ModelVersion) -> None:
    """Deploy a version to its endpoint."""
    platform.serving.update(version.name, _served(platform, version))


def _served(platform: Platform, version: ModelVersion) -> ServedModel:
    archive = version.released
    return ServedModel(platform.servable(archive.uri), archive.digest, version.version)


@task(task_run_name="smoke test {version.name}")
def smoke_test(platform: Platform, version: ModelVersion, before: ServedModel | None) -> None:
    """Request a prediction, as a shop would. If it fails, restore the model of `before`.

    Raises:
        EndpointError: The new version failed. The message names the version that is restored.
    """
    serving = platform.serving
    try:
        (answer,) = invoke(serving.runtime(), version.name, [SMOKE_SESSION])
    except EndpointError as error:
        if before is None:
            raise
        serving.update(version.name, before)
        raise EndpointError(
            f"Version {version.version} of {version.name} failed its smoke test: {error.message}",
            f"Version {before.version} is restored.",
        ) from error
    get_run_logger().info("%s version %s passed its smoke test: %s", version.name, version.version, str(answer)[:200])
