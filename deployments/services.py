"""Start and stop the services of a laptop, with supervisord: `python -m deployments.services up|status|down`.

The services are Prefect server, worker, endpoint host, reports and collector. All listen on 127.0.0.1, because
Prefect's open-source server has no login. If a port is taken, the next free port is used and stored in `services.json`.
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
from collections.abc import Container, Mapping
from dataclasses import replace
from pathlib import Path

import psutil
from prefect import get_client
from prefect.client.schemas import FlowRun
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
    WorkPoolFilter,
    WorkPoolFilterName,
)
from prefect.client.schemas.objects import StateType
from prefect.settings import PREFECT_API_URL, PREFECT_PROFILES_PATH, Profile, load_profiles, save_profiles
from prefect.states import Crashed

from boat import settings
from boat.errors import BoatError, SettingError
from boat.landing import is_bucket
from boat.settings import MAX_PORT, Settings
from boat.settings import PORT_VARIABLES as PORTS
from deployments.environment import PROFILE, as_client, of_services, run_command
from deployments.register import DEFAULT_SHOP, PREFECT, ROOT, WORK_POOL, deploy, register, running
from tasks.blocks import Platform

SHOPS = ("shop", "demo")
"""Shops that the collector always accepts: the default of events without a shop, and the shop of its demo page."""
START_SECONDS = 120
"""A first start creates Prefect's database, which takes long on a busy machine."""
ROTATE_SECONDS = 10
"""Age at which the collector's files move to the landing folder. It is short, so that a first try takes no minute."""

_CONFIG = """\
[unix_http_server]
file = {socket}
chmod = 0700

[supervisord]
logfile = {logs}/supervisord.log
pidfile = {home}/supervisord.pid
directory = {root}

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


def programs(config: Settings, landing: str = "") -> Mapping[str, str]:
    """Return the command line of each service. The collector is included if the landing location is a folder."""
    python = sys.executable
    prefect = str(PREFECT)
    port = {name: str(getattr(config, name)) for name in PORTS}
    host, reports = [python, "-m", "boat.serving.host"], [python, "-m", "boat.reports.server"]
    commands = {
        "prefect": [prefect, "server", "start", "--host", "127.0.0.1", "--port", port["prefect_port"]],
        "worker": [prefect, "worker", "start", "--pool", WORK_POOL, "--name", "laptop"],
        "endpoints": [*host, "--port", port["endpoint_port"], "--state", str(config.serving)],
        "reports": [*reports, "--port", port["reports_port"], "--folder", str(config.reports)],
    }
    if landing and not is_bucket(landing):
        collector = [python, "-m", "boat", "collect", "--landing", landing, "--port", port["collect_port"]]
        shops = sorted({*SHOPS, *settings.load_collector().shops})
        options = [word for shop in shops for word in ("--shop", shop)]
        commands["collector"] = [*collector, "--rotate-seconds", str(ROTATE_SECONDS), *options]
    return {name: shlex.join(words) for name, words in commands.items()}


def write_config(config: Settings, landing: str = "") -> Path:
    """Write supervisord's configuration, and return its path."""
    logs = config.home / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    text = _CONFIG.format(socket=_socket(config), logs=logs, home=config.home, root=ROOT)
    escaped = str(logs).replace("%", "%%")  # supervisord expands a program's log file twice
    text += "".join(
        _PROGRAM.format(name=name, command=command, logs=escaped, autostart=str(name != "worker").lower())
        for name, command in programs(config, landing).items()
    )
    path = config.home / "supervisord.conf"
    path.write_text(text.replace("%", "%%"), encoding="utf-8")  # supervisord expands %
    return path


def _socket(config: Settings) -> Path:
    # Not in the home folder: the path of a UNIX socket has at most 107 bytes.
    digest = hashlib.sha256(str(config.home).encode()).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"boat-{digest}.sock"


def control(config: Settings, *words: str) -> subprocess.CompletedProcess[str]:
    """Run supervisorctl with these arguments."""
    command = [sys.executable, "-m", "supervisor.supervisorctl", "-c", str(config.home / "supervisord.conf"), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=90)


def is_up(config: Settings) -> bool:
    """Return whether supervisord runs for this home folder."""
    return (config.home / "supervisord.conf").exists() and control(config, "pid").returncode == 0


def _is_free(port: int, variable: str) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except PermissionError as error:
            raise SettingError(
                f"You have no permission to listen on port {port}.", f"Set {variable} to a port above 1023."
            ) from error
        except OSError:
            return False
    return True


def choose_ports(config: Settings) -> Settings:
    """Choose a free port for each service, and store it in `services.json`.

    The first choice is the port of a variable, then the port of the last start, then the default. If it is taken, the
    next free port is used.
    """
    memory = config.home / "services.json"
    remembered = json.loads(memory.read_text()) if memory.exists() else {}
    chosen: dict[str, int] = {}
    for name in sorted(PORTS, key=lambda name: name not in config.chosen_ports):
        own = getattr(config, name)
        first = own if name in config.chosen_ports else remembered.get(name, own)
        port = _next_free(first, set(chosen.values()), PORTS[name])
        if port != first:
            print(f"Port {first} is taken by another program: {name.removesuffix('_port')} uses {port}.")
        chosen[name] = port
    memory.parent.mkdir(parents=True, exist_ok=True)
    memory.write_text(json.dumps(chosen))
    return replace(config, **chosen)


def _next_free(first: int, used: Container[int], variable: str) -> int:
    for port in range(first, MAX_PORT + 1):
        if port not in used and _is_free(port, variable):
            return port
    raise SettingError(f"No port from {first} to {MAX_PORT} is free.", f"Set {variable} to a lower port.")


