"""Contract of all compute back ends. The tests of a back end inherit `ComputeContract`."""

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

from boat.compute import Compute, JobSpec, connect
from boat.compute.progress import parse, parse_stage, report, stages
from boat.errors import JobError, JobStoppedError, SettingError
from boat.progress import Progress
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
    """Return whether a process runs. A killed process may remain as a zombie, which does not count."""
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
    """Inherit it and override `compute`, and `store` if jobs cannot read `tmp_path`."""

    @pytest.fixture
    @abstractmethod
    def compute(self) -> Compute:
        """Return the back end to test."""

    @pytest.fixture
    def store(self, tmp_path: Path) -> str:
        """Return an artifact store that jobs of the back end can read."""
        return str(tmp_path / "store")

    @pytest.fixture
    def job(self, tmp_path: Path, store: str) -> Callable[..., JobSpec]:
        def make(code: str, timeout_seconds: int = 60, **arguments: str) -> JobSpec:
            (tmp_path / "some_job.py").write_text(textwrap.dedent(code))
            environment = {"PYTHONPATH": str(tmp_path)}
            return JobSpec("some job", "some_job", arguments, timeout_seconds, environment, store=store)

        return make

    def test_a_job_gets_its_arguments_and_its_lines_come_back(
        self, compute: Compute, job: Callable[..., JobSpec]
    ) -> None:
        lines: list[str] = []
        compute.run(job("import sys\nprint(sys.argv[1:])\nprint('é', file=sys.stderr)", color="deep red"), lines.append)
        assert lines == ["['--color', 'deep red']", "é"]

    def test_lines_arrive_while_the_job_runs(
        self, compute: Compute, job: Callable[..., JobSpec], tmp_path: Path
    ) -> None:
        code = f"""
            import pathlib, time
            from boat.compute.progress import report
            report(epoch=1)
            while not pathlib.Path({str(tmp_path / "received")!r}).exists(): time.sleep(0.02)
            report(epoch=2)
        """
        epochs: list[int] = []

        def on_line(line: str) -> None:
            epochs.append((parse(line) or {})["epoch"])
            (tmp_path / "received").touch()  # the job goes on only when its first line has come

        compute.run(job(code, timeout_seconds=30), on_line)
        assert epochs == [1, 2]

    def test_a_failure_names_the_job_its_exit_code_and_its_last_lines(
        self, compute: Compute, job: Callable[..., JobSpec]
    ) -> None:
        with pytest.raises(JobError, match=r"'some job'.*exit code 3") as failure:
            compute.run(job("for i in range(100): print('line', i)\nraise SystemExit(3)"), lambda line: None)
        assert "line 99" in str(failure.value)
        assert "line 80" in str(failure.value)
        assert "line 79" not in str(failure.value)

    def test_a_job_ended_by_a_signal_is_a_failure(self, compute: Compute, job: Callable[..., JobSpec]) -> None:
        with pytest.raises(JobError, match="ended by SIGKILL, as the system does if the memory is full"):
            compute.run(job("import os; os.kill(os.getpid(), 9)"), lambda line: None)

    def test_a_job_does_not_get_the_callers_settings_and_secrets(
        self, compute: Compute, job: Callable[..., JobSpec], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        lines: list[str] = []
        compute.run(job("import os; print('AWS_SECRET_ACCESS_KEY' in os.environ)"), lines.append)
        assert lines == ["False"]

    def test_a_job_past_its_time_out_is_killed_with_all_its_processes(
        self, compute: Compute, job: Callable[..., JobSpec], tmp_path: Path
    ) -> None:
        started = time.monotonic()
        with pytest.raises(JobError, match=r"longer than 2 s(.|\n)*started"):
            compute.run(job(_STUBBORN, timeout_seconds=2, pids=str(tmp_path / "pids")), lambda line: None)
        assert time.monotonic() - started < 8
        assert _ended(tmp_path / "pids")

    @pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit, RuntimeError])
    def test_an_interruption_leaves_no_orphan(
        self, compute: Compute, job: Callable[..., JobSpec], tmp_path: Path, interruption: type[BaseException]
    ) -> None:
        def on_line(line: str) -> None:
            raise interruption

        with pytest.raises(interruption):
            compute.run(job(_STUBBORN, pids=str(tmp_path / "pids")), on_line)
        assert _ended(tmp_path / "pids")

    def test_an_interruption_while_the_job_is_silent_leaves_no_orphan(
        self, compute: Compute, job: Callable[..., JobSpec], tmp_path: Path
    ) -> None:
        def on_line(line: str) -> None:
            threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()

        with pytest.raises(KeyboardInterrupt):
            compute.run(job(_STUBBORN, pids=str(tmp_path / "pids")), on_line)
        assert _ended(tmp_path / "pids")

    def test_another_thread_cancels_a_silent_job(
        self, compute: Compute, job: Callable[..., JobSpec], tmp_path: Path
    ) -> None:
        stop = threading.Event()
        with pytest.raises(JobStoppedError, match="'some job'"):
            compute.run(job(_STUBBORN, pids=str(tmp_path / "pids")), lambda line: stop.set(), stop)
        assert _ended(tmp_path / "pids")

    def test_at_least_one_job_can_run(self, compute: Compute) -> None:
        assert compute.max_parallel >= 1

    def test_a_child_process_does_not_delay_the_end_of_its_job(
        self, compute: Compute, job: Callable[..., JobSpec], tmp_path: Path
    ) -> None:
        leaves = _STUBBORN.replace("time.sleep(600)\n", "sys.exit()\n")
        started = time.monotonic()
        compute.run(job(leaves, pids=str(tmp_path / "pids")), lambda line: None)
        assert time.monotonic() - started < 10
        assert _ended(tmp_path / "pids")

    def test_inputs_and_outputs_are_in_the_store(
        self, compute: Compute, job: Callable[..., JobSpec], store: str, tmp_path: Path
    ) -> None:
        (tmp_path / "texts").mkdir()
        (tmp_path / "texts" / "text").write_text("from the store")
        code = """
            import pathlib, sys
            options = dict(zip(sys.argv[1::2], map(pathlib.Path, sys.argv[2::2])))
            text = (options["--texts"] / "text").read_text()
            options["--folder"].mkdir(parents=True)
            (options["--folder"] / "text").write_text(text.upper())
            options["--file"].parent.mkdir(parents=True, exist_ok=True)
            options["--file"].write_text(text)
        """
        inputs = {"texts": publish(tmp_path / "texts", f"{store}/texts")}
        outputs = {"folder": f"{store}/result", "file": f"{store}/file.txt"}
        compute.run(replace(job(code), inputs=inputs, outputs=outputs), lambda line: None)
        assert (fetch(outputs["folder"], tmp_path / "cache") / "text").read_text() == "FROM THE STORE"
        assert fetch(outputs["file"], tmp_path / "cache").read_text() == "from the store"

    def test_a_job_that_leaves_an_output_unwritten_has_failed(
        self, compute: Compute, job: Callable[..., JobSpec], store: str
    ) -> None:
        with pytest.raises(JobError, match=r"'some job'(.|\n)*result"):
            compute.run(replace(job("pass"), outputs={"result": f"{store}/result"}), lambda line: None)

    def test_the_result_has_the_duration(self, compute: Compute, job: Callable[..., JobSpec]) -> None:
        result = compute.run(job("import time; time.sleep(0.5)"), lambda line: None)
        assert 0.5 <= result.seconds < 20
        assert result.attempts == 1


