"""What every place where jobs run has to keep."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from boat import compute
from boat.compute import Compute, JobSpec
from boat.compute.progress import parse, report
from boat.errors import JobError, JobStoppedError, SettingError
from boat.store import fetch, publish
from tests.cloud.batch.running import Cloud

_STUBBORN = """
import os, pathlib, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
pathlib.Path(sys.argv[2]).write_text(f"{os.getpid()} {child.pid}")
print("started", flush=True)
time.sleep(600)
"""


def _alive(pid: int) -> bool:
    """A killed process may stay as a zombie until its adopter looks; that is not alive."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def _ended(pids: Path, within: float = 10) -> bool:
    deadline = time.monotonic() + within
    while any(_alive(int(pid)) for pid in pids.read_text().split()):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


class ComputeContract(ABC):
    """Inherit and say how to make the place; `tmp_path` has to be readable there."""

    @abstractmethod
    @pytest.fixture
    def place(self) -> Compute: ...

    @pytest.fixture
    def store(self, tmp_path: Path) -> str:
        """An artifact store that jobs of this place can reach."""
        return str(tmp_path / "store")

    @pytest.fixture
    def job(self, tmp_path: Path, store: str) -> Callable[..., JobSpec]:
        def make(code: str, timeout_seconds: int = 60, **arguments: str) -> JobSpec:
            (tmp_path / "some_job.py").write_text(textwrap.dedent(code))
            environment = {"PYTHONPATH": str(tmp_path)}
            return JobSpec("some job", "some_job", arguments, timeout_seconds, environment, store=store)

        return make

    def test_a_job_gets_its_arguments_and_its_lines_come_back(
        self, place: Compute, job: Callable[..., JobSpec]
    ) -> None:
        lines: list[str] = []
        place.run(job("import sys\nprint(sys.argv[1:])\nprint('é', file=sys.stderr)", color="deep red"), lines.append)
        assert lines == ["['--color', 'deep red']", "é"]

    def test_lines_arrive_while_the_job_runs(self, place: Compute, job: Callable[..., JobSpec], tmp_path: Path) -> None:
        code = f"""
            import pathlib, time
            from boat.compute.progress import report
            report(epoch=1)
            while not pathlib.Path({str(tmp_path / "seen")!r}).exists(): time.sleep(0.02)
            report(epoch=2)
        """
        epochs: list[int] = []

        def on_line(line: str) -> None:
            epochs.append((parse(line) or {})["epoch"])
            (tmp_path / "seen").touch()  # the job goes on only when its first line has come

        place.run(job(code, timeout_seconds=30), on_line)
        assert epochs == [1, 2]

    def test_a_failure_names_the_job_its_exit_code_and_its_last_lines(
        self, place: Compute, job: Callable[..., JobSpec]
    ) -> None:
        with pytest.raises(JobError, match=r"'some job'.*exit code 3") as failure:
            place.run(job("for i in range(100): print('line', i)\nraise SystemExit(3)"), lambda line: None)
        assert "line 99" in str(failure.value)
        assert "line 80" in str(failure.value)
        assert "line 79" not in str(failure.value)

    def test_a_job_ended_by_a_signal_is_a_failure(self, place: Compute, job: Callable[..., JobSpec]) -> None:
        with pytest.raises(JobError, match="exit code 137"):
            place.run(job("import os; os.kill(os.getpid(), 9)"), lambda line: None)

    def test_the_callers_settings_and_secrets_stay_with_the_caller(
        self, place: Compute, job: Callable[..., JobSpec], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        lines: list[str] = []
        place.run(job("import os; print('AWS_SECRET_ACCESS_KEY' in os.environ)"), lines.append)
        assert lines == ["False"]

    def test_a_job_past_its_time_ends_with_all_its_processes(
        self, place: Compute, job: Callable[..., JobSpec], tmp_path: Path
    ) -> None:
        started = time.monotonic()
        with pytest.raises(JobError, match=r"longer than 2 s(.|\n)*started"):
            place.run(job(_STUBBORN, timeout_seconds=2, pids=str(tmp_path / "pids")), lambda line: None)
        assert time.monotonic() - started < 8
        assert _ended(tmp_path / "pids")

    @pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit, RuntimeError])
    def test_an_interruption_leaves_no_orphan(
        self, place: Compute, job: Callable[..., JobSpec], tmp_path: Path, interruption: type[BaseException]
    ) -> None:
        def on_line(line: str) -> None:
            raise interruption

        with pytest.raises(interruption):
            place.run(job(_STUBBORN, pids=str(tmp_path / "pids")), on_line)
        assert _ended(tmp_path / "pids")

    def test_an_interruption_while_the_job_is_silent_leaves_no_orphan(
        self, place: Compute, job: Callable[..., JobSpec], tmp_path: Path
    ) -> None:
        def on_line(line: str) -> None:
            threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()

        with pytest.raises(KeyboardInterrupt):
            place.run(job(_STUBBORN, pids=str(tmp_path / "pids")), on_line)
        assert _ended(tmp_path / "pids")

    def test_another_thread_stops_a_silent_job(
        self, place: Compute, job: Callable[..., JobSpec], tmp_path: Path
    ) -> None:
        stop = threading.Event()
        with pytest.raises(JobStoppedError, match="'some job'"):
            place.run(job(_STUBBORN, pids=str(tmp_path / "pids")), lambda line: stop.set(), stop)
        assert _ended(tmp_path / "pids")

    def test_there_is_room_for_a_job(self, place: Compute) -> None:
        assert place.max_parallel >= 1

    def test_a_process_left_behind_does_not_hold_up_the_end(
        self, place: Compute, job: Callable[..., JobSpec], tmp_path: Path
    ) -> None:
        leaves = _STUBBORN.replace("time.sleep(600)\n", "sys.exit()\n")
        started = time.monotonic()
        place.run(job(leaves, pids=str(tmp_path / "pids")), lambda line: None)
        assert time.monotonic() - started < 10
        assert _ended(tmp_path / "pids")

    def test_inputs_and_outputs_lie_in_the_store(
        self, place: Compute, job: Callable[..., JobSpec], store: str, tmp_path: Path
    ) -> None:
        (tmp_path / "given").mkdir()
        (tmp_path / "given" / "text").write_text("from the store")
        code = """
            import pathlib, sys
            options = dict(zip(sys.argv[1::2], map(pathlib.Path, sys.argv[2::2])))
            text = (options["--given"] / "text").read_text()
            options["--folder"].mkdir(parents=True)
            (options["--folder"] / "text").write_text(text.upper())
            options["--file"].parent.mkdir(parents=True, exist_ok=True)
            options["--file"].write_text(text)
        """
        inputs = {"given": publish(tmp_path / "given", f"{store}/given")}
        outputs = {"folder": f"{store}/made", "file": f"{store}/file.txt"}
        place.run(replace(job(code), inputs=inputs, outputs=outputs), lambda line: None)
        assert (fetch(outputs["folder"], tmp_path / "cache") / "text").read_text() == "FROM THE STORE"
        assert fetch(outputs["file"], tmp_path / "cache").read_text() == "from the store"

    def test_a_job_that_leaves_an_output_unwritten_has_failed(
        self, place: Compute, job: Callable[..., JobSpec], store: str
    ) -> None:
        with pytest.raises(JobError, match=r"'some job'(.|\n)*made"):
            place.run(replace(job("pass"), outputs={"made": f"{store}/made"}), lambda line: None)

    def test_the_result_says_how_long_it_took(self, place: Compute, job: Callable[..., JobSpec]) -> None:
        result = place.run(job("import time; time.sleep(0.5)"), lambda line: None)
        assert 0.5 <= result.seconds < 20
        assert result.attempts == 1


