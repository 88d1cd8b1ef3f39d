"""After every fault, work is done by one job: it is not submitted twice, and not left running."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from boat import compute, store
from boat.compute import JobSpec
from boat.errors import ComputeError, JobError, SettingError
from tests.cloud.batch.running import Cloud
from tests.conftest import ROOT

pytestmark = [pytest.mark.cloud, pytest.mark.faults]

CALLERS = 2

WORK = """
import pathlib, sys, time
options = dict(zip(sys.argv[1::2], sys.argv[2::2]))
state, until = pathlib.Path(options["--checkpoint"]), pathlib.Path(options["--until"])
step = int(state.read_text()) if state.exists() else 0
print("begins at", step, flush=True)
while step < 3:
    step += 1
    part = state.with_name("part")
    part.write_text(str(step))
    part.replace(state)
    print("step", step, flush=True)
    if step == 1:
        time.sleep(float(options["--settle"]))
        print("ready", flush=True)
        while not until.exists(): time.sleep(0.05)
pathlib.Path(options["--output"]).write_text("done")
"""


@pytest.fixture
def work(cloud: Cloud, tmp_path: Path) -> Callable[..., JobSpec]:
    """Return a job with a checkpoint after each of three steps. It prints `ready` after the first and waits."""
    (tmp_path / "work.py").write_text(textwrap.dedent(WORK))

    def spec(key: str, settle: float = 0, until: Path = tmp_path) -> JobSpec:
        return JobSpec(
            name="some work",
            module="work",
            arguments={"settle": str(settle), "until": str(until)},
            environment={"PYTHONPATH": str(tmp_path)},
            outputs={"output": store.join(cloud.store, key, "result.txt")},
            checkpoint=store.join(cloud.store, "checkpoints", key),
            store=cloud.store,
            key=key,
        )

    return spec


@pytest.fixture(params=["batch", "ecs"])
def url(request: pytest.FixtureRequest, cloud: Cloud) -> Callable[..., str]:
    make_url: Callable[..., str] = getattr(cloud, request.param)
    return make_url


@pytest.fixture
def times(every_fault: bool) -> int:
    """Return the number of injections of a fault, on Batch and on ECS."""
    return 5 if every_fault else 2


def run(url: str, spec: JobSpec) -> list[str]:
    lines: list[str] = []
    compute.connect(url).run(spec, lines.append)
    return lines


def run_all(url: str, specs: Sequence[JobSpec]) -> list[list[str]]:
    """Run jobs at the same time and return the lines of each."""
    with ThreadPoolExecutor(len(specs)) as pool:
        return list(pool.map(lambda spec: run(url, spec), specs))


def fail_all(url: str, specs: Sequence[JobSpec], match: str) -> None:
    """Check that each job ends with a `JobError` that matches."""

    def fail(spec: JobSpec) -> None:
        with pytest.raises(JobError, match=match):
            run(url, spec)

    with ThreadPoolExecutor(len(specs)) as pool:
        list(pool.map(fail, specs))


@pytest.mark.parametrize("fault", ["throttle", "drop", "error"])
def test_a_faulty_submission_creates_one_job(
    cloud: Cloud, url: Callable[..., str], work: Callable[..., JobSpec], fault: str, times: int
) -> None:
    specs = [work(f"{fault}-{number}") for number in range(times)]
    cloud.emulator.faults += [(fault, "SubmitJob" if url == cloud.batch else "RunTask")] * times
    assert all("step 3" in lines for lines in run_all(url(), specs))
    assert {store.read_text(spec.outputs["output"]) for spec in specs} == {"done"}
    assert cloud.emulator.faults == []
    assert len(cloud.emulator.jobs) == times
    assert cloud.emulator.active() == []


def test_a_lagging_list_does_not_cause_a_second_job(cloud: Cloud, work: Callable[..., JobSpec]) -> None:
    cloud.emulator.unlisted_seconds = 0.4
    cloud.emulator.faults.append(("drop", "SubmitJob"))
    run(cloud.batch(poll=0.3), work("lag"))
    assert len(cloud.emulator.jobs) == 1


def test_a_job_resumes_from_its_checkpoint_if_its_host_is_lost(
    cloud: Cloud, url: Callable[..., str], work: Callable[..., JobSpec], times: int
) -> None:
    specs = [work(f"lost-{number}", settle=1.5) for number in range(times)]
    cloud.emulator.faults += [("lose",)] * times
    for lines in run_all(url(), specs):
        assert [line for line in lines if line.startswith("begins")] == ["begins at 0", "begins at 1"]
    for spec in specs:
        assert store.read_text(spec.outputs["output"]) == "done"
        assert not store.exists(spec.checkpoint)
    assert len(cloud.emulator.jobs) == (times if url == cloud.batch else 2 * times)
    assert cloud.emulator.active() == []


def test_the_cost_includes_all_attempts(cloud: Cloud, url: Callable[..., str], work: Callable[..., JobSpec]) -> None:
    cloud.emulator.faults.append(("lose",))
    result = compute.connect(url(price=3600)).run(work("paid", settle=0.5), lambda line: None)
    assert result.attempts == 2
    assert result.seconds > 1
    assert result.dollars == pytest.approx(result.seconds, abs=0.01)


def test_the_number_of_attempts_is_limited(cloud: Cloud, url: Callable[..., str], work: Callable[..., JobSpec]) -> None:
    cloud.emulator.faults += [("lose",)] * 2
    failing = replace(work("lost for good"), checkpoint="", module="always_ready")
    (Path(failing.environment["PYTHONPATH"]) / "always_ready.py").write_text(
        "import time; print('ready', flush=True); time.sleep(60)"
    )
    with pytest.raises(JobError, match=r"lost its host.*Host EC2"):
        run(url(attempts=2), failing)
    assert cloud.emulator.faults == []
    assert cloud.emulator.active() == []


def test_a_bug_is_never_retried(
    cloud: Cloud, url: Callable[..., str], work: Callable[..., JobSpec], times: int
) -> None:
    specs = [replace(work(f"bug-{number}"), module="buggy") for number in range(times)]
    (Path(specs[0].environment["PYTHONPATH"]) / "buggy.py").write_text("raise SystemExit('a bug')")
    fail_all(url(), specs, r"exit code 1(.|\n)*a bug")
    assert [len(job.containers) for job in cloud.emulator.jobs.values()] == [1] * times


def test_a_job_without_a_host_is_stopped_with_the_reason(
    cloud: Cloud, url: Callable[..., str], work: Callable[..., JobSpec], times: int
) -> None:
    cloud.emulator.faults += [("hang",)] * times
    fail_all(url(wait=0), [work(f"hang-{number}") for number in range(times)], r"found no host in 0 s .*quotas")
    cloud.emulator.wait_until_idle()
    assert len(cloud.emulator.jobs) == times
    assert sum(len(job.containers) for job in cloud.emulator.jobs.values()) == 0


def test_a_success_without_its_output_is_a_failure_and_is_not_reused(
    cloud: Cloud, url: Callable[..., str], work: Callable[..., JobSpec], times: int
) -> None:
    specs = [work(f"nothing-{number}") for number in range(times)]
    cloud.emulator.faults += [("nothing",)] * times
    fail_all(url(), specs, r"succeeded but left no s3://.*result\.txt")
    assert len(cloud.emulator.jobs) == times
    assert "step 3" in run(url(), specs[0])


def test_a_job_waits_for_a_full_cluster(cloud: Cloud, work: Callable[..., JobSpec]) -> None:
    cloud.emulator.faults += [("full",)] * 3
    assert "step 3" in run(cloud.ecs(), work("full"))
    assert len(cloud.emulator.jobs) == 1
    cloud.emulator.faults.append(("full",))
    with pytest.raises(JobError, match=r"found no host in 0 s.*RESOURCE:MEMORY"):
        run(cloud.ecs(wait=0), work("too full"))


def test_work_with_the_same_key_runs_once(cloud: Cloud, url: Callable[..., str], work: Callable[..., JobSpec]) -> None:
    first = run(url(), work("again"))
    assert run(url(), work("again")) == first
    assert len(cloud.emulator.jobs) == 1
    run(url(), work("another"))
    assert len(cloud.emulator.jobs) == 2


CALLER = """
import sys
from boat import compute
from boat.compute import JobSpec
compute.connect(sys.argv[1]).run(eval(sys.argv[2]), lambda line: print(line, flush=True))
"""


def _caller(url: str, spec: JobSpec) -> "subprocess.Popen[str]":
    command = [sys.executable, "-u", "-c", CALLER, url, repr(spec)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=ROOT)


def _read_until(process: "subprocess.Popen[str]", line: str) -> None:
    assert process.stdout is not None
    assert any(output.strip() == line for output in process.stdout)


def _end(callers: Sequence["subprocess.Popen[str]"], number: int) -> None:
    for caller in callers:
        caller.send_signal(number)
    for caller in callers:
        caller.wait(30)
        assert caller.stdout is not None
        caller.stdout.close()


def test_a_killed_callers_jobs_are_found_by_the_retry(
    cloud: Cloud, url: Callable[..., str], work: Callable[..., JobSpec], tmp_path: Path
) -> None:
    specs = [work(f"killed-{number}", until=tmp_path / "retried") for number in range(CALLERS)]
    callers = [_caller(url(), spec) for spec in specs]
    for caller in callers:
        _read_until(caller, "ready")
    _end(callers, signal.SIGKILL)
    assert len(cloud.emulator.active()) == len(specs)
    (tmp_path / "retried").touch()
    for lines in run_all(url(), specs):
        assert lines.count("begins at 0") == 1
        assert lines[-1] == "step 3"
    assert len(cloud.emulator.jobs) == len(specs)


def test_jobs_of_an_interrupted_caller_are_stopped(
    cloud: Cloud, url: Callable[..., str], work: Callable[..., JobSpec], tmp_path: Path
) -> None:
    specs = [work(f"interrupted-{number}", until=tmp_path / "never") for number in range(CALLERS)]
    callers = [_caller(url(), spec) for spec in specs]
    for caller in callers:
        _read_until(caller, "ready")
    _end(callers, signal.SIGINT)
    cloud.emulator.wait_until_idle()
    assert len(cloud.emulator.jobs) == len(callers)


def test_a_throttling_service_is_a_temporary_error(cloud: Cloud, work: Callable[..., JobSpec]) -> None:
    started = time.monotonic()
    cloud.emulator.faults += [("throttle", "SubmitJob")] * 8
    with pytest.raises(ComputeError, match="could not be submitted"):
        run(cloud.batch(poll=0.01), work("throttled"))
    assert cloud.emulator.jobs == {}
    assert time.monotonic() - started < 20


def test_an_unknown_queue_is_a_wrong_setting(cloud: Cloud, work: Callable[..., JobSpec]) -> None:
    with pytest.raises(SettingError, match=r"refused job 'some work'.*Cannot find elsewhere"):
        run(cloud.batch().replace("//boat-train/", "//elsewhere/"), work("elsewhere"))


def test_changed_code_is_not_run(cloud: Cloud, work: Callable[..., JobSpec]) -> None:
    from boat.compute import package

    store.publish_bytes(b"something else", store.join(cloud.store, "code", f"{package.code().digest}.zip"))
    with pytest.raises(JobError, match=r"exit code 1(.|\n)*has the digest"):
        run(cloud.batch(), work("changed"))


def test_a_local_folder_cannot_be_an_input(cloud: Cloud, work: Callable[..., JobSpec]) -> None:
    with pytest.raises(SettingError, match=r"cannot read /tmp/snapshot"):
        run(cloud.batch(), replace(work("local"), inputs={"snapshot": "/tmp/snapshot"}))


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("batch://queue/definition", "lacks region"),
        ("batch://queue?region=eu-west-1", "lacks a name"),
        ("batch://queue/definition?region=eu-west-1&gpu=1", "unknown option gpu"),
        ("ecs://cluster/task?region=eu-west-1&vcpus=many", "many"),
        ("ecs://cluster/task?region=eu-west-1&attempts=0", "attempt"),
    ],
)
def test_an_invalid_url_is_refused_with_the_reason(url: str, named: str) -> None:
    with pytest.raises(SettingError, match=named):
        compute.connect(url)


def test_gpus_cpus_and_memory_are_requested(cloud: Cloud, work: Callable[..., JobSpec]) -> None:
    run(cloud.batch(gpus=1, vcpus=4, memory=14000, attempts=2), work("needs"))
    run(cloud.ecs(vcpus=2, memory=8192, spot=0), work("needs on ecs"))
    batch, ecs = (job.request for job in cloud.emulator.jobs.values())
    assert batch["containerOverrides"]["resourceRequirements"] == [
        {"type": "GPU", "value": "1"},
        {"type": "VCPU", "value": "4"},
        {"type": "MEMORY", "value": "14000"},
    ]
    assert batch["retryStrategy"]["attempts"] == 2
    assert batch["tags"] == {"boat:key": "needs"}
    assert (ecs["overrides"]["cpu"], ecs["overrides"]["memory"], ecs["launchType"]) == ("2048", "8192", "FARGATE")
    assert os.environ["AWS_SECRET_ACCESS_KEY"] not in {
        variable["value"] for variable in batch["containerOverrides"]["environment"]
    }
