"""The services of a laptop under supervisord: `python -m deployments.services up|status|down`.

Prefect server, worker, endpoint host, reports and collector, all on 127.0.0.1 (Prefect's open-source server has no
login). Ports that another program holds are left to it: the next free one is taken and remembered in `services.json`.
"""

import argparse
import asyncio
import hashlib
import json
import os
import shlex
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_PROFILES_PATH,
    PREFECT_UI_URL,
    Profile,
    load_profiles,
    save_profiles,
    temporary_settings,
)

from boat import settings
from boat.errors import BoatError
from boat.landing import is_bucket
from boat.settings import Settings
from deployments.register import DEFAULT_SHOP, PREFECT, QUIET, ROOT, WORK_POOL, deploy, register
from tasks.blocks import Platform

PORTS = ("prefect_port", "endpoint_port", "reports_port", "collect_port")
PROFILE = "boat"
START_SECONDS = 120
"""A first start makes Prefect's database, on a busy machine beside other starts."""
ROTATE_SECONDS = 10
"""How old the collector's files grow: who tries it out does not wait long until `ingestion/hourly` finds them."""

_CONFIG = """\
[unix_http_server]
file = {socket}
chmod = 0700

[supervisord]
logfile = {logs}/supervisord.log
pidfile = {home}/supervisord.pid
directory = {root}
environment = {environment}

[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface

[supervisorctl]
serverurl = unix://{socket}
"""

_PROGRAM = """
[program:{name}]
command = {command}
autostart = {autostart}
autorestart = true
startsecs = 3
stopasgroup = true
killasgroup = true
stopwaitsecs = 15
redirect_stderr = true
stdout_logfile = {logs}/{name}.log
stdout_logfile_maxbytes = 20MB
stdout_logfile_backups = 2
"""