class TestLocalCompute(ComputeContract):
    @pytest.fixture
    def place(self) -> Compute:
        return compute.connect("local:")

    def test_a_job_ends_when_its_caller_is_killed(self, job: Callable[..., JobSpec], tmp_path: Path) -> None:
        spec = job(_STUBBORN, pids=str(tmp_path / "pids"))
        caller = subprocess.Popen(
            [
                sys.executable,
                "-c",
                f"from boat.compute import *; connect('local:').run({spec!r}, lambda line: print(line, flush=True))",
            ],
            stdout=subprocess.PIPE,
        )
        assert caller.stdout is not None
        assert caller.stdout.readline() == b"started\n"
        caller.kill()
        caller.wait()
        caller.stdout.close()
        assert _ended(tmp_path / "pids")


@pytest.mark.cloud
class TestBatch(ComputeContract):
    @pytest.fixture
    def place(self, cloud: Cloud) -> Compute:
        return compute.connect(cloud.batch())

    @pytest.fixture
    def store(self, cloud: Cloud) -> str:
        return cloud.store


@pytest.mark.cloud
class TestEcs(TestBatch):
    @pytest.fixture
    def place(self, cloud: Cloud) -> Compute:
        return compute.connect(cloud.ecs())


def test_an_unknown_place_is_named_with_the_known_ones() -> None:
    with pytest.raises(SettingError, match=r"'moon'.*local"):
        compute.connect("moon:base")


def test_a_local_url_says_how_many_jobs_run_at_once() -> None:
    assert compute.connect("local:?max_parallel=3").max_parallel == 3


@pytest.mark.parametrize("url", ["local:?max_parallel=0", "local:?max_parallel=many", "local:?max_parallels=2"])
def test_a_local_url_that_makes_no_sense_is_refused(url: str) -> None:
    with pytest.raises(SettingError, match=r"local:\?max_parallel"):
        compute.connect(url)


def test_only_marked_lines_are_progress(capsys: pytest.CaptureFixture[str]) -> None:
    report(epoch=3, loss=0.5)
    assert parse(capsys.readouterr().out) == {"epoch": 3, "loss": 0.5}
    assert parse("Epoch 3") is None
