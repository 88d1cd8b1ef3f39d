"""The collector as a process, with honest, slow, greedy and many HTTP clients."""

import gzip
import json
import random
import resource
import socket
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from boat import raw_log
from boat.collect.access import signature
from boat.collect.pixel import GIF
from boat.warehouse import connect
from tests.collect.events import GOOD, MALFORMED
from tests.collect.running_collector import SECRET, Collecting, counted_ids, dead_letters, lines, running_collector

NO_LIMIT = ("--events-per-second", "1e9", "--burst", "1000000000")


@pytest.fixture(scope="module")
def collecting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collecting]:
    """Start a collector for all tests that do not stop it."""
    landing_folder = tmp_path_factory.mktemp("shared") / "landing"
    with running_collector(landing_folder, "--rotate-seconds", "0.5", *NO_LIMIT) as running:
        yield running


def event(name: str) -> dict[str, object]:
    return {"event_id": name, "event_type": "pageview", "client_id": "c", "event_time": int(time.time() * 1000)}


def wait_for(counts: Counter[str], name: str, landing_folder: Path) -> None:
    deadline = time.monotonic() + 20
    while name not in counts and time.monotonic() < deadline:
        time.sleep(0.1)
        counts.update(counted_ids(landing_folder) - counts)
    assert counts[name] == 1


def test_an_event_is_on_disk_before_it_is_acknowledged(tmp_path: Path) -> None:
    with running_collector(tmp_path / "landing") as collecting:
        assert collecting.post(event("kept")).json()["accepted"] == 1
        collecting.kill()
        (open_file,) = (tmp_path / "landing" / "events" / ".open").glob("*.ndjson")
        assert json.loads(open_file.read_text())["event_id"] == "kept"
    with running_collector(tmp_path / "landing"):
        assert counted_ids(tmp_path / "landing") == {"kept": 1}


def test_a_file_is_completed_by_age_without_further_requests(collecting: Collecting) -> None:
    collecting.post(event("alone"))
    wait_for(Counter(), "alone", collecting.landing)


def test_json_gzip_and_hits_over_http(collecting: Collecting) -> None:
    packed = gzip.compress(json.dumps([event("packed")]).encode())
    headers = {"content-encoding": "gzip", "content-type": "application/json"}
    assert httpx.post(f"{collecting.url}/collect", content=packed, headers=headers).json()["accepted"] == 1
    pixel = httpx.get(f"{collecting.url}/collect", params={"cid": "1.2", "t": "pageview", "eid": "pixel"})
    assert (pixel.status_code, pixel.content) == (200, GIF)
    form = {"v": "2", "cid": "1.2", "en": "page_view", "eid": "form"}
    assert httpx.post(f"{collecting.url}/collect", data=form).json()["accepted"] == 1
    batch = "en=page_view&eid=beacon\r\nen=scroll"
    query = {"v": "2", "tid": "G-ABC", "cid": "1.2"}
    counts = httpx.post(f"{collecting.url}/collect", params=query, content=batch).json()
    assert (counts["accepted"], counts["unused"]) == (1, 1)
    counts: Counter[str] = Counter()
    for name in ("packed", "pixel", "form", "beacon"):
        wait_for(counts, name, collecting.landing)


def test_a_signed_batch_over_http(collecting: Collecting) -> None:
    body = json.dumps(event("signed")).encode()
    headers = {"x-boat-key": "shop-server", "x-boat-signature": signature(SECRET, int(time.time()), body)}
    sent = [httpx.post(f"{collecting.url}/collect", content=body, headers=headers) for _ in range(2)]
    assert [answer.status_code for answer in sent] == [200, 401]


def test_a_gzip_bomb_is_refused_in_little_memory(tmp_path: Path) -> None:
    packer = zlib.compressobj(9, wbits=31)
    bomb = b"".join([*(packer.compress(bytes(10**6)) for _ in range(400)), packer.flush()])
    assert len(bomb) < 500_000
    with running_collector(tmp_path / "landing") as collecting, ThreadPoolExecutor(8) as senders:
        headers = {"content-encoding": "gzip", "content-type": "application/json"}

        def send(_: int) -> int:
            return httpx.post(f"{collecting.url}/collect", content=bomb, headers=headers, timeout=30).status_code

        assert set(senders.map(send, range(40))) == {413}
        assert collecting.rss_mb() < 200
        assert collecting.post(event("after")).status_code == 200


def test_a_body_that_is_too_large_is_refused_with_or_without_its_length(collecting: Collecting) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(40):
            yield b" " * 50_000

    for content in (b" " * 600_000, chunks()):
        answer = httpx.post(f"{collecting.url}/collect", content=content, headers={"content-type": "application/json"})
        assert (answer.status_code, answer.json()["error"]) == (413, "too_large")
    assert collecting.rss_mb() < 200


def test_a_slow_head_is_disconnected_and_a_slow_body_gets_an_error(collecting: Collecting) -> None:
    slow_heads = [socket.create_connection(("127.0.0.1", collecting.port)) for _ in range(50)]
    slow_body = socket.create_connection(("127.0.0.1", collecting.port))
    slow_body.sendall(b"POST /collect HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{")
    started = time.monotonic()
    for connection in slow_heads:
        connection.sendall(b"POST /collect HTTP/1.1\r\nX-Slow: ")
    assert collecting.post(event("beside the slow")).status_code == 200
    answer, answered_after = b"", None
    slow_body.settimeout(1)
    while answered_after is None and time.monotonic() < started + 20:
        for connection in slow_heads:
            _trickle(connection)
        _trickle(slow_body)
        try:
            received = slow_body.recv(4096)
        except TimeoutError:
            continue
        except ConnectionError:
            received = b""
        answer += received
        if not received or b"too_slow" in answer:
            answered_after = time.monotonic() - started
    assert b" 408 " in answer.splitlines()[0]
    assert answered_after is not None
    assert 9 < answered_after < 15
    assert all(_is_closed(connection) for connection in slow_heads)


