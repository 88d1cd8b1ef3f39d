"""Jobs on AWS Batch, which finds hosts, starts jobs anew where one is lost, and ends those that take too long."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from boat.compute.remote import JobRequest, JobState, Phase, RemoteCompute, RemoteOptions, client, parse

KEY_TAG = "boat:key"

_GROUP = "/aws/batch/job"
_LOST = "Host EC2"
_LEAST_TIMEOUT = 60  # what the API takes
_ACTIVE = {"SUBMITTED", "PENDING", "RUNNABLE", "STARTING", "RUNNING"}
_PHASES: Mapping[str, Phase] = {"RUNNING": "running", "SUCCEEDED": "succeeded", "FAILED": "failed"}


@dataclass(frozen=True)
class BatchOptions(RemoteOptions):
    """What `batch://QUEUE/DEFINITION?region=eu-west-1&gpus=1&price=0.526` can say.

    Whether hosts are spot instances is the queue's to say: it has compute environments of either kind.
    """


def connect(url: str) -> RemoteCompute:
    """Batch behind a URL.

    Raises:
        SettingError: A setting is missing, unknown or no number.
    """
    queue, definition, options = parse(url, BatchOptions, "batch://QUEUE/DEFINITION?region=eu-west-1&gpus=1")
    return RemoteCompute(_Batch(queue, definition, options), options)


class _Batch:
    def __init__(self, queue: str, definition: str, options: BatchOptions) -> None:
        self._queue, self._definition, self._options = queue, definition, options
        self._client = client("batch", options)
        # SubmitJob has no token by which Batch would know a second try.
        self._once = client("batch", options, retried=False)

    def find(self, name: str) -> list[str]:
        pages = self._client.get_paginator("list_jobs").paginate(
            jobQueue=self._queue, filters=[{"name": "JOB_NAME", "values": [name]}]
        )
        jobs = [job for page in pages for job in page["jobSummaryList"]]
        wanted = [job for job in jobs if job["status"] in _ACTIVE or job["status"] == "SUCCEEDED"]
        return [job["jobId"] for job in sorted(wanted, key=lambda job: -job["createdAt"])]

    def submit(self, request: JobRequest) -> str:
        given = self._options
        needs = {"GPU": given.gpus, "VCPU": given.vcpus, "MEMORY": given.memory}
        answer = self._once.submit_job(
            jobName=request.name,
            jobQueue=self._queue,
            jobDefinition=self._definition,
            containerOverrides={
                "command": list(request.command),
                "environment": [{"name": name, "value": value} for name, value in request.environment.items()],
                "resourceRequirements": [
                    {"type": kind, "value": f"{amount:g}"} for kind, amount in needs.items() if amount
                ],
            },
            retryStrategy={
                "attempts": given.attempts,
                "evaluateOnExit": [
                    {"onStatusReason": f"{_LOST}*", "action": "RETRY"},
                    {"onReason": "*", "action": "EXIT"},
                ],
            },
            timeout={"attemptDurationSeconds": max(request.spec.timeout_seconds, _LEAST_TIMEOUT)},
            tags={KEY_TAG: (request.spec.key or request.name)[:256]},
            propagateTags=True,
        )
        job: str = answer["jobId"]
        return job

    def describe(self, job: str) -> JobState:
        (found,) = self._client.describe_jobs(jobs=[job])["jobs"]
        reason = found.get("statusReason", "")
        phase = _PHASES.get(found["status"], "waiting")
        over = found.get("attempts", [])
        container = found.get("container", {})
        group = container.get("logConfiguration", {}).get("options", {}).get("awslogs-group", _GROUP)
        names = [attempt.get("container", {}).get("logStreamName") for attempt in over]
        names.append(container.get("logStreamName"))
        return JobState(
            phase="lost" if phase == "failed" and reason.startswith(_LOST) else phase,
            reason=reason,
            exit_code=container.get("exitCode"),
            started=found["startedAt"] / 1000 if phase == "running" and "startedAt" in found else None,
            seconds=sum(map(_seconds, over)),
            attempts=max(len(over), 1),
            streams=tuple((group, name) for name in dict.fromkeys(filter(None, names))),
        )

    def stop(self, job: str, reason: str) -> None:
        self._client.terminate_job(jobId=job, reason=reason)  # nothing happens to one that has ended


def _seconds(attempt: Mapping[str, Any]) -> float:
    """Time an attempt was on a host; none for one that found no image."""
    if "startedAt" not in attempt or "stoppedAt" not in attempt:
        return 0.0
    return float(attempt["stoppedAt"] - attempt["startedAt"]) / 1000
