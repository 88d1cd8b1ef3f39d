"""Measure durable events per second, and the time until the acknowledgement, of a collector on one core.

A real server process on one core receives events over HTTP. The senders run in a separate process on another core. A
sender waits for the acknowledgement before it sends again. An event counts when it is acknowledged, and at the end the
lines in the landing files are counted. There are runs with single events and with batches of 20.

The peer is the same HTTP server without a collector: it reads a request and answers, without validation and storage.
Rounds of collector and peer alternate, so that `share_of_peer` is valid on a busy machine. So are the server's time per
event (`server_us_per_event`) and its rate with a core to itself (`events_per_core_second`).

All waiting senders share one sync, so on a slow disk the number of senders limits the rate. `sync_ms` is the time of a
sync.

    python benchmarks/collect.py [--seconds 5] [--rounds 3] [--connections 64]
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
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bars import at_least, at_most, conclude
from boat import settings

EVENTS_PER_SECOND = 5000
ACK_P99_MS = 50
SHARE_OF_PEER = 0.3
BATCH = 20
CORES = sorted(os.sched_getaffinity(0))
SERVER_CORE = CORES[0]
WARM_UP_SECONDS = 1.0


@dataclass
class Run:
    """Acknowledgements that the senders received, and the server's processor time including the warm-up."""

    seconds: float
    events: int = 0
    cpu_seconds: float = 0
    handled: int = 0
    acks: list[float] = field(default_factory=list)

    @property
    def events_per_second(self) -> float:
        return self.events / self.seconds

    @property
    def server_us_per_event(self) -> float:
        return self.cpu_seconds / self.handled * 1e6

    def milliseconds(self, share: float) -> float:
        """Return the time in which this share of the acknowledgements arrived."""
        return sorted(self.acks)[int(share * (len(self.acks) - 1))] * 1000


def combine(runs: Sequence[Run]) -> Run:
    """Combine several rounds into one run."""
    acks = [ack for run in runs for ack in run.acks]
    sums = [sum(getattr(run, name) for run in runs) for name in ("seconds", "events", "cpu_seconds", "handled")]
    return Run(*sums, acks)


def request(port: int, sender: int, number: int, size: int) -> bytes:
    """Build a request like the request of a shop's page."""
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


async def send_events(port: int, number: int, size: int, run: Run, start: float) -> None:
    """Send one request after the other on one connection until the run ends."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    sent = 0
    while (now := time.perf_counter()) < start + run.seconds:
        writer.write(request(port, number, sent, size))
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.startswith(b"content-length"))
        answer = json.loads(await reader.readexactly(length))
        if answer.get("accepted") != size:
            raise RuntimeError(f"The collector did not accept all {size} events: {answer}.")
        sent += 1
        run.handled += size
        if now >= start:  # earlier requests are the warm-up
            run.acks.append(time.perf_counter() - now)
            run.events += size
    writer.close()


async def run_senders(port: int, connections: int, size: int, seconds: float) -> Run:
    """Run all senders at the same time."""
    run = Run(seconds)
    start = time.perf_counter() + WARM_UP_SECONDS
    await asyncio.gather(*(send_events(port, number, size, run, start) for number in range(connections)))
    return run


def run_collector(size: int, connections: int, seconds: float) -> Run:
    """Run the senders on a new collector, and count the lines in its files."""
    with tempfile.TemporaryDirectory(prefix="boat-benchmark-", dir=disk()) as folder:
        no_limit = ["--events-per-second", "1e9", "--burst", "1000000000"]
        with running_server("-m", "boat", "collect", "--landing", folder, *no_limit) as server:
            run = run_and_measure(server, size, connections, seconds)
        stored = sum(path.read_bytes().count(b"\n") for path in Path(folder).rglob("*.ndjson"))
    if stored < run.handled:
        raise RuntimeError(f"{run.handled} events were acknowledged, but only {stored} were stored.")
    print(f"{size} per request: {run.events_per_second:.0f} events/s, {stored} stored", file=sys.stderr)
    return run


def run_peer(size: int, connections: int, seconds: float) -> Run:
    """Run the senders on the peer."""
    with running_server(__file__, "--peer", str(size)) as server:
        run = run_and_measure(server, size, connections, seconds)
    print(f"{size} per request: {run.events_per_second:.0f} events/s by the peer", file=sys.stderr)
    return run


@contextmanager
def running_server(*command: str) -> Iterator[tuple[int, int]]:
    """Open a server on the server's core, with its port and process id."""
    port = free_port()
    server = subprocess.Popen([sys.executable, *command, "--port", str(port)], stdout=sys.stderr)
    os.sched_setaffinity(server.pid, {SERVER_CORE})
    try:
        wait(port, server)
        yield port, server.pid
    finally:
        server.terminate()
        server.wait(30)


