"""Shared code for AWS Batch and ECS: submit a job once, watch it, compute its cost, and stop it if the caller ends."""

import json
import logging
import random
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import MISSING, asdict, dataclass, fields, replace
from hashlib import sha256
from pathlib import Path
from threading import Event
from typing import Any, Literal, NamedTuple, Protocol, TypeVar
from urllib.parse import parse_qsl, urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError

from boat import store
from boat.compute import package
from boat.compute.base import LAST_LINES, JobResult, JobSpec
from boat.compute.job import END
from boat.errors import ComputeError, JobError, SettingError, ended

_BOOTSTRAP = Path(__file__).with_name("bootstrap.py")
_SLICE_SECONDS = 0.5  # an interruption is handled only between two waits
_LATE_LINES_POLLS, _LATE_LINES_SECONDS = 3, 1.0  # lines arrive some seconds after the job wrote them
_SUBMISSIONS = 8
_LOOKS = 3  # a new job may be missing from the list of jobs for a moment
_UNCERTAIN_STATUS = 500
_THROTTLED = {"ThrottlingException", "TooManyRequestsException", "Throttling", "RequestLimitExceeded"}
_LONGEST_COMMAND = 7_500  # ECS takes 8192 characters of overrides

_log = logging.getLogger(__name__)

Phase = Literal["waiting", "running", "succeeded", "failed", "lost"]


class NoHostError(Exception):
    """The service has no free host and did not accept the job."""


class JobRequest(NamedTuple):
    """A job, ready to submit.

    Attributes:
        spec: The job.
        name: Name that identifies the job on the service. The same key gives the same name.
        command: Command of the container.
        environment: Environment variables of the container.
        token: Idempotency token of this start.
        stop: Set by the caller to cancel the job.
    """

    spec: JobSpec
    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    token: str
    stop: Event | None = None


@dataclass(frozen=True)
class JobState:
    """State of a job.

    Attributes:
        phase: `waiting` until a host runs the job; `lost` if that host is gone and the service does not replace it.
        reason: The service's explanation.
        exit_code: Exit code of the container.
        started: Start of the current attempt, in seconds since 1970.
        seconds: Duration of the finished attempts.
        attempts: Number of attempts so far.
        streams: Log group and stream of each attempt, oldest first.
    """

    phase: Phase
    reason: str = ""
    exit_code: int | None = None
    started: float | None = None
    seconds: float = 0.0
    attempts: int = 1
    streams: tuple[tuple[str, str], ...] = ()


class Service(Protocol):
    """The operations that a service must offer. Job ids are the service's."""

    def find(self, name: str) -> list[str]:
        """Return the ids of jobs of that name that wait, run or have succeeded, newest first."""

    def submit(self, request: JobRequest) -> str:
        """Submit a job once and return its id. Do not repeat the call if its answer is lost.

        Raises:
            NoHostError: There is no free host, and the service has no queue.
        """

    def describe(self, job: str) -> JobState:
        """Return the state of a job."""

    def stop(self, job: str, reason: str) -> None:
        """Stop a job. Do nothing if it has ended."""


@dataclass(frozen=True)
class RemoteOptions:
    """Options of a compute URL. They hold no secrets: credentials come from boto3's standard chain.

    Attributes:
        region: AWS region.
        gpus: GPUs of a job. 0 uses the job definition's value.
        vcpus: Virtual CPUs. 0 uses the job definition's value.
        memory: Memory in MiB. 0 uses the job definition's value.
        attempts: Most starts of a job. It resumes from its checkpoint if its host is lost. A bug is not retried.
        wait: Longest time that a job waits for a host, in seconds.
        poll: Seconds between two queries of a job's state and log.
        max_parallel: Most jobs that run at once, such as trials of a tuning.
        price: US dollars per hour of a job's host, to report the cost. 0 if unknown.
        endpoint_url: Address of the service's and the log's API, if it is not the default one.
    """

    region: str
    gpus: int = 0
    vcpus: float = 0
    memory: int = 0
    attempts: int = 3
    wait: int = 3600
    poll: float = 5.0
    max_parallel: int = 4
    price: float = 0.0
    endpoint_url: str = ""


