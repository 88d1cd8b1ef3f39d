"""What AWS Batch and ECS have in common: a job is submitted once, watched, billed, and never left alone."""

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
from boat.errors import ComputeError, JobError, SettingError

_BOOTSTRAP = Path(__file__).with_name("bootstrap.py")
_SLICE_SECONDS = 0.5  # an interruption reaches a thread only between two waits
_LATE_LINES_POLLS, _LATE_LINES_SECONDS = 3, 1.0  # lines arrive some seconds after they were written
_SUBMISSIONS = 8
_LOOKS = 3  # what lists jobs may lag behind what takes them
_UNCERTAIN_STATUS = 500
_THROTTLED = {"ThrottlingException", "TooManyRequestsException", "Throttling", "RequestLimitExceeded"}
_LONGEST_COMMAND = 7_500  # ECS takes 8192 characters of overrides

_log = logging.getLogger(__name__)

Phase = Literal["waiting", "running", "succeeded", "failed", "lost"]


class NoHostError(Exception):
    """The service has no room for a job now and did not take it."""


class JobRequest(NamedTuple):
    """A job as it is submitted.

    Attributes:
        spec: What it is.
        name: Under which it is found again; the same key has the same name.
        command: Its container's command.
        environment: Its container's variables.
        token: Of this one start.
        stop: Once it is set, nobody wants the job.
    """

    spec: JobSpec
    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    token: str
    stop: Event | None = None


@dataclass(frozen=True)
class JobState:
    """How a job is doing.

    Attributes:
        phase: `waiting` until a host runs it; `lost` where that host is gone and nobody replaces it.
        reason: What the service says about it.
        exit_code: Of its container.
        started: When the present attempt started, seconds since 1970.
        seconds: Time of the attempts that are over.
        attempts: How many there have been.
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
    """What a service has to be able to do; ids are its own."""

    def find(self, name: str) -> list[str]:
        """Jobs of that name that wait, run or have succeeded, newest first."""

    def submit(self, request: JobRequest) -> str:
        """Submit; never twice, whatever becomes of the answer.

        Raises:
            NoHostError: There is no room at the moment, and the service keeps no queue.
        """

    def describe(self, job: str) -> JobState:
        """How it is doing."""

    def stop(self, job: str, reason: str) -> None:
        """End it; nothing where it has ended."""


@dataclass(frozen=True)
class RemoteOptions:
    """What a compute URL can say after `?`. Holds no secret: credentials come from boto3's standard chain.

    Attributes:
        region: AWS region.
        gpus: GPUs of a job; 0 leaves it to the definition.
        vcpus: Virtual CPUs; 0 leaves it to the definition.
        memory: MiB; 0 leaves it to the definition.
        attempts: Starts at most: lost hosts are replaced, from the last checkpoint; a bug is never tried again.
        wait: Seconds that a job may wait for a host.
        poll: Seconds between two looks at a job and its log.
        max_parallel: Jobs that are run at once where there are many, as the trials of a search.
        price: US dollars an hour of what runs a job, to tell what it cost; 0 where it is not known.
        endpoint_url: Where the service's and the log's API are, if not at their usual addresses.
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
    """Read `PROTOCOL://ONE/TWO?name=value&…`; returns ONE, TWO and the options.

    Raises:
        SettingError: A setting is missing, unknown or no number.
    """
    parts = urlsplit(url)
    given = dict(parse_qsl(parts.query, keep_blank_values=True))
    known: dict[str, Any] = {entry.name: entry for entry in fields(kind)}
    unknown = sorted(given.keys() - known.keys())
    missing = [name for name, entry in known.items() if entry.default is MISSING and not given.get(name)]
    if unknown or missing or not parts.netloc or not parts.path.strip("/"):
        wrong = f"does not know {', '.join(unknown)}" if unknown else f"misses {', '.join(missing) or 'a name'}"
        raise SettingError(f"The compute URL {url!r} {wrong}.", f"Write it like {example}.")
    try:
        options = kind(**{name: known[name].type(text) for name, text in given.items()})
    except ValueError as error:
        raise SettingError(f"A number in the compute URL {url!r} is none ({error}).", "Correct it.") from error
    if options.attempts < 1 or options.poll <= 0 or options.max_parallel < 1:
        raise SettingError(
            f"The compute URL {url!r} has attempts, poll or max_parallel below its minimum.",
            "Set attempts and max_parallel to 1 or more, and poll to more than 0.",
        )
    return parts.netloc, parts.path.strip("/"), options


