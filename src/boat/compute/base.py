"""The compute seam: the service that runs a job (a training, an evaluation) is chosen by URL."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from threading import Event
from typing import Protocol

from boat.backends import Backend, construct
from boat.errors import JobError, JobStoppedError

LAST_LINES = 20
"""Lines of a job that an error shows."""


@dataclass(frozen=True)
class JobSpec:
    """A job, independent of the service that runs it.

    Attributes:
        name: Readable name, for logs.
        module: Python module run with `python -m`; needs only `boat[train]`.
        arguments: Command line options. `{"seed": "1"}` becomes `--seed 1`.
        timeout_seconds: Longest run. If lost hosts are replaced, it is the limit of one attempt.
        environment: Extra environment variables. No secrets, because consoles show them.
        inputs: Options whose values are URIs in the artifact store. The job gets them as local paths.
        outputs: Options whose values are URIs that the job writes. A job that leaves one unwritten has failed.
        checkpoint: URI of the file with the state of an interrupted job, passed as `--checkpoint`. Empty: no
            checkpoint.
        store: URI of the artifact store. Batch and ECS jobs download their code from it.
        key: Identity of the work. If a job with this key runs or has succeeded, no second one is started. Empty: each
            call starts a job.
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
        """Return the arguments after the interpreter."""
        options = {**self.arguments, **self.inputs, **self.outputs}
        if self.checkpoint:
            options["checkpoint"] = self.checkpoint
        return ["-m", self.module, *(part for key, value in options.items() for part in (f"--{key}", value))]

    def failure(self, problem: str, last: Iterable[str] = (), hint: str = "") -> JobError:
        """Return the error for a failed job: its name, the problem and its last lines."""
        lines = list(last)
        tail = f" Its last lines:\n{chr(10).join(lines[-LAST_LINES:])}\n" if lines else ""
        return JobError(f"Job {self.name!r} {problem}.{tail}", hint)

    def check(self, stop: Event | None) -> None:
        """Raise `JobStoppedError` if `stop` is set."""
        if stop is not None and stop.is_set():
            raise JobStoppedError(f"Job {self.name!r} was cancelled by its caller.")


@dataclass(frozen=True)
class JobResult:
    """Time and cost of a job that succeeded.

    Attributes:
        job: Id of the job on the service that ran it.
        seconds: Duration of all attempts together.
        attempts: Number of starts. It is above 1 if hosts were lost.
        dollars: Cost in US dollars, or None if no price is configured.
        cpu_seconds: CPU time of a local job, otherwise None.
        peak_bytes: Largest resident memory of a local job, otherwise None.
    """

    job: str
    seconds: float
    attempts: int = 1
    dollars: float | None = None
    cpu_seconds: float | None = None
    peak_bytes: int | None = None


class Compute(Protocol):
    """A service that runs jobs."""

    @property
    def max_parallel(self) -> int:
        """Return the number of jobs that can run at once without slowing each other down."""

    def run(self, spec: JobSpec, on_line: Callable[[str], None], stop: Event | None = None) -> JobResult:
        """Run a job to its end and pass each line that it prints to `on_line`.

        The job and all its processes are killed if the caller is interrupted, `on_line` raises, or another thread sets
        `stop`.

        Raises:
            JobStoppedError: `stop` was set.
            JobError: The job failed, ran too long, or left an output unwritten. The message has its last lines.
            ComputeError: The service does not answer. A second call finds the job if it was submitted.
            SettingError: The service cannot run this job.
        """


_AWS = "pip install 'boat[flows]'"
_BACKENDS = {
    "local": Backend("boat.compute.local", "LocalCompute", "pip install 'boat[train]'"),
    "batch": Backend("boat.compute.batch", "connect", _AWS),
    "ecs": Backend("boat.compute.ecs", "connect", _AWS),
}


def connect(url: str) -> Compute:
    """Return the compute back end of a URL.

    `local:` runs subprocesses on this machine, and `local:?max_parallel=2` runs two at a time. `batch://QUEUE/DEFINITION`
    is AWS Batch, and `ecs://CLUSTER/TASK_DEFINITION` is ECS. `boat.compute.batch.BatchOptions` and
    `boat.compute.ecs.EcsOptions` list their options.

    Raises:
        SettingError: Unknown protocol or option, or its package is not installed.
    """
    compute: Compute = construct("compute", "boat.compute", url, _BACKENDS)
    return compute