def run_and_measure(server: tuple[int, int], size: int, connections: int, seconds: float) -> Run:
    """Run the senders on a server, and add the server's processor time."""
    port, process = server
    before = cpu_seconds(process)
    run = asyncio.run(run_senders(port, connections, size, seconds))
    run.cpu_seconds = cpu_seconds(process) - before
    return run


def serve_peer(size: int, port: int) -> None:
    """Answer every request as if its events had been stored."""
    import uvicorn

    from boat.collect.server import LimitedProtocol

    content = json.dumps({"received": size, "accepted": size, "failed": 0, "errors": []}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": content})

    uvicorn.run(answer, port=port, http=LimitedProtocol, ws="none", lifespan="off", log_level="error", access_log=False)


def disk() -> Path:
    """Return the data folder of the installation. The folder for temporary files may be in memory."""
    home = settings.load().home
    home.mkdir(parents=True, exist_ok=True)
    return home


def sync_ms() -> float:
    """Return the median time of one durable write to the disk, for comparison."""
    times = []
    with tempfile.TemporaryFile(dir=disk(), buffering=0) as file:
        for _ in range(200):
            started = time.perf_counter()
            file.write(b"x" * 400)
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - started)
    return statistics.median(times) * 1000


def cpu_seconds(process: int) -> float:
    """Return the processor time of a process. Other processes on its core do not change it."""
    user, system = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def free_port() -> int:
    """Return a free TCP port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait(port: int, server: "subprocess.Popen[bytes]") -> None:
    """Wait until the server answers."""
    deadline = time.monotonic() + 30
    while server.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=1):
                return
        except OSError:
            time.sleep(0.05)
    raise RuntimeError(f"The server on port {port} did not answer /ping within 30 seconds.")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=5, help="length of each round")
    parser.add_argument("--rounds", type=int, default=3, help="number of rounds of collector and peer")
    parser.add_argument("--connections", type=int, default=64, help="number of senders of single events")
    parser.add_argument("--peer", type=int, metavar="SIZE", help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peer:
        serve_peer(options.peer, options.port)
        return 0
    os.sched_setaffinity(0, CORES[1:] or CORES)
    few = max(1, options.connections // 4)  # a shop has fewer servers than shoppers, and they send more events
    kinds: list[tuple[Callable[[int, int, float], Run], int, int]] = [
        (run_peer, 1, options.connections),
        (run_collector, 1, options.connections),
        (run_collector, BATCH, few),
    ]
    rounds = [[run(size, senders, options.seconds) for run, size, senders in kinds] for _ in range(options.rounds)]
    peer, single, batched = (combine(runs) for runs in zip(*rounds, strict=True))
    figures = {
        "durable_events_per_s": round(single.events_per_second),
        "ack_p50_ms": round(single.milliseconds(0.5), 2),
        "ack_p99_ms": round(single.milliseconds(0.99), 2),
        "durable_events_per_s_batched": round(batched.events_per_second),
        "ack_p50_ms_batched": round(batched.milliseconds(0.5), 2),
        "ack_p99_ms_batched": round(batched.milliseconds(0.99), 2),
        "peer_events_per_s": round(peer.events_per_second),
        "peer_p99_ms": round(peer.milliseconds(0.99), 2),
        "share_of_peer": round(single.events_per_second / peer.events_per_second, 3),
        "server_us_per_event": round(single.server_us_per_event, 1),
        "server_us_per_event_batched": round(batched.server_us_per_event, 1),
        "peer_us_per_event": round(peer.server_us_per_event, 1),
        "events_per_core_second": round(1e6 / single.server_us_per_event),
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
        at_least("share_of_peer", figures["share_of_peer"], SHARE_OF_PEER),
    )


if __name__ == "__main__":
    sys.exit(main())
