"""The compute seam: where a job (a training, an evaluation) runs, chosen by URL."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from threading import Event
from typing import Protocol

from boat.backends import Backend, construct
from boat.errors import JobError, JobStoppedError

LAST_LINES = 20
"""How many of a job's lines an error shows."""


@dataclass(frozen=True)
class JobSpec:
    """A job, told without saying where it runs.

    Attributes:
        name: Readable name, for logs.
        module: Python module run with `python -m`; needs only `boat[train]`.
        arguments: Its command line options, `{"seed": "1"}` becomes `--seed 1`.
        timeout_seconds: The job is ended after that; where lost hosts are replaced, each attempt has that long.
        environment: Variables to set beside the few a job always gets. No secrets: they can be read in consoles.
        inputs: Options whose values are files or folders of the artifact store; the job gets them as paths.
        outputs: The same for what it writes. A job that leaves one of them unwritten has failed.
        checkpoint: File of the store that keeps the state of an interrupted job; passed as `--checkpoint`. Empty: none.
        store: The artifact store. A job that runs elsewhere takes its code from there.
        key: The same work has the same key: where a job of that key runs, or has succeeded, no second one is started.
            Empty: each call is work of its own.
    """

    name: str
    module: str
    arguments: Mapping[str, str]
    timeout_seconds: int = 3600
    environment: Mapping[str, str] = field(default_factory=dict)
    inputs: Mapping[str, str] = field(default_factory=dict)
    outputs: Mapping[str, str] = field(default_factory=dict)
    checkpoint: str = ""
    store: str = ""
    key: str = ""

    def command(self) -> list[str]:
        """The arguments after the interpreter."""
        given = {**self.arguments, **self.inputs, **self.outputs}
        if self.checkpoint:
            given["checkpoint"] = self.checkpoint
        return ["-m", self.module, *(part for key, value in given.items() for part in (f"--{key}", value))]

    def failure(self, what: str, last: Iterable[str] = (), hint: str = "") -> JobError:
        """The error that says what became of this job."""
        lines = list(last)
        said = f" Its last lines:\n{chr(10).join(lines[-LAST_LINES:])}\n" if lines else ""
        return JobError(f"Job {self.name!r} {what}.{said}", hint)

    def check(self, stop: Event | None) -> None:
        """Give up once `stop` is set.

        Raises:
            JobStoppedError: It is.
        """
        if stop is not None and stop.is_set():
            raise JobStoppedError(f"Job {self.name!r} was stopped.", "Its caller wants it no more.")


@dataclass(frozen=True)
class JobResult:
    """What a job took.

    Attributes:
        job: Its name where it ran.
        seconds: Time of all its attempts.
        attempts: How often it was started; more than one where hosts were lost.
        dollars: What that cost, where the place knows a price.
    """

    job: str
    seconds: float
    attempts: int = 1
    dollars: float | None = None


class Compute(Protocol):
    """A place where jobs run."""

    @property
    def max_parallel(self) -> int:
        """How many jobs can run at once without taking from each other."""

    def run(self, spec: JobSpec, on_line: Callable[[str], None], stop: Event | None = None) -> JobResult:
        """Run a job to its end. `on_line` gets each line it prints, as it comes.

        Ends the job, with all its processes, if the caller is interrupted, `on_line` raises, or `stop` is set: by
        another thread, which an interruption does not reach.

        Raises:
            JobStoppedError: `stop` was set.
            JobError: It exited with an error, ran past its time, or left an output unwritten; holds the last lines.
            ComputeError: The place does not answer. A second call finds the job that it may have taken.
            SettingError: The place cannot run jobs of this kind.
        """


_AWS = "pip install 'boat[flows]'"
_BACKENDS = {
    "local": Backend("boat.compute.local", "LocalCompute", "pip install 'boat[train]'"),
    "batch": Backend("boat.compute.batch", "connect", _AWS),
    "ecs": Backend("boat.compute.ecs", "connect", _AWS),
}


def connect(url: str) -> Compute:
    """The place behind a URL.

    `local:` is a subprocess on this machine (`local:?max_parallel=2` runs two at a time), `batch://QUEUE/DEFINITION` is
    AWS Batch, `ecs://CLUSTER/TASK_DEFINITION` is a task on ECS. `boat.compute.batch.BatchOptions` and
    `boat.compute.ecs.EcsOptions` list their options.

    Raises:
        SettingError: Unknown protocol or setting, or its package is not installed.
    """
    compute: Compute = construct("compute", "boat.compute", url, _BACKENDS)
    return compute
