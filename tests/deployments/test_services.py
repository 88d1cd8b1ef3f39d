"""Ports, configuration and environment of the services. These tests do not start the services."""

import json
import os
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path

import pytest
from supervisor.options import ServerOptions

from boat import settings
from boat.errors import SettingError
from boat.settings import MAX_PORT, PORT_VARIABLES, Settings
from deployments import environment, services
from tests.conftest import ROOT
from tests.installation import free_ports

EVERY_PORT = ("prefect_port", "endpoint_port", "reports_port", "collect_port")


def config_of(home: Path, **ports: int) -> Settings:
    """Return settings in which variables set only these ports."""
    variables = {PORT_VARIABLES[name]: str(number) for name, number in ports.items()}
    return settings.load({"BOAT_HOME": str(home), **variables})


def remember(home: Path, **ports: int) -> None:
    (home / "services.json").write_text(json.dumps(ports))


@pytest.fixture
def busy_port() -> Iterator[int]:
    """Yield a port on which another program listens."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server.getsockname()[1]


def test_the_ports_of_the_last_start_are_used_again(tmp_path: Path) -> None:
    ports = dict(zip(EVERY_PORT, free_ports(4), strict=True))
    remember(tmp_path, **ports)
    chosen = services.choose_ports(config_of(tmp_path))
    assert {name: getattr(chosen, name) for name in EVERY_PORT} == ports


def test_a_variable_has_priority_over_the_last_start_and_other_services(tmp_path: Path) -> None:
    first, second, third, fourth = free_ports(4)
    remember(tmp_path, prefect_port=first, endpoint_port=second, reports_port=third, collect_port=fourth)
    chosen = services.choose_ports(config_of(tmp_path, collect_port=first))
    assert chosen.collect_port == first
    assert chosen.prefect_port > first
    assert json.loads((tmp_path / "services.json").read_text())["collect_port"] == first


def test_a_service_uses_the_next_port_if_its_port_is_taken(
    tmp_path: Path, busy_port: int, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = services.choose_ports(config_of(tmp_path, reports_port=busy_port))
    assert chosen.reports_port > busy_port
    assert (
        f"Port {busy_port} is taken by another program: reports uses {chosen.reports_port}" in capsys.readouterr().out
    )


def test_the_search_for_a_free_port_ends_at_the_last_port(tmp_path: Path) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", MAX_PORT))
        server.listen()
        with pytest.raises(SettingError, match=f"No port from {MAX_PORT} to {MAX_PORT} is free. Set BOAT_PREFECT_PORT"):
            services.choose_ports(config_of(tmp_path, prefect_port=MAX_PORT))


def parsed(config: Settings, landing: str) -> ServerOptions:
    """Parse the configuration with supervisord."""
    options = ServerOptions()
    options.realize(["-c", str(services.write_config(config, landing)), "-n"])
    return options


@pytest.mark.parametrize("name", ["plain", "50%", "100%s", "a 'b' \"c\"", "a;b", "`d` (e) {f}", "ü 🛒"])
def test_supervisord_accepts_a_home_with_special_characters(name: str, tmp_path: Path) -> None:
    home = tmp_path / name
    settings.prepare_home(home)
    options = parsed(Settings(home), str(home / "landing"))
    assert options.logfile == str(home / "logs" / "supervisord.log")
    assert options.pidfile == str(home / "supervisord.pid")
    programs = {group.name: group.process_configs[0] for group in options.process_group_configs}
    assert programs["collector"].stdout_logfile == str(home / "logs" / "collector.log")
    assert str(home / "landing") in shlex.split(programs["collector"].command)
    assert str(home / "serving") in shlex.split(programs["endpoints"].command)


def test_the_collector_accepts_the_shops_of_its_demo_page_and_of_the_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BOAT_COLLECT_SHOPS", "mugs,shop")
    command = shlex.split(services.programs(Settings(tmp_path), "landing")["collector"])
    assert [word for option, word in pairwise(command) if option == "--shop"] == ["demo", "mugs", "shop"]


@pytest.fixture
def foreign_variables(monkeypatch: pytest.MonkeyPatch) -> Mapping[str, str]:
    """Set and return variables of a user for other installations."""
    variables = {
        "PREFECT_API_URL": "https://elsewhere.example/api",
        "PREFECT_API_KEY": "pnu_key",
        "PREFECT_API_DATABASE_CONNECTION_URL": "sqlite+aiosqlite:////nowhere/db",
        "PREFECT_LOGGING_LEVEL": "ERROR",
        "MLFLOW_TRACKING_URI": "http://elsewhere.example",
        "DBT_PROFILES_DIR": "/nowhere",
        "UVICORN_WORKERS": "9",
        "WEB_CONCURRENCY": "9",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return variables


def test_services_do_not_inherit_variables_for_other_installations(
    foreign_variables: Mapping[str, str], tmp_path: Path
) -> None:
    variables = environment.of_services(Settings(tmp_path, prefect_port=5000))
    assert not {name for name, value in foreign_variables.items() if variables.get(name) == value}
    assert variables["PREFECT_API_URL"] == "http://127.0.0.1:5000/api"
    assert variables["PREFECT_HOME"] == str(tmp_path / "prefect")
    assert variables["BOAT_PREFECT_PORT"] == "5000"


def test_services_inherit_settings_and_credentials_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = {
        "BOAT_COLLECT_ORIGINS": "https://shop.example",
        "BOAT_SLACK_WEBHOOK_URL": "https://hooks.slack.com/a",
        "AWS_PROFILE": "shop",
        "SNOWFLAKE_HOME": "/home",
        "MLFLOW_TRACKING_TOKEN": "token",
    }
    for name, value in own.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    variables = environment.of_services(Settings(tmp_path))
    assert own.items() <= variables.items()
    assert variables["HTTPS_PROXY"] == "http://proxy.example:3128"
    assert variables["NO_PROXY"] == variables["no_proxy"] == "127.0.0.1,localhost"


COMMANDS = {
    "services": ["deployments.services", "up"],
    "demo": ["deployments.demo"],
    "register": ["deployments.register"],
    "host": ["boat.serving.host"],
    "reports": ["boat.reports.server"],
    "collect": ["boat", "collect"],
}


def run(words: list[str], **variables: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", *words],
        cwd=ROOT,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_refuses_an_invalid_port_with_one_line(command: str, home: Path) -> None:
    process = run(COMMANDS[command], BOAT_ENDPOINT_PORT="http")
    assert process.returncode == 1
    assert "BOAT_ENDPOINT_PORT is 'http', which is not a port. Write a whole number from 1 to 65535." in process.stderr
    assert process.stderr.count("\n") == 1
    assert not home.exists()


@pytest.mark.parametrize("command", ["host", "reports"])
def test_an_invalid_port_option_is_refused_by_its_name(command: str) -> None:
    process = run([*COMMANDS[command], "--port", "65536"])
    assert process.returncode == 1
    assert "--port is '65536', which is not a port." in process.stderr
    assert process.stderr.count("\n") == 1


def test_a_home_that_a_service_cannot_use_is_refused(tmp_path: Path) -> None:
    process = run(COMMANDS["services"], BOAT_HOME=str(tmp_path / "home?"))
    assert process.returncode == 1
    assert "a question mark. Set BOAT_HOME to another folder." in process.stderr
    assert process.stderr.count("\n") == 1


def test_the_prefect_client_ignores_the_settings_of_the_user(tmp_path: Path) -> None:
    code = (
        "from pathlib import Path\n"
        "from boat.settings import Settings\n"
        "from deployments import environment\n"
        "from prefect.settings import PREFECT_API_KEY, PREFECT_API_URL, PREFECT_CLIENT_RETRY_EXTRA_CODES\n"
        "def show():\n"
        f"    with environment.as_client(Settings(Path({str(tmp_path)!r}), prefect_port=5000)):\n"
        "        print(PREFECT_API_URL.value(), PREFECT_API_KEY.value(), PREFECT_CLIENT_RETRY_EXTRA_CODES.value())\n"
        "    return 0\n"
        "environment.run_command(show)\n"
    )
    profile = tmp_path / "profiles.toml"
    profile.write_text('active = "cloud"\n[profiles.cloud]\nPREFECT_CLIENT_RETRY_EXTRA_CODES = "418"\n')
    process = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={
            **os.environ,
            "PREFECT_PROFILES_PATH": str(profile),
            "PREFECT_HOME": str(tmp_path / "prefect"),
            "PREFECT_API_URL": "http://elsewhere.example/api",
            "PREFECT_API_KEY": "pnu_key",
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert process.stdout == "http://127.0.0.1:5000/api None set()\n", process.stderr
    assert "Variables that this installation does not use: PREFECT_API_KEY, PREFECT_API_URL." in process.stderr