OptionsT = TypeVar("OptionsT", bound=RemoteOptions)


def parse(url: str, kind: type[OptionsT], example: str) -> tuple[str, str, OptionsT]:
    """Parse `PROTOCOL://FIRST/SECOND?name=value&…`. Return FIRST, SECOND and the options.

    Raises:
        SettingError: An option is missing, unknown or not a number.
    """
    parts = urlsplit(url)
    texts = dict(parse_qsl(parts.query, keep_blank_values=True))
    option_fields: dict[str, Any] = {entry.name: entry for entry in fields(kind)}
    unknown = sorted(texts.keys() - option_fields.keys())
    missing = [name for name, entry in option_fields.items() if entry.default is MISSING and not texts.get(name)]
    if unknown or missing or not parts.netloc or not parts.path.strip("/"):
        lacking = f"lacks {', '.join(missing) or 'a name'}"
        problem = f"has the unknown option {', '.join(unknown)}" if unknown else lacking
        raise SettingError(f"The compute URL {url!r} {problem}.", f"Write it like {example}.")
    try:
        options = kind(**{name: option_fields[name].type(text) for name, text in texts.items()})
    except ValueError as error:
        raise SettingError(
            f"An option of the compute URL {url!r} is not a number ({error}).", "Correct its value."
        ) from error
    if options.attempts < 1 or options.poll <= 0 or options.max_parallel < 1:
        raise SettingError(
            f"The compute URL {url!r} has attempts, poll or max_parallel below its minimum.",
            "Set attempts and max_parallel to 1 or more, and poll to more than 0.",
        )
    return parts.netloc, parts.path.strip("/"), options


def client(service: str, options: RemoteOptions, *, retried: bool = True) -> Any:
    """Return a boto3 client. Without `retried` it never repeats a call, for calls that are not idempotent."""
    retries = {"mode": "adaptive", "total_max_attempts": 10} if retried else {"total_max_attempts": 1}
    config = Config(connect_timeout=10, read_timeout=60, retries=retries)
    return boto3.client(service, region_name=options.region, endpoint_url=options.endpoint_url or None, config=config)