def client(service: str, options: RemoteOptions, *, retried: bool = True) -> Any:
    """A boto3 client; not `retried` for calls that must not happen twice unseen."""
    retries = {"mode": "adaptive", "total_max_attempts": 10} if retried else {"total_max_attempts": 1}
    config = Config(connect_timeout=10, read_timeout=60, retries=retries)
    return boto3.client(service, region_name=options.region, endpoint_url=options.endpoint_url or None, config=config)


class RemoteCompute:
    """Runs jobs on a service.

    Args:
        service: Which one.
        options: How.
    """

    def __init__(self, service: Service, options: RemoteOptions) -> None:
        self._service, self._options = service, options
        self._logs = client("logs", options)
        self.max_parallel = options.max_parallel

    def run(self, spec: JobSpec, on_line: Callable[[str], None], stop: Event | None = None) -> JobResult:
        """Run a job to its end, or go on with the one that has its key; see `boat.compute.base.Compute.run`."""
        with _explained(spec):
            request = self._prepared(spec, stop)
            submitted: list[str] = []
            try:
                result = self._followed(request, on_line, submitted.append)
            except BaseException:
                self._stop_all(request.name, submitted)
                raise
        for name, uri in spec.outputs.items():
            if not store.exists(uri):
                raise spec.failure(f"({result.job}) succeeded but left no {uri}", hint=f"Does it write --{name}?")
        return result

    def _prepared(self, spec: JobSpec, stop: Event | None) -> JobRequest:
        """Publish the code and write the command that fetches it."""
        uris = [spec.store, *spec.inputs.values(), *spec.outputs.values(), *filter(None, [spec.checkpoint])]
        local = [uri for uri in uris if not uri.startswith("s3://")]
        if local:
            raise SettingError(
                f"Job {spec.name!r} runs elsewhere and cannot reach {local[0] or 'a store that is not named'}.",
                "Set the artifact store to s3://BUCKET/FOLDER.",
            )
        code = package.code()
        uri = store.join(spec.store, "code", f"{code.digest}.zip")
        if not store.exists(uri):
            store.publish_bytes(code.content, uri)
        told = {
            "code": uri,
            "sha256": code.digest,
            "requirements": package.requirements(),
            "spec": asdict(replace(spec, environment={})),
        }
        command = ["python", "-c", _BOOTSTRAP.read_text(encoding="utf-8"), json.dumps(told)]
        if len(json.dumps(command)) > _LONGEST_COMMAND:
            raise SettingError(f"Job {spec.name!r} has too long arguments to be submitted.", "Write them to a file.")
        environment = {"AWS_DEFAULT_REGION": self._options.region, **spec.environment}
        return JobRequest(spec, _name(spec), command, environment, uuid.uuid4().hex, stop)

    def _followed(
        self, request: JobRequest, on_line: Callable[[str], None], on_job: Callable[[str], None]
    ) -> JobResult:
        """Submit, and start anew what a lost host took away."""
        spec, seconds, attempts = request.spec, 0.0, 0
        while True:
            job = self._found(request) or self._submit(request)
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

    def _found(self, request: JobRequest) -> str | None:
        """A job of that name that another call has submitted, if it still runs or has done its work."""
        for job in self._service.find(request.name):
            phase = self._service.describe(job).phase
            done = phase == "succeeded" and all(store.exists(uri) for uri in request.spec.outputs.values())
            if phase in ("waiting", "running") or done:
                return job
        return None

    def _submit(self, request: JobRequest) -> str:
        """Submit; where it is not certain whether the service has taken the job, look before trying again."""
        failure: Exception | None = None
        for number in range(_SUBMISSIONS):
            try:
                return self._once_there_is_room(request)
            except (ClientError, HTTPClientError) as error:
                if isinstance(error, ClientError) and not (_throttled(error) or _uncertain(error)):
                    raise
                failure = error
            refused = isinstance(failure, ClientError) and _throttled(failure)
            for _ in range(1 if refused else _LOOKS):
                sleep(min(self._options.poll * 2**number, 30) * random.uniform(0.5, 1))
                found = self._found(request)
                if found:
                    return found
        raise ComputeError(f"Job {request.spec.name!r} could not be submitted ({failure}).", "Try again later.")

    def _once_there_is_room(self, request: JobRequest) -> str:
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
            f"found no host in {self._options.wait} s and was ended ({reason or 'the service gives no reason'})",
            hint="See what hosts its queue or cluster can have, their quotas and spot capacity; or raise wait=.",
        )

    def _watch(self, job: str, request: JobRequest, lines: "_Lines") -> JobState:
        """Hand on lines until the job ends; ends it where it takes too long."""
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
                    self._service.stop(job, f"Longer than {spec.timeout_seconds} s")
                    lines.read_rest(state.streams, self._options.poll)
                    raise spec.failure(f"ran longer than {spec.timeout_seconds} s and was ended", lines.last)
            elif time.monotonic() - waiting_since > self._options.wait:
                self._service.stop(job, f"No host for {self._options.wait} s")
                raise self._no_host(spec, state.reason)
            sleep(self._options.poll)

    def _stop_all(self, name: str, submitted: Sequence[str]) -> None:
        """Leave nothing behind that costs money: also what was taken by a submission that had no answer."""
        try:
            for job in [*submitted, *(job for job in self._service.find(name) if job not in submitted)]:
                self._service.stop(job, "Its caller was interrupted")
        except (ClientError, BotoCoreError) as error:  # the reason why it is stopped must not be lost
            _log.warning("Job %s may still run: it could not be stopped (%s).", name, error)


