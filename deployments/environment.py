"""The environment of an installation: what its services find in theirs, and what reaches our own Prefect client.

Settings that a user has for another Prefect, MLflow or dbt stay out of both.
"""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from prefect.context import use_profile
from prefect.settings import PREFECT_API_URL, PREFECT_UI_URL, Profile

from boat import settings
from boat.errors import BoatError
from boat.settings import Settings

QUIET = "ignore:Mixing V1 models and V2 models"
"""A warning of prefect-dbt's own block classes at each import; nothing of ours mixes them."""
PROFILE = "boat"
_FOREIGN = ("PREFECT_", "MLFLOW_", "DBT_", "GX_", "UVICORN_", "WEB_CONCURRENCY", "FORWARDED_ALLOW_IPS")
_CREDENTIALS = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")
"""For a tracking server that the platform block names; like `AWS_…` and `SNOWFLAKE_…` they stay."""
_OF_THE_COMMAND = ("PREFECT_HOME", "PREFECT_PROFILES_PATH")
"""Where the user's own `prefect` command has its profiles, to which `make up` adds one."""


def _is_foreign(name: str) -> bool:
    return name.startswith(_FOREIGN) and name not in _CREDENTIALS


def of_services(config: Settings) -> dict[str, str]:
    """The environment of every service, and so of every flow run: the user's own without what is for other programs."""
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
    """Let this process's Prefect client speak to the installation, with no setting of the user's active profile."""
    addresses = {PREFECT_API_URL: config.prefect_api_url, PREFECT_UI_URL: config.prefect_ui_url}
    with use_profile(Profile(name=PROFILE, settings=addresses), True, include_current_context=False):
        yield


def _leave_foreign_settings() -> None:
    """Take what is for other programs out of this process's environment, and say so."""
    foreign = sorted(name for name in os.environ if _is_foreign(name) and name not in _OF_THE_COMMAND)
    for name in foreign:
        del os.environ[name]
    if foreign:
        print(f"not used by this installation: {', '.join(foreign)}", file=sys.stderr)
    if "PREFECT_API_URL" in foreign:
        print("PREFECT_API_URL sends your own `prefect` command elsewhere; unset it to use this one", file=sys.stderr)


def run_command(command: Callable[[], int]) -> int:
    """Run a command's work in a clean environment; returns its exit status, or 1 with an error's one line on stderr."""
    try:
        _leave_foreign_settings()
        settings.reach_loopback(os.environ)
        return command()
    except BoatError as error:
        print(error, file=sys.stderr)
        return 1
