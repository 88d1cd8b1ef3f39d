"""AWS Batch, ECS and CloudWatch Logs on a real socket, as far as Boat uses them, with real processes as containers.

Requests are validated against botocore's model of each service, as the real service would do. A container is a
subprocess in a clean environment: the variables of its job, the variables of every container, and the address of its
role's credentials. It ends with all its processes, as a container does.

`faults` are tuples that are injected once: `("throttle", OPERATION)`, `("drop", OPERATION)` (done, but the connection
is cut), `("error", OPERATION)` (done, but the answer is a server error), `("hang",)` (there is no host), `("lose",)`
(the host is lost once the job has written `ready`, or has trained twelve epochs), `("nothing",)` (the container
succeeds at once), `("full",)` (ECS has no capacity). `jobs` is the ledger of all jobs.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import botocore.session
from botocore.validate import ParamValidator

ACCOUNT, REGION = "123456789012", "eu-west-1"
QUEUE, DEFINITION, CLUSTER, TASK = "boat-train", "boat-train", "boat", "boat-train-cpu"
GROUP, PREFIX = "/boat/train", "train"
LOG_LAG_SECONDS = 0.2
LOST = "Host EC2 (instance i-0123456789abcdef0) terminated."
_BATCH = {
    "/v1/submitjob": "SubmitJob",
    "/v1/describejobs": "DescribeJobs",
    "/v1/listjobs": "ListJobs",
    "/v1/terminatejob": "TerminateJob",
}
_READY = ("ready", 'boat-progress {"epoch": 12')
_ENDED = ("SUCCEEDED", "FAILED", "STOPPED")

Body = dict[str, Any]


class AwsError(Exception):
    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.code, self.status = code, status


class Container:
    """A command in a clean environment, and the log stream of its output.

    Args:
        command: Command to run. `python` is the interpreter of the tests.
        environment: Variables besides the variables of every container.
        stream: Receives the lines.
        on_ready: Called with the container once its job is ready.
    """

    def __init__(
        self,
        command: list[str],
        environment: dict[str, str],
        stream: list[tuple[float, str]],
        on_ready: "Callable[[Container], None]",
    ) -> None:
        self._on_ready = on_ready
        self._home = tempfile.TemporaryDirectory(prefix="container-")
        self._stream = stream
        home = self._home.name
        self.process = subprocess.Popen(
            [sys.executable if command[0] == "python" else command[0], *command[1:]],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={"PATH": os.environ["PATH"], "HOME": home, "TMPDIR": home, "LANG": "C.UTF-8", **environment},
            text=True,
            cwd=home,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def runs(self) -> bool:
        return self.process.poll() is None

    def wait(self) -> int:
        """Wait for the end of all its processes, and return the exit code."""
        code = self.process.wait()
        self.kill()
        self._reader.join()
        self._home.cleanup()
        return code if code >= 0 else 128 - code

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as output:
            for line in output:
                self._stream.append((time.time(), line.rstrip("\n")))
                if line.startswith(_READY):
                    self._on_ready(self)


@dataclass
class Job:
    """A job of Batch or a task of ECS."""

    service: str
    id: str
    name: str
    request: Body
    status: str
    created: float
    status_reason: str = ""
    exit_code: int | None = None
    started: float | None = None
    stopped: float | None = None
    stop_code: str = ""
    stream: str = ""
    attempts: list[Body] = field(default_factory=list)
    containers: list[Container] = field(default_factory=list)
    ending: str = ""
    """Why it is ended from outside."""

    @property
    def ended(self) -> bool:
        return self.status in _ENDED


class Emulator:
    """State and operations of the services.

    Args:
        aws: Address of S3.
    """

    def __init__(self, aws: str) -> None:
        self.aws = aws
        self.jobs: dict[str, Job] = {}
        self.streams: dict[str, list[tuple[float, str]]] = {}
        self.tokens: dict[str, str] = {}
        self.calls: Counter[str] = Counter()
        self.faults: list[tuple[str, ...]] = []
        self.unlisted_seconds = 0.0
        self.url = ""
        self._lock = threading.Lock()
        session = botocore.session.get_session()
        self._models = {name: session.get_service_model(name) for name in ("batch", "ecs", "logs")}

    # State for the tests

    def active(self) -> list[Job]:
        return [job for job in self.jobs.values() if not job.ended]

    def processes(self) -> list[Container]:
        """Return running containers."""
        return [container for job in self.jobs.values() for container in job.containers if container.runs]

    def reset(self) -> None:
        for job in self.active():
            self._end(job, "the test is over")
        self.wait_until_idle()
        self.jobs, self.faults, self.unlisted_seconds = {}, [], 0.0
        self.calls.clear()

    def wait_until_idle(self) -> None:
        deadline = time.monotonic() + 10
        while self.active() or self.processes():
            assert time.monotonic() < deadline, "a container does not end"
            time.sleep(0.02)

    # Calls

    def call(self, service: str, operation: str, body: Body) -> tuple[Body, bool]:
        """Return the answer, and whether to cut the connection instead."""
        with self._lock:
            self.calls[operation] += 1
            if self._strikes("throttle", operation):
                code = "TooManyRequestsException" if service == "batch" else "ThrottlingException"
                raise AwsError(code, "Rate exceeded", 429 if service == "batch" else 400)
            shape = self._models[service].operation_model(operation).input_shape
            report = ParamValidator().validate(body, shape)
            if report.has_errors():
                raise AwsError("ClientException", report.generate_report())
            answer = getattr(self, f"_{service}_{operation}")(body)
            if self._strikes("error", operation):
                raise AwsError("ServerException", "Something went wrong", 500)
            return answer, self._strikes("drop", operation)

    def _strikes(self, *fault: str) -> bool:
        if fault not in self.faults:
            return False
        self.faults.remove(fault)
        return True

    # Batch

    def _batch_SubmitJob(self, body: Body) -> Body:
        if body["jobQueue"] != QUEUE or body["jobDefinition"] != DEFINITION:
            raise AwsError("ClientException", f"Cannot find {body['jobQueue']} or {body['jobDefinition']}")
        if body["timeout"]["attemptDurationSeconds"] < 60:
            raise AwsError("ClientException", "attemptDurationSeconds is less than 60")
        job = self._new("batch", str(uuid.uuid4()), body["jobName"], body, "SUBMITTED")
        return {
            "jobArn": f"arn:aws:batch:{REGION}:{ACCOUNT}:job/{job.id}",
            "jobName": job.name,
            "jobId": job.id,
        }

    def _batch_ListJobs(self, body: Body) -> Body:
        (filters,) = body["filters"]
        matches = [
            job
            for job in self._of("batch")
            if filters == {"name": "JOB_NAME", "values": [job.name]} and body["jobQueue"] == QUEUE
        ]
        return {"jobSummaryList": [_summary(job) for job in matches]}

    def _batch_DescribeJobs(self, body: Body) -> Body:
        return {"jobs": [_detail(self.jobs[job_id]) for job_id in body["jobs"] if job_id in self.jobs]}

    def _batch_TerminateJob(self, body: Body) -> Body:
        job = self.jobs.get(body["jobId"])
        if job and not job.ended:
            self._end(job, body["reason"])
        return {}

    # ECS

    def _ecs_RunTask(self, body: Body) -> Body:
        if len(json.dumps(body["overrides"])) > 8192:
            raise AwsError("InvalidParameterException", "Container Overrides length must be at most 8192")
        if body["cluster"] != CLUSTER or body["taskDefinition"] != TASK:
            raise AwsError("ClientException", "Unable to describe task definition.")
        token = body["clientToken"]
        if token not in self.tokens and self._strikes("full"):
            return {"tasks": [], "failures": [{"reason": "RESOURCE:MEMORY"}]}
        if token not in self.tokens:
            arn = f"arn:aws:ecs:{REGION}:{ACCOUNT}:task/{CLUSTER}/{uuid.uuid4().hex}"
            self.tokens[token] = self._new("ecs", arn, body["startedBy"], body, "PROVISIONING").id
        return {"tasks": [_task(self.jobs[self.tokens[token]])], "failures": []}

    def _ecs_ListTasks(self, body: Body) -> Body:
        stopped = body["desiredStatus"] == "STOPPED"
        matches = [job for job in self._of("ecs") if job.name == body["startedBy"]]
        return {"taskArns": [job.id for job in matches if (job.ended or bool(job.ending)) == stopped]}

    def _ecs_DescribeTasks(self, body: Body) -> Body:
        return {"tasks": [_task(self.jobs[arn]) for arn in body["tasks"] if arn in self.jobs], "failures": []}

    def _ecs_StopTask(self, body: Body) -> Body:
        job = self.jobs[body["task"]]
        if not job.ended:
            self._end(job, body["reason"])
        return {"task": _task(job)}

    def _ecs_DescribeTaskDefinition(self, body: Body) -> Body:
        options = {"awslogs-group": GROUP, "awslogs-region": REGION, "awslogs-stream-prefix": PREFIX}
        log = {"logDriver": "awslogs", "options": options}
        return {"taskDefinition": {"containerDefinitions": [{"name": "job", "logConfiguration": log}]}}

    # Logs

    def _logs_GetLogEvents(self, body: Body) -> Body:
        if body["logGroupName"] != GROUP or body["logStreamName"] not in self.streams:
            raise AwsError("ResourceNotFoundException", "The specified log stream does not exist.")
        arrived = [line for line in self.streams[body["logStreamName"]] if line[0] < time.time() - LOG_LAG_SECONDS]
        at = int(body.get("nextToken", "f/0").split("/")[1])
        page = arrived[at : at + 100]
        events = [{"timestamp": int(when * 1000), "message": text} for when, text in page]
        return {"events": events, "nextForwardToken": f"f/{at + len(page)}", "nextBackwardToken": f"b/{at}"}

    # Jobs

    def _of(self, service: str) -> list[Job]:
        """Return the jobs in lists, which may lag behind."""
        before = time.time() - self.unlisted_seconds
        return [job for job in self.jobs.values() if job.service == service and job.created <= before]

    def _new(self, service: str, id_: str, name: str, request: Body, status: str) -> Job:
        job = self.jobs[id_] = Job(service, id_, name, request, status, time.time())
        threading.Thread(target=self._run, args=(job,), daemon=True).start()
        return job

    def _end(self, job: Job, reason: str) -> None:
        job.ending = reason
        for container in job.containers:
            container.kill()

    def _run(self, job: Job) -> None:
        waiting, running = ("RUNNABLE", "RUNNING") if job.service == "batch" else ("PENDING", "RUNNING")
        with self._lock:
            hangs = self._strikes("hang")
        if hangs and job.service == "batch":
            job.status_reason = "MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT"
        again = True
        while again:
            job.status = waiting
            while hangs and not job.ending:
                time.sleep(0.02)
            if job.ending:
                self._finish(job, "FAILED", job.ending)
                return
            again = self._attempt(job, running)

    def _attempt(self, job: Job, running: str) -> bool:
        """Run a container to its end. Return whether there is another attempt."""
        with self._lock:
            nothing = self._strikes("nothing")
        lost = threading.Event()

        def lose(container: Container) -> None:
            with self._lock:
                if self._strikes("lose"):
                    lost.set()
                    container.kill()

        number = "" if job.service == "ecs" else f"-{len(job.containers) + 1}"
        job.stream = f"{PREFIX}/job/{job.id.rsplit('/', 1)[-1]}{number}"
        self.streams[job.stream] = []
        job.started, job.exit_code = time.time(), None
        command = ["true"] if nothing else _overrides(job)["command"]
        container = Container(command, self._environment(job), self.streams[job.stream], lose)
        job.containers.append(container)
        job.status = running
        if job.ending:  # the job ended between the two checks
            container.kill()
        code = container.wait()
        job.stopped, job.exit_code = time.time(), None if lost.is_set() else code
        reason = LOST if lost.is_set() else "Essential container in task exited"
        job.attempts.append(_ended_attempt(job, reason))
        if job.ending:
            self._finish(job, "FAILED", job.ending)
        elif lost.is_set() and job.service == "batch" and _retries(job, reason):
            return True
        else:
            succeeded = code == 0 and not lost.is_set()
            self._finish(
                job, "SUCCEEDED" if succeeded else "FAILED", reason, "SpotInterruption" if lost.is_set() else ""
            )
        return False

    def _environment(self, job: Job) -> dict[str, str]:
        return {
            **{variable["name"]: variable["value"] for variable in _overrides(job).get("environment", [])},
            "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{self.url}/credentials",
            "AWS_ENDPOINT_URL_S3": self.aws,
        }

    def _finish(self, job: Job, status: str, reason: str, stop_code: str = "") -> None:
        job.status_reason, job.stopped = reason, job.stopped or time.time()
        job.stop_code = stop_code or ("UserInitiated" if job.ending else "EssentialContainerExited")
        job.status = status if job.service == "batch" else "STOPPED"


def _ended_attempt(job: Job, reason: str) -> Body:
    assert job.started
    assert job.stopped
    exit_code = {} if job.exit_code is None else {"exitCode": job.exit_code}
    return {
        "startedAt": int(job.started * 1000),
        "stoppedAt": int(job.stopped * 1000),
        "statusReason": reason,
        "container": {"logStreamName": job.stream, **exit_code},
    }


def _retries(job: Job, reason: str) -> bool:
    strategy = job.request["retryStrategy"]
    for rule in strategy["evaluateOnExit"]:
        pattern = rule.get("onStatusReason") or rule.get("onReason") or "*"
        if pattern.endswith("*") and reason.startswith(pattern[:-1]):
            return rule["action"] == "RETRY" and len(job.attempts) < strategy["attempts"]
    return len(job.attempts) < strategy["attempts"]


def _overrides(job: Job) -> Body:
    if job.service == "batch":
        return dict(job.request["containerOverrides"])
    return dict(job.request["overrides"]["containerOverrides"][0])


def _summary(job: Job) -> Body:
    return {"jobId": job.id, "jobName": job.name, "status": job.status, "createdAt": int(job.created * 1000)}


def _detail(job: Job) -> Body:
    options = {"awslogs-group": GROUP, "awslogs-stream-prefix": PREFIX}
    container: Body = {"logConfiguration": {"logDriver": "awslogs", "options": options}}
    if job.stream:
        container["logStreamName"] = job.stream
    if job.exit_code is not None:
        container["exitCode"] = job.exit_code
    times = {"startedAt": job.started, "stoppedAt": job.stopped}
    return {
        **_summary(job),
        "jobQueue": QUEUE,
        "jobDefinition": DEFINITION,
        "statusReason": job.status_reason,
        "attempts": job.attempts,
        "container": container,
        **{name: int(moment * 1000) for name, moment in times.items() if moment},
    }


def _task(job: Job) -> Body:
    container: Body = {"name": "job"}
    if job.exit_code is not None:
        container["exitCode"] = job.exit_code
    ended: Body = {}
    if job.ended:
        ended = {"stoppedAt": job.stopped, "stopCode": job.stop_code, "stoppedReason": job.status_reason}
    return {
        "taskArn": job.id,
        "lastStatus": job.status,
        "createdAt": job.created,
        "startedBy": job.name,
        "containers": [container],
        **({"startedAt": job.started} if job.started else {}),
        **ended,
    }


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    disable_nagle_algorithm = True
    emulator: Emulator

    def do_GET(self) -> None:
        """Return the credentials of a container's role."""
        keys = {"AccessKeyId": "role", "SecretAccessKey": "role", "Token": "role"}
        self._answer({**keys, "Expiration": "2099-01-01T00:00:00Z"})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"{}")
        target = self.headers.get("X-Amz-Target", "")
        if target:
            service = "logs" if target.startswith("Logs") else "ecs"
            operation = target.split(".")[1]
        else:
            service, operation = "batch", _BATCH[self.path]
        try:
            answer, drop = self.emulator.call(service, operation, body)
        except AwsError as error:
            message = {"__type": error.code, "message": str(error)}
            self._answer(message, error.status, {"x-amzn-ErrorType": error.code})
            return
        if drop:
            self.close_connection = True
            self.connection.shutdown(2)
            return
        self._answer(answer)

    def _answer(self, body: Body, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)
        self.wfile.flush()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def running(aws: str) -> Iterator[Emulator]:
    """Run the emulator on a free port. Kill all containers at the end."""
    emulator = Emulator(aws)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"emulator": emulator}))
    emulator.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield emulator
    finally:
        emulator.reset()
        server.shutdown()
        server.server_close()
        thread.join()
