"""How the services of a laptop are started: ports, configuration and environment. None is started here."""

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
    """Settings from variables for these ports alone."""
    variables = {PORT_VARIABLES[name]: str(number) for name, number in ports.items()}
    return settings.load({"BOAT_HOME": str(home), **variables})


def remember(home: Path, **ports: int) -> None:
    (home / "services.json").write_text(json.dumps(ports))


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that another program listens on."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield other.getsockname()[1]


def test_ports_of_the_last_start_are_kept(tmp_path: Path) -> None:
    ports = dict(zip(EVERY_PORT, free_ports(4), strict=True))
    remember(tmp_path, **ports)
    chosen = services.choose_ports(config_of(tmp_path))
    assert {name: getattr(chosen, name) for name in EVERY_PORT} == ports


def test_a_variable_wins_over_the_last_start_and_over_the_other_ports(tmp_path: Path) -> None:
    wanted, *others = free_ports(4)
    remember(tmp_path, prefect_port=wanted, endpoint_port=others[0], reports_port=others[1], collect_port=others[2])
    chosen = services.choose_ports(config_of(tmp_path, collect_port=wanted))
    assert chosen.collect_port == wanted
    assert chosen.prefect_port > wanted
    assert json.loads((tmp_path / "services.json").read_text())["collect_port"] == wanted


def test_a_taken_port_is_left_to_its_program(tmp_path: Path, taken: int, capsys: pytest.CaptureFixture[str]) -> None:
    chosen = services.choose_ports(config_of(tmp_path, reports_port=taken))
    assert chosen.reports_port > taken
    assert f"port {taken} is taken by another program: reports uses {chosen.reports_port}" in capsys.readouterr().out


def test_the_search_for_a_free_port_ends_at_the_last_port(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", MAX_PORT))
        other.listen()
        with pytest.raises(SettingError, match=f"No port from {MAX_PORT} to {MAX_PORT} is free. Set BOAT_PREFECT_PORT"):
            services.choose_ports(config_of(tmp_path, prefect_port=MAX_PORT))


def parsed(config: Settings, landing: str) -> ServerOptions:
    """What supervisord understands of the configuration."""
    options = ServerOptions()
    options.realize(["-c", str(services.write_config(config, landing)), "-n"])
    return options


@pytest.mark.parametrize("name", ["plain", "50%", "100%s", "a 'b' \"c\"", "a;b", "`d` (e) {f}", "ü 🛒"])
def test_supervisord_understands_the_home_as_it_is_written(name: str, tmp_path: Path) -> None:
    home = tmp_path / name
    settings.prepare_home(home)
    options = parsed(Settings(home), str(home / "landing"))
    assert options.logfile == str(home / "logs" / "supervisord.log")
    assert options.pidfile == str(home / "supervisord.pid")
    programs = {group.name: group.process_configs[0] for group in options.process_group_configs}
    assert programs["collector"].stdout_logfile == str(home / "logs" / "collector.log")
    assert str(home / "landing") in shlex.split(programs["collector"].command)
    assert str(home / "serving") in shlex.split(programs["endpoints"].command)


def test_the_collector_takes_the_shops_of_its_demo_page_and_those_of_the_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BOAT_COLLECT_SHOPS", "mugs,shop")
    command = shlex.split(services.programs(Settings(tmp_path), "landing")["collector"])
    assert [word for option, word in pairwise(command) if option == "--shop"] == ["demo", "mugs", "shop"]


@pytest.fixture
def of_another_installation(monkeypatch: pytest.MonkeyPatch) -> Mapping[str, str]:
    """Variables that a user has for other programs."""
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


def test_services_find_nothing_that_is_for_another_installation(
    of_another_installation: Mapping[str, str], tmp_path: Path
) -> None:
    found = environment.of_services(Settings(tmp_path, prefect_port=5000))
    assert not {name for name, value in of_another_installation.items() if found.get(name) == value}
    assert found["PREFECT_API_URL"] == "http://127.0.0.1:5000/api"
    assert found["PREFECT_HOME"] == str(tmp_path / "prefect")
    assert found["BOAT_PREFECT_PORT"] == "5000"


def test_services_find_the_user_s_settings_and_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
    found = environment.of_services(Settings(tmp_path))
    assert own.items() <= found.items()
    assert found["HTTPS_PROXY"] == "http://proxy.example:3128"
    assert found["NO_PROXY"] == found["no_proxy"] == "127.0.0.1,localhost"


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
def test_a_port_that_is_none_ends_every_command_with_one_line(command: str, home: Path) -> None:
    ran = run(COMMANDS[command], BOAT_ENDPOINT_PORT="http")
    assert ran.returncode == 1
    assert "BOAT_ENDPOINT_PORT is 'http', which is not a port. Write a whole number from 1 to 65535." in ran.stderr
    assert ran.stderr.count("\n") == 1
    assert not home.exists()


@pytest.mark.parametrize("command", ["host", "reports"])
def test_a_port_option_that_is_none_is_named(command: str) -> None:
    ran = run([*COMMANDS[command], "--port", "65536"])
    assert ran.returncode == 1
    assert "--port is '65536', which is not a port." in ran.stderr
    assert ran.stderr.count("\n") == 1


def test_a_home_that_a_service_cannot_take_ends_the_start(tmp_path: Path) -> None:
    ran = run(COMMANDS["services"], BOAT_HOME=str(tmp_path / "what?"))
    assert ran.returncode == 1
    assert "a question mark. Set BOAT_HOME to another folder." in ran.stderr
    assert ran.stderr.count("\n") == 1


def test_prefect_asks_this_installation_whatever_the_user_has_set(tmp_path: Path) -> None:
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
    ran = subprocess.run(
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
    assert ran.stdout == "http://127.0.0.1:5000/api None set()\n", ran.stderr
    assert "not used by this installation: PREFECT_API_KEY, PREFECT_API_URL" in ran.stderr