class RemoteCompute:
    """Runs jobs on a service.

    Args:
        service: AWS Batch or ECS.
        options: Options of the compute URL.
    """

    def __init__(self, service: Service, options: RemoteOptions) -> None:
        self._service, self._options = service, options
        self._logs = client("logs", options)
        self.max_parallel = options.max_parallel

    def run(self, spec: JobSpec, on_line: Callable[[str], None], stop: Event | None = None) -> JobResult:
        """Run a job to its end, or attach to the job that has its key; see `boat.compute.base.Compute.run`."""
        with _explained(spec):
            request = self._prepare(spec, stop)
            submitted: list[str] = []
            try:
                result = self._run_attempts(request, on_line, submitted.append)
            except BaseException:
                self._stop_all(request.name, submitted)
                raise
        for name, uri in spec.outputs.items():
            if not store.exists(uri):
                raise spec.failure(
                    f"({result.job}) succeeded but left no {uri}", hint=f"Check that it writes --{name}."
                )
        return result

    def _prepare(self, spec: JobSpec, stop: Event | None) -> JobRequest:
        """Upload the code and build the command that downloads it."""
        uris = [spec.store, *spec.inputs.values(), *spec.outputs.values(), *filter(None, [spec.checkpoint])]
        local = [uri for uri in uris if not uri.startswith("s3://")]
        if local:
            raise SettingError(
                f"Job {spec.name!r} runs on AWS and cannot read {local[0] or 'an artifact store without a name'}.",
                "Set the artifact store to s3://BUCKET/FOLDER.",
            )
        code = package.code()
        uri = store.join(spec.store, "code", f"{code.digest}.zip")
        if not store.exists(uri):
            store.publish_bytes(code.content, uri)
        job = {
            "code": uri,
            "sha256": code.digest,
            "requirements": package.requirements(),
            "spec": asdict(replace(spec, environment={})),
        }
        command = ["python", "-c", _BOOTSTRAP.read_text(encoding="utf-8"), json.dumps(job)]
        if len(json.dumps(command)) > _LONGEST_COMMAND:
            raise SettingError(
                f"The arguments of job {spec.name!r} have more than {_LONGEST_COMMAND} characters, too many for AWS.",
                "Write them to a file.",
            )
        environment = {"AWS_DEFAULT_REGION": self._options.region, **spec.environment}
        return JobRequest(spec, _name(spec), command, environment, uuid.uuid4().hex, stop)

    def _run_attempts(
        self, request: JobRequest, on_line: Callable[[str], None], on_job: Callable[[str], None]
    ) -> JobResult:
        """Submit the job, and submit it again if its host is lost."""
        spec, seconds, attempts = request.spec, 0.0, 0
        while True:
            job = self._find_usable(request) or self._submit(request)
            on_job(job)
            lines = _Lines(self._logs, on_line)
            state = self._watch(job, request, lines)
            seconds, attempts = seconds + state.seconds, attempts + state.attempts
            if state.phase == "succeeded":
                hours = seconds / 3600
                dollars = round(hours * self._options.price, 4) if self._options.price else None
                return JobResult(job, round(seconds, 2), attempts, dollars)
            if state.phase == "failed" or attempts >= self._options.attempts:
                raise _failure(spec, state, lines.last)
            request = request._replace(token=uuid.uuid4().hex)

    def _find_usable(self, request: JobRequest) -> str | None:
        """Return a job that an earlier call submitted, if it still runs or has written its outputs."""
        for job in self._service.find(request.name):
            phase = self._service.describe(job).phase
            done = phase == "succeeded" and all(store.exists(uri) for uri in request.spec.outputs.values())
            if phase in ("waiting", "running") or done:
                return job
        return None

    def _submit(self, request: JobRequest) -> str:
        """Submit. If it is uncertain whether the service accepted the job, look for it before the next try."""
        failure: Exception | None = None
        for number in range(_SUBMISSIONS):
            try:
                return self._submit_with_host(request)
            except (ClientError, HTTPClientError) as error:
                if isinstance(error, ClientError) and not (_throttled(error) or _uncertain(error)):
                    raise
                failure = error
            refused = isinstance(failure, ClientError) and _throttled(failure)
            for _ in range(1 if refused else _LOOKS):
                sleep(min(self._options.poll * 2**number, 30) * random.uniform(0.5, 1))
                job = self._find_usable(request)
                if job:
                    return job
        raise ComputeError(f"Job {request.spec.name!r} could not be submitted ({failure}).", "Retry the run later.")

    def _submit_with_host(self, request: JobRequest) -> str:
        deadline = time.monotonic() + self._options.wait
        while True:
            request.spec.check(request.stop)
            try:
                return self._service.submit(request)
            except NoHostError as error:
                if time.monotonic() > deadline:
                    raise self._no_host(request.spec, str(error)) from error
                sleep(self._options.poll)
                request = request._replace(token=uuid.uuid4().hex)

    def _no_host(self, spec: JobSpec, reason: str) -> JobError:
        return spec.failure(
            f"found no host in {self._options.wait} s and was stopped ({reason or 'the service gives no reason'})",
            hint="Check the hosts, quotas and spot capacity of the queue or cluster, or raise wait= in the URL.",
        )

    def _watch(self, job: str, request: JobRequest, lines: "_Lines") -> JobState:
        """Pass on lines until the job ends. Stop it if it takes too long."""
        spec, waiting_since = request.spec, time.monotonic()
        while True:
            spec.check(request.stop)
            state = self._service.describe(job)
            lines.read(state.streams)
            if state.phase not in ("waiting", "running"):
                lines.read_rest(state.streams, self._options.poll)
                return state
            if state.phase == "running":
                waiting_since = time.monotonic()
                if state.started and time.time() - state.started > spec.timeout_seconds:
                    self._service.stop(job, f"It ran longer than {spec.timeout_seconds} s")
                    lines.read_rest(state.streams, self._options.poll)
                    raise spec.failure(f"ran longer than {spec.timeout_seconds} s and was stopped", lines.last)
            elif time.monotonic() - waiting_since > self._options.wait:
                self._service.stop(job, f"No host for {self._options.wait} s")
                raise self._no_host(spec, state.reason)
            sleep(self._options.poll)

    def _stop_all(self, name: str, submitted: Sequence[str]) -> None:
        """Stop all jobs of this name, including a job whose submission got no answer. A running job costs money."""
        try:
            for job in [*submitted, *(job for job in self._service.find(name) if job not in submitted)]:
                self._service.stop(job, "The caller was interrupted")
        except (ClientError, BotoCoreError) as error:  # the first error is the one to raise
            _log.warning("Job %s may still run: it could not be stopped (%s).", name, error)


