"""Durable events a second, and how long a sender waits for the acknowledgement, on a collector that has one core.

A real server process, held to one core, takes events over HTTP from senders in a process of its own on another core.
Each sender waits for its acknowledgement before it sends again; an event counts once it is acknowledged, and the lines
in the landing files are counted in the end. Two runs: single events, and batches of 20.

Events of all senders that wait share a sync, so that on a slow disk their number bounds the rate: `sync_ms` tells.

    python benchmarks/collect.py [--seconds 10] [--connections 64]
"""

import argparse
import asyncio
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

from bars import at_least, at_most, conclude
from boat import settings

EVENTS_PER_SECOND = 5000
ACK_P99_MS = 50
CORES = sorted(os.sched_getaffinity(0))
SERVER_CORE = CORES[0]
WARM_UP_SECONDS = 1.0


@dataclass
class Run:
    """What the senders saw."""

    seconds: float
    events: int = 0
    server_us_per_event: float = 0
    acks: list[float] = field(default_factory=list)

    @property
    def events_per_second(self) -> float:
        return self.events / self.seconds

    def milliseconds(self, share: float) -> float:
        """The time within which this share of the acknowledgements came."""
        return sorted(self.acks)[int(share * (len(self.acks) - 1))] * 1000


def request(port: int, sender: int, number: int, size: int) -> bytes:
    """A request as a shop's page sends it."""
    now = int(time.time() * 1000)
    events = [
        {
            "event_id": f"{os.getpid():x}-{sender}-{number}-{index}",
            "shop": "bench",
            "event_type": "detail",
            "product_id": f"product-{number % 5000}",
            "client_id": f"client-{sender}",
            "session_id": f"session-{sender}-{number // 10}",
            "event_time": now,
            "url": f"https://shop.example/products/{number % 5000}?ref=home",
            "price": 12.5,
        }
        for index in range(size)
    ]
    body = json.dumps({"events": events} if size > 1 else events[0]).encode()
    head = (
        f"POST /collect HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: text/plain\r\n"
        f"User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:{100 + sender}.0) Gecko/20100101 Firefox/{100 + sender}.0\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def sender(port: int, number: int, size: int, run: Run, start: float) -> None:
    """Send one request after the other on one connection until the run ends."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    sent = 0
    while (now := time.perf_counter()) < start + run.seconds:
        writer.write(request(port, number, sent, size))
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.startswith(b"content-length"))
        answer = json.loads(await reader.readexactly(length))
        if answer.get("accepted") != size:
            raise RuntimeError(f"The collector answers {answer}.")
        sent += 1
        if now >= start:  # what was sent before is the warm-up
            run.acks.append(time.perf_counter() - now)
            run.events += size
    writer.close()


async def load(port: int, connections: int, size: int, seconds: float) -> Run:
    """All senders at once."""
    run = Run(seconds)
    start = time.perf_counter() + WARM_UP_SECONDS
    await asyncio.gather(*(sender(port, number, size, run, start) for number in range(connections)))
    return run


def served(size: int, connections: int, seconds: float) -> Run:
    """A run on a server of its own, with the lines in its files counted."""
    with tempfile.TemporaryDirectory(prefix="boat-benchmark-", dir=disk()) as folder:
        port = free_port()
        command = [sys.executable, "-m", "boat.collect", "--landing", folder, "--port", str(port)]
        command += ["--events-per-second", "1e9", "--burst", "1000000000"]
        server = subprocess.Popen(command, stdout=sys.stderr)
        os.sched_setaffinity(server.pid, {SERVER_CORE})
        try:
            wait(port, server)
            before = cpu_seconds(server.pid)
            run = asyncio.run(load(port, connections, size, seconds))
            used = cpu_seconds(server.pid) - before
        finally:
            server.terminate()
            server.wait(30)
        kept = sum(path.read_bytes().count(b"\n") for path in Path(folder).rglob("*.ndjson"))
        run.server_us_per_event = used / kept * 1e6
        if kept < run.events:
            raise RuntimeError(f"{run.events} events were acknowledged, and {kept} kept.")
    print(f"{size} a request: {run.events_per_second:.0f} events/s, {kept} kept", file=sys.stderr)
    return run


def disk() -> Path:
    """Where an installation keeps its data: a folder for temporary files may be in memory."""
    home = settings.load().home
    home.mkdir(parents=True, exist_ok=True)
    return home


def sync_ms() -> float:
    """Median time of one durable write on the disk, for comparison."""
    times = []
    with tempfile.TemporaryFile(dir=disk(), buffering=0) as file:
        for _ in range(200):
            started = time.perf_counter()
            file.write(b"x" * 400)
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - started)
    return statistics.median(times) * 1000


def cpu_seconds(process: int) -> float:
    """Processor time of a process up to now, which neighbours on its core do not change."""
    user, system = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def free_port() -> int:
    """A TCP port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait(port: int, server: "subprocess.Popen[bytes]") -> None:
    """Until the server answers."""
    deadline = time.monotonic() + 30
    while server.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=1):
                return
        except OSError:
            time.sleep(0.05)
    raise RuntimeError("The collector does not listen.")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=10, help="of each run")
    parser.add_argument("--connections", type=int, default=64, help="senders of single events")
    options = parser.parse_args()
    os.sched_setaffinity(0, CORES[1:] or CORES)
    single = served(1, options.connections, options.seconds)
    batched = served(20, max(1, options.connections // 4), options.seconds)  # shops' servers: fewer, with more to tell
    figures = {
        "durable_events_per_s": round(single.events_per_second),
        "ack_p50_ms": round(single.milliseconds(0.5), 2),
        "ack_p99_ms": round(single.milliseconds(0.99), 2),
        "durable_events_per_s_batched": round(batched.events_per_second),
        "ack_p50_ms_batched": round(batched.milliseconds(0.5), 2),
        "ack_p99_ms_batched": round(batched.milliseconds(0.99), 2),
        "server_us_per_event": round(single.server_us_per_event, 1),
        "server_us_per_event_batched": round(batched.server_us_per_event, 1),
        "load_average": round(os.getloadavg()[0], 1),
        "sync_ms": round(sync_ms(), 3),
    }
    return conclude(
        "collect",
        figures,
        at_least("durable_events_per_s", figures["durable_events_per_s"], EVENTS_PER_SECOND),
        at_most("ack_p99_ms", figures["ack_p99_ms"], ACK_P99_MS),
        at_least("durable_events_per_s_batched", figures["durable_events_per_s_batched"], EVENTS_PER_SECOND),
        at_most("ack_p99_ms_batched", figures["ack_p99_ms_batched"], ACK_P99_MS),
    )


if __name__ == "__main__":
    sys.exit(main())
