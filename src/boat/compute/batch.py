"""Jobs on AWS Batch, which finds hosts, restarts jobs whose host is lost, and kills jobs that take too long."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from boat.compute.remote import JobRequest, JobState, Phase, RemoteCompute, RemoteOptions, client, parse

KEY_TAG = "boat:key"

_GROUP = "/aws/batch/job"
_LOST = "Host EC2"
_LEAST_TIMEOUT = 60  # of the API
_ACTIVE = {"SUBMITTED", "PENDING", "RUNNABLE", "STARTING", "RUNNING"}
_PHASES: Mapping[str, Phase] = {"RUNNING": "running", "SUCCEEDED": "succeeded", "FAILED": "failed"}


@dataclass(frozen=True)
class BatchOptions(RemoteOptions):
    """Options of `batch://QUEUE/DEFINITION?region=eu-west-1&gpus=1&price=0.526`.

    The queue decides whether hosts are spot instances: its compute environments are of either kind.
    """


def connect(url: str) -> RemoteCompute:
    """Return AWS Batch as the back end of a URL.

    Raises:
        SettingError: An option is missing, unknown or not a number.
    """
    queue, definition, options = parse(url, BatchOptions, "batch://QUEUE/DEFINITION?region=eu-west-1&gpus=1")
    return RemoteCompute(_Batch(queue, definition, options), options)


class _Batch:
    def __init__(self, queue: str, definition: str, options: BatchOptions) -> None:
        self._queue, self._definition, self._options = queue, definition, options
        self._client = client("batch", options)
        # SubmitJob has no idempotency token, so boto3 must not repeat it.
        self._once = client("batch", options, retried=False)

    def find(self, name: str) -> list[str]:
        pages = self._client.get_paginator("list_jobs").paginate(
            jobQueue=self._queue, filters=[{"name": "JOB_NAME", "values": [name]}]
        )
        jobs = [job for page in pages for job in page["jobSummaryList"]]
        usable = [job for job in jobs if job["status"] in _ACTIVE or job["status"] == "SUCCEEDED"]
        return [job["jobId"] for job in sorted(usable, key=lambda job: -job["createdAt"])]

    def submit(self, request: JobRequest) -> str:
        options = self._options
        resources = {"GPU": options.gpus, "VCPU": options.vcpus, "MEMORY": options.memory}
        answer = self._once.submit_job(
            jobName=request.name,
            jobQueue=self._queue,
            jobDefinition=self._definition,
            containerOverrides={
                "command": list(request.command),
                "environment": [{"name": name, "value": value} for name, value in request.environment.items()],
                "resourceRequirements": [
                    {"type": kind, "value": f"{amount:g}"} for kind, amount in resources.items() if amount
                ],
            },
            retryStrategy={
                "attempts": options.attempts,
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
        (description,) = self._client.describe_jobs(jobs=[job])["jobs"]
        reason = description.get("statusReason", "")
        phase = _PHASES.get(description["status"], "waiting")
        attempts = description.get("attempts", [])
        container = description.get("container", {})
        group = container.get("logConfiguration", {}).get("options", {}).get("awslogs-group", _GROUP)
        names = [attempt.get("container", {}).get("logStreamName") for attempt in attempts]
        names.append(container.get("logStreamName"))
        return JobState(
            phase="lost" if phase == "failed" and reason.startswith(_LOST) else phase,
            reason=reason,
            exit_code=container.get("exitCode"),
            started=description["startedAt"] / 1000 if phase == "running" and "startedAt" in description else None,
            seconds=sum(map(_seconds, attempts)),
            attempts=max(len(attempts), 1),
            streams=tuple((group, name) for name in dict.fromkeys(filter(None, names))),
        )

    def stop(self, job: str, reason: str) -> None:
        self._client.terminate_job(jobId=job, reason=reason)  # ignored by Batch if the job has ended


def _seconds(attempt: Mapping[str, Any]) -> float:
    """Return how long an attempt ran. An attempt that found no image has no times."""
    if "startedAt" not in attempt or "stoppedAt" not in attempt:
        return 0.0
    return float(attempt["stoppedAt"] - attempt["startedAt"]) / 1000