class TestLocalCompute(ComputeContract):
    @pytest.fixture
    def compute(self) -> Compute:
        return connect("local:")

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
    def compute(self, cloud: Cloud) -> Compute:
        return connect(cloud.batch())

    @pytest.fixture
    def store(self, cloud: Cloud) -> str:
        return cloud.store


@pytest.mark.cloud
class TestEcs(TestBatch):
    @pytest.fixture
    def compute(self, cloud: Cloud) -> Compute:
        return connect(cloud.ecs())


def test_an_unknown_protocol_is_refused_with_the_known_ones() -> None:
    with pytest.raises(SettingError, match=r"'moon'.*local"):
        connect("moon:base")


def test_a_local_url_sets_the_number_of_parallel_jobs() -> None:
    assert connect("local:?max_parallel=3").max_parallel == 3


@pytest.mark.parametrize("url", ["local:?max_parallel=0", "local:?max_parallel=many", "local:?max_parallels=2"])
def test_an_invalid_local_url_is_refused(url: str) -> None:
    with pytest.raises(SettingError, match=r"local:\?max_parallel"):
        connect(url)


def test_only_marked_lines_are_progress(capsys: pytest.CaptureFixture[str]) -> None:
    report(epoch=3, loss=0.5)
    assert parse(capsys.readouterr().out) == {"epoch": 3, "loss": 0.5}
    assert parse("Epoch 3") is None


def test_a_job_prints_each_stage_and_then_its_progress_every_two_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    times = iter([10.0, 10.5, 11.0, 12.6, 12.6, 12.7])
    show = stages(lambda: next(times))
    counted = [Progress("counting"), Progress("epoch", 1, 9, "examples"), Progress("epoch", 2, 9, "examples")]
    for progress in (*counted, Progress("epoch", 6, 9, "examples")):
        show(progress)
    assert [parse_stage(line) for line in capsys.readouterr().out.splitlines()] == [
        *counted[:2],
        Progress("epoch", 6, 9, "examples"),
    ]
    assert parse_stage('boat-progress {"epoch": 3}') is None