class _Lines:
    """Reads each line of a job's log streams once."""

    def __init__(self, logs: Any, on_line: Callable[[str], None]) -> None:
        self._logs, self._on_line = logs, on_line
        self._tokens: dict[tuple[str, str], str] = {}
        self._ended: set[tuple[str, str]] = set()
        self.last: deque[str] = deque(maxlen=LAST_LINES)

    def read(self, streams: Sequence[tuple[str, str]]) -> None:
        """Pass on new lines."""
        for stream in streams:
            while self._page(stream):
                pass

    def read_rest(self, streams: Sequence[tuple[str, str]], poll: float) -> None:
        """Pass on new lines until the job's last line, or until a deadline: a killed job writes no last line."""
        deadline = time.monotonic() + max(_LATE_LINES_POLLS * poll, _LATE_LINES_SECONDS)
        self.read(streams)
        while streams and streams[-1] not in self._ended and time.monotonic() < deadline:
            sleep(min(poll, 1.0))
            self.read(streams)

    def _page(self, stream: tuple[str, str]) -> bool:
        """Read one page. Return whether the next page may have lines already."""
        group, name = stream
        token = self._tokens.get(stream)
        position: dict[str, str] = {"nextToken": token} if token else {}
        try:
            page = self._logs.get_log_events(logGroupName=group, logStreamName=name, startFromHead=True, **position)
        except self._logs.exceptions.ResourceNotFoundException:
            return False  # the job has not written a line yet
        for event in page["events"]:
            if event["message"] == END:
                self._ended.add(stream)
                continue
            self.last.append(event["message"])
            self._on_line(event["message"])
        self._tokens[stream] = page["nextForwardToken"]
        return bool(page["events"]) and page["nextForwardToken"] != token


def sleep(seconds: float) -> None:
    """Wait in short slices, so that an interruption is handled soon."""
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        time.sleep(min(left, _SLICE_SECONDS))


def _name(spec: JobSpec) -> str:
    """Return a name of letters, digits and hyphens. ECS searches tasks by at most 36 characters."""
    key = spec.key or uuid.uuid4().hex
    return f"boat-{sha256(f'{spec.name} {key}'.encode()).hexdigest()[:24]}"


def _failure(spec: JobSpec, state: JobState, last: deque[str]) -> JobError:
    if state.phase == "lost":
        return spec.failure(
            f"lost its host {state.attempts} times ({state.reason})", last, "Raise attempts= in the compute URL."
        )
    code = ended(state.exit_code) if state.exit_code is not None else "did not run"
    reason = f" ({state.reason})" if state.reason else ""
    return spec.failure(f"{code}{reason}", last)


def _throttled(error: ClientError) -> bool:
    return error.response.get("Error", {}).get("Code") in _THROTTLED


def _uncertain(error: ClientError) -> bool:
    status: int = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    is_under_way = error.response.get("Error", {}).get("Code") == "ConflictException"  # a call with the same token
    return status >= _UNCERTAIN_STATUS or is_under_way


@contextmanager
def _explained(spec: JobSpec) -> Iterator[None]:
    """Raise boto3's errors as errors that name the job."""
    try:
        yield
    except ClientError as error:
        if _throttled(error) or _uncertain(error):
            raise ComputeError(
                f"AWS returned a temporary error for job {spec.name!r} ({error}).",
                "Retry the run: the job is found again by its key.",
            ) from error
        raise SettingError(
            f"AWS refused job {spec.name!r} ({error}).",
            "Correct the compute URL, or the permissions of the role that submits it.",
        ) from error
    except BotoCoreError as error:
        raise ComputeError(
            f"AWS did not answer for job {spec.name!r} ({error}).",
            "Check the region in the compute URL, the network and the AWS credentials of this machine.",
        ) from error