def environment(config: Settings) -> dict[str, str]:
    """What every service, and so every flow run, finds in its environment."""
    return {
        "BOAT_HOME": str(config.home),
        "BOAT_PREFECT_PORT": str(config.prefect_port),
        "BOAT_ENDPOINT_PORT": str(config.endpoint_port),
        "BOAT_REPORTS_PORT": str(config.reports_port),
        "BOAT_COLLECT_PORT": str(config.collect_port),
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


def programs(config: Settings, landing: str = "") -> Mapping[str, str]:
    """Command line of each service. The collector is one of them where the landing place is a folder."""
    python = sys.executable
    prefect = str(PREFECT)
    port = {name: str(getattr(config, name)) for name in PORTS}
    host = [python, "-m", "boat.serving.host"]
    commands = {
        "prefect": [prefect, "server", "start", "--host", "127.0.0.1", "--port", port["prefect_port"]],
        "worker": [prefect, "worker", "start", "--pool", WORK_POOL, "--name", "laptop"],
        "endpoints": [*host, "--port", port["endpoint_port"], "--state", str(config.serving)],
        "reports": [python, "-m", "boat.reports", "--port", port["reports_port"], "--folder", str(config.reports)],
    }
    if landing and not is_bucket(landing):
        collector = [python, "-m", "boat.collect", "--landing", landing, "--port", port["collect_port"]]
        commands["collector"] = [*collector, "--rotate-seconds", str(ROTATE_SECONDS)]
    return {name: shlex.join(words).replace("%", "%%") for name, words in commands.items()}


def _quoted(text: str) -> str:
    return '"' + text.replace("%", "%%") + '"'  # supervisord expands %


def write_config(config: Settings, landing: str = "") -> Path:
    """Write supervisord's configuration; returns its path."""
    logs = config.home / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    text = _CONFIG.format(
        socket=_socket(config),
        logs=logs,
        home=config.home,
        root=ROOT,
        environment=",".join(f"{name}={_quoted(value)}" for name, value in environment(config).items()),
    )
    text += "".join(
        _PROGRAM.format(name=name, command=command, logs=logs, autostart=str(name != "worker").lower())
        for name, command in programs(config, landing).items()
    )
    path = config.home / "supervisord.conf"
    path.write_text(text)
    return path


def _socket(config: Settings) -> Path:
    # Not below the home: a UNIX socket's address holds only 107 bytes.
    digest = hashlib.sha256(str(config.home).encode()).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"boat-{digest}.sock"


def control(config: Settings, *words: str) -> subprocess.CompletedProcess[str]:
    """Run supervisorctl."""
    command = [sys.executable, "-m", "supervisor.supervisorctl", "-c", str(config.home / "supervisord.conf"), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=90)


def is_up(config: Settings) -> bool:
    """Whether supervisord runs for this home."""
    return (config.home / "supervisord.conf").exists() and control(config, "pid").returncode == 0


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def choose_ports(config: Settings) -> Settings:
    """The ports of the last start, else the settings' own, each moved up to the next free one; remembered."""
    memory = config.home / "services.json"
    remembered = json.loads(memory.read_text()) if memory.exists() else {}
    chosen: dict[str, int] = {}
    for name in PORTS:
        port = first = remembered.get(name, getattr(config, name))
        while not _is_free(port) or port in chosen.values():
            port += 1
        if port != first:
            print(f"port {first} is taken by another program: {name.removesuffix('_port')} uses {port}")
        chosen[name] = port
    memory.parent.mkdir(parents=True, exist_ok=True)
    memory.write_text(json.dumps(chosen))
    return replace(config, **chosen)


def running(config: Settings) -> Settings:
    """The settings with the ports that the services use."""
    memory = config.home / "services.json"
    return replace(config, **json.loads(memory.read_text())) if memory.exists() else config


def wait_until_answers(url: str, service: str, config: Settings) -> None:
    """Wait for HTTP 200.

    Raises:
        BoatError: It did not come in time; names the service's log.
    """
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(0.5)
    log = config.home / "logs" / f"{service}.log"
    raise BoatError(f"The service {service!r} does not answer at {url}.", f"Look into {log}.")


def use_profile(config: Settings) -> None:
    """Point the user's own `prefect` command at this server, by a profile of its own; remember the one before."""
    profiles = load_profiles()
    if profiles.active_name != PROFILE:
        (config.home / "previous-profile").write_text(profiles.active_name or "default")
    profile = Profile(name=PROFILE, settings={PREFECT_API_URL: config.prefect_api_url})
    if PROFILE in profiles.names:
        profiles.update_profile(PROFILE, profile.settings)
    else:
        profiles.add_profile(profile)
    profiles.set_active(PROFILE)
    PREFECT_PROFILES_PATH.value().parent.mkdir(parents=True, exist_ok=True)
    save_profiles(profiles)


def leave_profile(config: Settings) -> None:
    """Give the user's `prefect` command the profile back that it had before."""
    profiles = load_profiles()
    if profiles.active_name == PROFILE:
        memory = config.home / "previous-profile"
        previous = memory.read_text() if memory.exists() else "default"
        profiles.set_active(previous if previous in profiles.names else "default")
        save_profiles(profiles)


def up(config: Settings, shop: str = DEFAULT_SHOP) -> Settings:
    """Start what does not run yet and deploy the flows; returns the settings with the ports in use."""
    if is_up(config):
        config = running(config)
        control(config, "start", "prefect", "endpoints", "reports")
    else:
        config = choose_ports(config)
        path = write_config(config)
        subprocess.run([sys.executable, "-m", "supervisor.supervisord", "-c", str(path)], check=True, cwd=ROOT)
    wait_until_answers(f"{config.prefect_api_url}/health", "prefect", config)
    wait_until_answers(f"{config.endpoint_url}/endpoints", "endpoints", config)
    wait_until_answers(f"{config.reports_url}/", "reports", config)
    use_profile(config)
    with temporary_settings({PREFECT_API_URL: config.prefect_api_url, PREFECT_UI_URL: config.prefect_ui_url}):
        asyncio.run(register(config, shop))
        deploy(config)
        landing = Platform.load("default").landing
    control(config, "start", "worker")  # only now is there a pool to work for
    collect_into(config, landing)
    return config


def collect_into(config: Settings, landing: str) -> None:
    """Let the collector write where `ingestion/hourly` reads; it goes on where it does already."""
    path = write_config(config, landing)
    control(config, "update", "collector")
    if "[program:collector]" in path.read_text():
        control(config, "start", "collector")
        wait_until_answers(f"{config.collect_url}/ping", "collector", config)
    else:
        print(f"the collector is not started: it writes to a folder, and events arrive at {landing}")


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def down(config: Settings) -> None:
    """Stop all services and wait until they are gone."""
    leave_profile(config)
    if not is_up(config):
        print("nothing is running")
        return
    pid = int(control(config, "pid").stdout)
    control(config, "shutdown")
    deadline = time.monotonic() + 60
    while _is_alive(pid) and time.monotonic() < deadline:  # it answers no more, but still stops the services
        time.sleep(0.2)
    print("all services are stopped; the data stays in", config.home)


def status(config: Settings) -> int:
    """Print the services with their addresses; returns 0 if all run."""
    if not is_up(config):
        print("nothing is running; `make demo` or `make up` starts everything")
        return 3
    result = control(config, "status")
    print(result.stdout.rstrip())
    for line in addresses(running(config)):
        print(line)
    return result.returncode


def addresses(config: Settings) -> list[str]:
    """Where to look."""
    return [
        f"Prefect UI   {config.prefect_ui_url}",
        f"Reports      {config.reports_url}",
        f"Endpoint     {config.endpoint_url}",
        f"Collector    {config.collect_url}  (a small shop whose events it takes)",
    ]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m deployments.services", description=__doc__)
    parser.add_argument("action", choices=("up", "status", "down"))
    action = parser.parse_args().action
    config = settings.load()
    if action == "down":
        down(config)
    elif action == "status":
        return status(config)
    else:
        print("\n".join(addresses(up(config))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