class _Lines:
    """The lines of a job's log streams, each once."""

    def __init__(self, logs: Any, on_line: Callable[[str], None]) -> None:
        self._logs, self._on_line = logs, on_line
        self._tokens: dict[tuple[str, str], str] = {}
        self._ended: set[tuple[str, str]] = set()
        self.last: deque[str] = deque(maxlen=LAST_LINES)

    def read(self, streams: Sequence[tuple[str, str]]) -> None:
        """Hand on what is new."""
        for stream in streams:
            while self._page(stream):
                pass

    def read_rest(self, streams: Sequence[tuple[str, str]], poll: float) -> None:
        """Hand on what is new until the job's last line has come; a job that was killed wrote none."""
        deadline = time.monotonic() + max(_LATE_LINES_POLLS * poll, _LATE_LINES_SECONDS)
        self.read(streams)
        while streams and streams[-1] not in self._ended and time.monotonic() < deadline:
            sleep(min(poll, 1.0))
            self.read(streams)

    def _page(self, stream: tuple[str, str]) -> bool:
        """Read on; whether there may be more at once."""
        group, name = stream
        token = self._tokens.get(stream)
        more: dict[str, str] = {"nextToken": token} if token else {}
        try:
            page = self._logs.get_log_events(logGroupName=group, logStreamName=name, startFromHead=True, **more)
        except self._logs.exceptions.ResourceNotFoundException:
            return False  # it has not written a line yet
        for event in page["events"]:
            if event["message"] == END:
                self._ended.add(stream)
                continue
            self.last.append(event["message"])
            self._on_line(event["message"])
        self._tokens[stream] = page["nextForwardToken"]
        return bool(page["events"]) and page["nextForwardToken"] != token


def sleep(seconds: float) -> None:
    """Wait, and let an interruption through."""
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        time.sleep(min(left, _SLICE_SECONDS))


def _name(spec: JobSpec) -> str:
    """Letters, digits and hyphens, at most 36: what a task on ECS can be found by."""
    key = spec.key or uuid.uuid4().hex
    return f"boat-{sha256(f'{spec.name} {key}'.encode()).hexdigest()[:24]}"


def _failure(spec: JobSpec, state: JobState, last: deque[str]) -> JobError:
    if state.phase == "lost":
        return spec.failure(f"lost its host {state.attempts} times ({state.reason})", last, "Raise attempts=.")
    code = f"ended with exit code {state.exit_code}" if state.exit_code is not None else "did not run"
    reason = f" ({state.reason})" if state.reason else ""
    return spec.failure(f"{code}{reason}", last)


def _throttled(error: ClientError) -> bool:
    return error.response.get("Error", {}).get("Code") in _THROTTLED


def _uncertain(error: ClientError) -> bool:
    status: int = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    same_at_work = error.response.get("Error", {}).get("Code") == "ConflictException"  # a try with the same token
    return status >= _UNCERTAIN_STATUS or same_at_work


@contextmanager
def _explained(spec: JobSpec) -> Iterator[None]:
    """Turn what boto3 raises into an error that names the job."""
    try:
        yield
    except ClientError as error:
        if _throttled(error) or _uncertain(error):
            raise ComputeError(f"Job {spec.name!r} met a service that is not well ({error}).", "Try again.") from error
        raise SettingError(
            f"Job {spec.name!r} was refused ({error}).", "Correct the compute URL, or the rights of this role."
        ) from error
    except BotoCoreError as error:
        raise ComputeError(
            f"Job {spec.name!r} got no answer ({error}).", "Check region and network, and the credentials here."
        ) from error
