"""The environment variables of the services, and the settings of this process's Prefect client.

A user's settings for another Prefect, MLflow or dbt installation are removed from both.
"""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from prefect.context import use_profile
from prefect.settings import PREFECT_API_URL, PREFECT_UI_URL, Profile

from boat import settings
from boat.errors import BoatError
from boat.settings import Settings

QUIET = "ignore:Mixing V1 models and V2 models"
"""A warning about block classes of prefect-dbt, printed at each import. Boat's classes do not cause it."""
PROFILE = "boat"
_FOREIGN = ("PREFECT_", "MLFLOW_", "DBT_", "GX_", "UVICORN_", "WEB_CONCURRENCY", "FORWARDED_ALLOW_IPS")
_CREDENTIALS = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")
"""Login of a tracking server that the platform block names. Like `AWS_…` and `SNOWFLAKE_…`, it is not removed."""
_PROFILES = ("PREFECT_HOME", "PREFECT_PROFILES_PATH")
"""Location of the profiles of the user's `prefect` command, to which `make up` adds one."""


def _is_foreign(name: str) -> bool:
    return name.startswith(_FOREIGN) and name not in _CREDENTIALS


def of_services(config: Settings) -> dict[str, str]:
    """Return the environment of the services and flow runs: the user's environment without foreign settings."""
    inherited = {name: value for name, value in os.environ.items() if not _is_foreign(name)}
    settings.reach_loopback(inherited)
    return {
        **inherited,
        "BOAT_HOME": str(config.home),
        **{variable: str(getattr(config, name)) for name, variable in settings.PORT_VARIABLES.items()},
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
        "PREFECT_HOME": str(config.home / "prefect"),
        "PREFECT_PROFILES_PATH": str(config.home / "prefect" / "profiles.toml"),
        "PREFECT_API_URL": config.prefect_api_url,
        "PREFECT_UI_URL": config.prefect_ui_url,
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_WORKER_QUERY_SECONDS": "2",
        "PYTHONWARNINGS": QUIET,
        "DO_NOT_TRACK": "1",  # read by dbt
    }


@contextmanager
def as_client(config: Settings) -> Iterator[None]:
    """Connect this process's Prefect client to the installation, without the user's active profile."""
    addresses = {PREFECT_API_URL: config.prefect_api_url, PREFECT_UI_URL: config.prefect_ui_url}
    with use_profile(Profile(name=PROFILE, settings=addresses), True, include_current_context=False):
        yield


def _remove_foreign_settings() -> None:
    """Remove foreign settings from this process's environment, and print their names."""
    foreign = sorted(name for name in os.environ if _is_foreign(name) and name not in _PROFILES)
    for name in foreign:
        del os.environ[name]
    if foreign:
        print(f"Variables that this installation does not use: {', '.join(foreign)}.", file=sys.stderr)
    if "PREFECT_API_URL" in foreign:
        print(
            "Your `prefect` command uses PREFECT_API_URL. Unset it to use this installation's server.", file=sys.stderr
        )


def run_command(command: Callable[[], int]) -> int:
    """Run a command without foreign settings. Return its exit status, or print its error and return 1."""
    try:
        _remove_foreign_settings()
        settings.reach_loopback(os.environ)
        return command()
    except BoatError as error:
        print(error, file=sys.stderr)
        return 1
    except httpx.TransportError as error:
        print(f"A service did not answer ({error!r}). See `make status`, then run the command again.", file=sys.stderr)
        return 1
