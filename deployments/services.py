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
from collections.abc import Container, Mapping
from dataclasses import replace
from pathlib import Path

from prefect.settings import PREFECT_API_URL, PREFECT_PROFILES_PATH, Profile, load_profiles, save_profiles

from boat import settings
from boat.errors import BoatError, SettingError
from boat.landing import is_bucket
from boat.settings import MAX_PORT, Settings
from boat.settings import PORT_VARIABLES as PORTS
from deployments.environment import PROFILE, as_client, of_services, run_command
from deployments.register import DEFAULT_SHOP, PREFECT, ROOT, WORK_POOL, deploy, register, running
from tasks.blocks import Platform

SHOPS = ("shop", "demo")
"""Shops whose events the collector takes: that of an event without a shop, and that of its demo page."""
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
    """Command line of each service. The collector is one of them where the landing place is a folder."""
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
    """Write supervisord's configuration; returns its path."""
    logs = config.home / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    text = _CONFIG.format(socket=_socket(config), logs=logs, home=config.home, root=ROOT)
    twice = str(logs).replace("%", "%%")  # supervisord expands a program's log file a second time
    text += "".join(
        _PROGRAM.format(name=name, command=command, logs=twice, autostart=str(name != "worker").lower())
        for name, command in programs(config, landing).items()
    )
    path = config.home / "supervisord.conf"
    path.write_text(text.replace("%", "%%"), encoding="utf-8")  # supervisord expands %
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


def _is_free(port: int, variable: str) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except PermissionError as error:
            raise SettingError(f"You have no right to listen on port {port}.", f"Set {variable} above 1023.") from error
        except OSError:
            return False
    return True


def choose_ports(config: Settings) -> Settings:
    """Choose a free port for each service, and remember it in `services.json`.

    A port that a variable sets comes first, then that of the last start, then the default; if it is taken, the next
    free one.
    """
    memory = config.home / "services.json"
    remembered = json.loads(memory.read_text()) if memory.exists() else {}
    chosen: dict[str, int] = {}
    for name in sorted(PORTS, key=lambda name: name not in config.chosen_ports):
        own = getattr(config, name)
        first = own if name in config.chosen_ports else remembered.get(name, own)
        port = _next_free(first, set(chosen.values()), PORTS[name])
        if port != first:
            print(f"port {first} is taken by another program: {name.removesuffix('_port')} uses {port}")
        chosen[name] = port
    memory.parent.mkdir(parents=True, exist_ok=True)
    memory.write_text(json.dumps(chosen))
    return replace(config, **chosen)


def _next_free(first: int, taken: Container[int], variable: str) -> int:
    for port in range(first, MAX_PORT + 1):
        if port not in taken and _is_free(port, variable):
            return port
    raise SettingError(f"No port from {first} to {MAX_PORT} is free.", f"Set {variable} to a lower one.")


def _name_unused_ports(config: Settings, up: Settings) -> None:
    for name in sorted(config.chosen_ports):
        wanted, used = getattr(config, name), getattr(up, name)
        if wanted != used:
            print(f"{PORTS[name]}={wanted} is not used: the services run, on port {used}. Run `make down` first.")


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
    settings.prepare_home(config.home)
    if is_up(config):
        _name_unused_ports(config, running(config))
        config = running(config)
        control(config, "start", "prefect", "endpoints", "reports")
    else:
        config = choose_ports(config)
        _start_supervisord(config)
    wait_until_answers(f"{config.prefect_api_url}/health", "prefect", config)
    wait_until_answers(f"{config.endpoint_url}/endpoints", "endpoints", config)
    wait_until_answers(f"{config.reports_url}/", "reports", config)
    use_profile(config)
    with as_client(config):
        asyncio.run(register(config, shop))
        deploy(config)
        landing = Platform.load("default").landing
    control(config, "start", "worker")  # only now is there a pool to work for
    collect_into(config, landing)
    return config


def _start_supervisord(config: Settings) -> None:
    command = [sys.executable, "-m", "supervisor.supervisord", "-c", str(write_config(config))]
    # Services inherit supervisord's environment. In its configuration, quotes and % of a value would have a meaning.
    ran = subprocess.run(command, cwd=ROOT, env=of_services(config), capture_output=True, text=True, check=False)
    if ran.returncode:
        raise BoatError(f"supervisord did not start: {ran.stderr.strip()}", f"Look into {config.home / 'logs'}.")


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
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m deployments.services", description=__doc__)
    parser.add_argument("action", choices=("up", "status", "down"))
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