def _trickle(connection: socket.socket) -> None:
    try:
        connection.sendall(b"a")
    except OSError:
        connection.close()


def _is_closed(connection: socket.socket) -> bool:
    if connection.fileno() < 0:
        return True
    connection.settimeout(1)
    try:
        return connection.recv(1) == b""
    except TimeoutError:
        return False
    except OSError:
        return True


def test_an_endless_head_is_disconnected(collecting: Collecting) -> None:
    with socket.create_connection(("127.0.0.1", collecting.port)) as connection:
        connection.sendall(b"GET /collect HTTP/1.1\r\n")
        endless = b"".join(b"X-%d: " % number + b"a" * 10_000 + b"\r\n" for number in range(2000))
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            connection.sendall(endless)
    assert collecting.post(event("after the endless")).status_code == 200


def test_a_sender_beyond_its_rate_limit_must_wait(tmp_path: Path) -> None:
    with running_collector(tmp_path / "landing", "--events-per-second", "1", "--burst", "20") as collecting:
        assert collecting.post([event(str(number)) for number in range(20)]).status_code == 200
        refused = collecting.post([event(str(number)) for number in range(10)])
        assert refused.status_code == 429
        assert 1 <= int(refused.headers["retry-after"]) <= 11


def test_a_disk_failure_is_reported_and_the_next_events_are_stored(tmp_path: Path) -> None:
    with running_collector(tmp_path / "landing") as collecting:
        collecting.post(event("before"))
        resource.prlimit(collecting.process.pid, resource.RLIMIT_FSIZE, (300, resource.RLIM_INFINITY))
        refused = collecting.post(event("lost"))
        assert (refused.status_code, refused.json()["error"]) == (503, "storage_unavailable")
        unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
        resource.prlimit(collecting.process.pid, resource.RLIMIT_FSIZE, unlimited)
        assert collecting.post(event("after")).status_code == 200
        collecting.stop()
    assert counted_ids(tmp_path / "landing") == {"before": 1, "after": 1}


@pytest.mark.parametrize("repeats", [1, pytest.param(250, marks=[pytest.mark.soak, pytest.mark.timeout(1800)])])
def test_bad_events_among_good_ones_are_counted_with_their_reasons(repeats: int, tmp_path: Path) -> None:
    bad = [(event, reason) for event, reason, _ in MALFORMED.values()] * repeats
    events: list[tuple[object, str]] = [*bad, *((GOOD | {"event_id": f"g-{i}"}, "") for i in range(9 * len(bad)))]
    random.Random(4).shuffle(events)
    with running_collector(tmp_path / "landing", *NO_LIMIT) as collecting, httpx.Client() as client:
        for start in range(0, len(events), 50):
            batch = events[start : start + 50]
            body = json.dumps([event for event, _ in batch])  # httpx's JSON encoder rejects half a surrogate pair
            answer = client.post(f"{collecting.url}/collect", content=body, headers={"content-type": "text/plain"})
            reasons = {error["index"]: error["reason"] for error in answer.json()["errors"]}
            assert reasons == {index: reason for index, (_, reason) in enumerate(batch) if reason}
        collecting.stop()
    assert len(lines(tmp_path / "landing")) == 9 * len(bad)
    reasons = Counter(letter["reason"] for letter in dead_letters(tmp_path / "landing"))
    assert reasons == Counter(reason for _, reason in bad)


@pytest.mark.parametrize("number", [2000, pytest.param(100_000, marks=[pytest.mark.soak, pytest.mark.timeout(1800)])])
def test_an_event_sent_three_times_by_eight_clients_is_counted_once(number: int, tmp_path: Path) -> None:
    sent = [event(f"e-{index}") for index in range(number)] * 3
    random.Random(4).shuffle(sent)
    batches = [sent[start : start + 50] for start in range(0, len(sent), 50)]
    with running_collector(tmp_path / "landing", *NO_LIMIT) as collecting, httpx.Client(timeout=30) as client:

        def send(batch: object) -> int:
            return int(client.post(f"{collecting.url}/collect", json=batch).json()["accepted"])

        with ThreadPoolExecutor(8) as clients:
            assert sum(clients.map(send, batches)) == len(sent)
        collecting.stop()
    report = raw_log.load(connect(f"duckdb:///{tmp_path}/warehouse.duckdb"), tmp_path / "landing")
    assert (report.received, report.accepted, report.duplicate) == (3 * number, number, 2 * number)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--signed-only"], "--signed-only needs a signing key, but BOAT_COLLECT_KEYS is empty."),
        (["--burst", "0"], "--burst is 0"),
        (["--landing", "/proc/nowhere"], "Cannot write to the landing folder /proc/nowhere"),
    ],
)
def test_an_invalid_setting_is_named(
    options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from boat.__main__ import main

    assert main(["collect", "--landing", str(tmp_path), *options]) == 1
    assert message in capsys.readouterr().err
