"""Where things lie on this machine. The only place that reads `BOAT_…` environment variables."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from boat.errors import SettingError

RECOMMEND = "boat-recommend"
INTENT = "boat-intent"
ENDPOINT_OF = {"recommend": RECOMMEND, "intent": INTENT}
"""Endpoint, and registered model, of each kind of model."""
MIN_SECRET = 16
"""Characters of a signing secret, at least."""


@dataclass(frozen=True)
class Settings:
    """Folders and addresses of one installation.

    Attributes:
        home: Folder that holds all state (`BOAT_HOME`, default `.boat` in the current folder).
        prefect_port: Port of the Prefect server (`BOAT_PREFECT_PORT`).
        endpoint_port: Port of the endpoint host (`BOAT_ENDPOINT_PORT`).
        reports_port: Port of the reports and the alert inbox (`BOAT_REPORTS_PORT`).
        collect_port: Port of the collector (`BOAT_COLLECT_PORT`).
        slack_webhook_url: Where alerts go; empty means the local inbox (`BOAT_SLACK_WEBHOOK_URL`).
    """

    home: Path
    prefect_port: int = 4200
    endpoint_port: int = 8080
    reports_port: int = 8090
    collect_port: int = 8070
    slack_webhook_url: str = ""

    def shop(self, name: str) -> Path:
        """Folder of one shop's data: landing files, warehouse, snapshots, models, registry."""
        return self.home / "shops" / name

    @property
    def dbt_target(self) -> Path:
        """Where dbt leaves its manifest and results."""
        return self.home / "dbt" / "target"

    @property
    def cache(self) -> Path:
        """What has been fetched from an artifact store elsewhere. May be deleted at any time."""
        return self.home / "cache"

    @property
    def serving(self) -> Path:
        return self.home / "serving"

    @property
    def reports(self) -> Path:
        return self.home / "reports"

    @property
    def prefect_api_url(self) -> str:
        return f"http://127.0.0.1:{self.prefect_port}/api"

    @property
    def prefect_ui_url(self) -> str:
        return f"http://127.0.0.1:{self.prefect_port}"

    @property
    def endpoint_url(self) -> str:
        return f"http://127.0.0.1:{self.endpoint_port}"

    @property
    def reports_url(self) -> str:
        return f"http://127.0.0.1:{self.reports_port}"

    @property
    def collect_url(self) -> str:
        return f"http://127.0.0.1:{self.collect_port}"


def load(environment: Mapping[str, str] | None = None) -> Settings:
    """Read the settings from `environment` (default: the process's own). Makes no folder."""
    env = os.environ if environment is None else environment
    defaults = Settings(home=Path(".boat"))
    return Settings(
        home=Path(env.get("BOAT_HOME") or defaults.home).expanduser().absolute(),
        prefect_port=int(env.get("BOAT_PREFECT_PORT") or defaults.prefect_port),
        endpoint_port=int(env.get("BOAT_ENDPOINT_PORT") or defaults.endpoint_port),
        reports_port=int(env.get("BOAT_REPORTS_PORT") or defaults.reports_port),
        collect_port=int(env.get("BOAT_COLLECT_PORT") or defaults.collect_port),
        slack_webhook_url=env.get("BOAT_SLACK_WEBHOOK_URL", ""),
    )


@dataclass(frozen=True)
class CollectorSettings:
    """What a collector finds in its environment.

    Attributes:
        landing: Landing folder, or `s3://bucket/prefix` for the Lambda function (`BOAT_COLLECT_LANDING`).
        origins: Origins of the pages that may send (`BOAT_COLLECT_ORIGINS`, with commas between them).
        secrets: Of each signing key (`BOAT_COLLECT_KEYS`, as `key:secret,key:secret`).
        proxies: Addresses of the proxies in front of the local server (`BOAT_COLLECT_PROXIES`, with commas between
            them).
    """

    landing: str = ""
    origins: frozenset[str] = frozenset()
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    proxies: str = ""


def load_collector(environment: Mapping[str, str] | None = None) -> CollectorSettings:
    """Read a collector's settings from `environment` (default: the process's own).

    Raises:
        SettingError: The keys cannot be read.
    """
    env = os.environ if environment is None else environment
    pairs = [pair.strip().partition(":") for pair in env.get("BOAT_COLLECT_KEYS", "").split(",") if pair.strip()]
    if any(not key or len(secret) < MIN_SECRET for key, _, secret in pairs):
        raise SettingError(
            "BOAT_COLLECT_KEYS is not key:secret,key:secret.", f"A secret has at least {MIN_SECRET} characters."
        )
    return CollectorSettings(
        landing=env.get("BOAT_COLLECT_LANDING", ""),
        origins=frozenset(filter(None, map(str.strip, env.get("BOAT_COLLECT_ORIGINS", "").split(",")))),
        secrets={key: secret for key, _, secret in pairs},
        proxies=env.get("BOAT_COLLECT_PROXIES", ""),
    )