def _warn_of_unused_ports(config: Settings, running: Settings) -> None:
    for name in sorted(config.chosen_ports):
        chosen, used = getattr(config, name), getattr(running, name)
        if chosen != used:
            print(f"{PORTS[name]}={chosen} is not used: the service runs on port {used}. Run `make down` first.")


def wait_until_answers(url: str, service: str, config: Settings) -> None:
    """Wait until a service answers with HTTP 200.

    Raises:
        BoatError: The service did not answer in time. The message names its log.
    """
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(0.5)
    log = config.home / "logs" / f"{service}.log"
    raise BoatError(f"The service {service!r} does not answer at {url} after {START_SECONDS} s.", f"See its log {log}.")


def use_profile(config: Settings) -> None:
    """Connect the user's `prefect` command to this server with the profile `boat`. Store the previous profile."""
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


def restore_profile(config: Settings) -> None:
    """Restore the previous profile of the user's `prefect` command."""
    profiles = load_profiles()
    if profiles.active_name == PROFILE:
        memory = config.home / "previous-profile"
        previous = memory.read_text() if memory.exists() else "default"
        profiles.set_active(previous if previous in profiles.names else "default")
        save_profiles(profiles)


def up(config: Settings, shop: str = DEFAULT_SHOP) -> Settings:
    """Start the services that do not run, and deploy the flows. Return the settings with the ports in use."""
    settings.prepare_home(config.home)
    is_new = not is_up(config)
    if is_new:
        config = choose_ports(config)
        _start_supervisord(config)
    else:
        _warn_of_unused_ports(config, running(config))
        config = running(config)
        control(config, "start", "prefect", "endpoints", "reports")
    wait_until_answers(f"{config.prefect_api_url}/health", "prefect", config)
    wait_until_answers(f"{config.endpoint_url}/endpoints", "endpoints", config)
    wait_until_answers(f"{config.reports_url}/", "reports", config)
    use_profile(config)
    with as_client(config):
        if is_new:
            asyncio.run(end_lost_runs())
        asyncio.run(register(config, shop))
        deploy(config)
        landing = Platform.load("default").landing
    control(config, "start", "worker")  # the worker needs the work pool, which `register` creates
    collect_into(config, landing)
    return config


async def end_lost_runs() -> None:
    """Set runs of the worker to crashed whose process has ended with the services. They would seem to run for ever."""
    lost = FlowRunFilter(
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.RUNNING, StateType.CANCELLING])),
    )
    async with get_client() as client:
        runs = await client.read_flow_runs(
            flow_run_filter=lost, work_pool_filter=WorkPoolFilter(name=WorkPoolFilterName(any_=[WORK_POOL]))
        )
        for run in runs:
            if not _runs_here(run):
                state = Crashed(message="The process of this run ended while the services were down.")
                await client.set_flow_run_state(run.id, state, force=True)
                print(f"flow run {run.name}: set to crashed, because its process has ended")


def _runs_here(run: FlowRun) -> bool:
    """Return whether the process of a run still exists."""
    _host, _, pid = (run.infrastructure_pid or "").rpartition(":")
    if not pid.isdecimal() or not psutil.pid_exists(int(pid)):
        return False
    try:
        return any("prefect" in word for word in psutil.Process(int(pid)).cmdline())
    except psutil.Error:
        return False


def _start_supervisord(config: Settings) -> None:
    command = [sys.executable, "-m", "supervisor.supervisord", "-c", str(write_config(config))]
    # Services inherit supervisord's environment. In its configuration, quotes and % in a value would be interpreted.
    process = subprocess.run(command, cwd=ROOT, env=of_services(config), capture_output=True, text=True, check=False)
    if process.returncode:
        raise BoatError(
            f"supervisord did not start: {process.stderr.strip()}", f"See the logs in {config.home / 'logs'}."
        )


def collect_into(config: Settings, landing: str) -> None:
    """Start the collector with this landing folder. If it runs with the folder already, it is not restarted."""
    path = write_config(config, landing)
    control(config, "update", "collector")
    if "[program:collector]" in path.read_text():
        control(config, "start", "collector")
        wait_until_answers(f"{config.collect_url}/ping", "collector", config)
    else:
        print(f"The collector is not started, because {landing} is not a folder.")


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def down(config: Settings) -> None:
    """Stop all services, and wait until they have ended."""
    restore_profile(config)
    if not is_up(config):
        print("No services are running.")
        return
    pid = int(control(config, "pid").stdout)
    control(config, "shutdown")
    deadline = time.monotonic() + 60
    while _is_alive(pid) and time.monotonic() < deadline:  # it no longer answers, but it is still stopping services
        time.sleep(0.2)
    print(f"All services are stopped. The data is in {config.home}.")


def status(config: Settings) -> int:
    """Print the services with their addresses. Return 0 if all run."""
    if not is_up(config):
        print("No services are running. `make demo` or `make up` starts them.")
        return 3
    result = control(config, "status")
    print(result.stdout.rstrip())
    for line in addresses(running(config)):
        print(line)
    return result.returncode


def addresses(config: Settings) -> list[str]:
    """Return a line with name and address of each service."""
    return [
        f"Prefect UI   {config.prefect_ui_url}",
        f"Reports      {config.reports_url}",
        f"Endpoint     {config.endpoint_url}",
        f"Collector    {config.collect_url}  (with a demo shop)",
    ]


def main() -> int:
    """Run the command line. Return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m deployments.services", description=__doc__)
    parser.add_argument("action", choices=("up", "status", "down"), help="start, list or stop the services")
    action = parser.parse_args().action

    def run() -> int:
        config = settings.load()
        if action == "down":
            down(config)
        elif action == "status":
            return status(config)
        else:
            print("\n".join(addresses(up(config))))
        return 0

    return run_command(run)


if __name__ == "__main__":
    sys.exit(main())
