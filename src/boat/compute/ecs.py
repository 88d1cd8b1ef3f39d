"""Jobs as tasks on ECS, on Fargate or on hosts of one's own. ECS starts nothing anew: that is done here."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from boat.compute.remote import JobRequest, JobState, NoHostError, Phase, RemoteCompute, RemoteOptions, client, parse
from boat.errors import SettingError

_LOST_CODES = {"SpotInterruption", "TerminationNotice"}
_LOST = "Host EC2"
_GROUP, _PREFIX = "awslogs-group", "awslogs-stream-prefix"
_NO_ROOM = ("RESOURCE", "Capacity is unavailable", "AGENT")
_RUNNING = {"RUNNING", "DEACTIVATING", "STOPPING", "DEPROVISIONING"}


@dataclass(frozen=True)
class EcsOptions(RemoteOptions):
    """What `ecs://CLUSTER/TASK_DEFINITION?region=eu-west-1&subnets=subnet-1,subnet-2&spot=1` can say.

    Attributes:
        subnets: Of the task, with commas between. Fargate wants some.
        security_groups: Of the task, with commas between.
        public_ip: 1 gives the task a public address, which it needs in a public subnet.
        spot: 1 runs it on Fargate Spot, 0 on Fargate, or, without `subnets`, where the cluster's default says.
        container: Which container of the definition runs the job.
    """

    subnets: str = ""
    security_groups: str = ""
    public_ip: int = 0
    spot: int = 0
    container: str = "job"


def connect(url: str) -> RemoteCompute:
    """ECS behind a URL.

    Raises:
        SettingError: A setting is missing, unknown or no number.
    """
    example = "ecs://CLUSTER/TASK_DEFINITION?region=eu-west-1&subnets=subnet-1"
    cluster, definition, options = parse(url, EcsOptions, example)
    return RemoteCompute(_Ecs(cluster, definition, options), options)


class _Ecs:
    def __init__(self, cluster: str, definition: str, options: EcsOptions) -> None:
        self._cluster, self._definition, self._options = cluster, definition, options
        self._client = client("ecs", options)

    def find(self, name: str) -> list[str]:
        arns: list[str] = []
        for status in ("RUNNING", "STOPPED"):
            pages = self._client.get_paginator("list_tasks").paginate(
                cluster=self._cluster, startedBy=name, desiredStatus=status
            )
            arns += [arn for page in pages for arn in page["taskArns"]]
        if not arns:
            return []
        tasks = self._client.describe_tasks(cluster=self._cluster, tasks=arns[:100])["tasks"]
        wanted = [task for task in tasks if self._phase(task) not in ("failed", "lost")]
        return [task["taskArn"] for task in sorted(wanted, key=lambda task: task["createdAt"], reverse=True)]

    def submit(self, request: JobRequest) -> str:
        answer = self._client.run_task(
            cluster=self._cluster,
            taskDefinition=self._definition,
            clientToken=request.token,  # a second try with it starts no second task
            startedBy=request.name,
            count=1,
            overrides=self._overrides(request),
            **self._where(),
        )
        if answer["tasks"]:
            arn: str = answer["tasks"][0]["taskArn"]
            return arn
        reason = ", ".join(failure.get("reason", "") for failure in answer["failures"]) or "no reason given"
        if reason.startswith(_NO_ROOM):
            raise NoHostError(reason)
        raise SettingError(f"ECS does not run {self._definition} on {self._cluster} ({reason}).", "Correct either.")

    def describe(self, job: str) -> JobState:
        found = self._client.describe_tasks(cluster=self._cluster, tasks=[job])["tasks"]
        if not found:
            return JobState("lost", "ECS no longer knows it")
        (task,) = found
        phase, container = self._phase(task), self._container(task)
        started, stopped = task.get("startedAt"), task.get("stoppedAt")
        group, prefix = self._log
        return JobState(
            phase=phase,
            reason=task.get("stoppedReason", "") or container.get("reason", ""),
            exit_code=container.get("exitCode"),
            started=started.timestamp() if started and phase == "running" else None,
            seconds=(stopped - started).total_seconds() if started and stopped else 0.0,
            streams=((group, f"{prefix}/{self._options.container}/{job.rsplit('/', 1)[1]}"),) if started else (),
        )

    def stop(self, job: str, reason: str) -> None:
        self._client.stop_task(cluster=self._cluster, task=job, reason=reason)

    def _phase(self, task: Mapping[str, Any]) -> Phase:
        if task["lastStatus"] != "STOPPED":
            return "running" if task["lastStatus"] in _RUNNING else "waiting"
        reason = task.get("stoppedReason", "")
        if task.get("stopCode") in _LOST_CODES or reason.startswith((_LOST, *_NO_ROOM)):
            return "lost"
        return "succeeded" if self._container(task).get("exitCode") == 0 else "failed"

    def _container(self, task: Mapping[str, Any]) -> Mapping[str, Any]:
        mine = [entry for entry in task.get("containers", []) if entry.get("name") == self._options.container]
        return mine[0] if mine else {}

    @cached_property
    def _log(self) -> tuple[str, str]:
        """Log group and the first part of its streams' names."""
        definition = self._client.describe_task_definition(taskDefinition=self._definition)["taskDefinition"]
        for container in definition["containerDefinitions"]:
            options = container.get("logConfiguration", {}).get("options", {})
            if container["name"] == self._options.container and {_GROUP, _PREFIX} <= options.keys():
                return options[_GROUP], options[_PREFIX]
        raise SettingError(
            f"The task definition {self._definition} has no container {self._options.container!r} with {_GROUP} and"
            f" {_PREFIX}.",
            "Name the container with container=, and give it the log driver awslogs.",
        )

    def _overrides(self, request: JobRequest) -> dict[str, Any]:
        given = self._options
        container: dict[str, Any] = {
            "name": given.container,
            "command": list(request.command),
            "environment": [{"name": name, "value": value} for name, value in request.environment.items()],
        }
        if given.gpus:
            container["resourceRequirements"] = [{"type": "GPU", "value": str(given.gpus)}]
        sizes = {"cpu": round(given.vcpus * 1024), "memory": given.memory}
        return {"containerOverrides": [container], **{name: str(size) for name, size in sizes.items() if size}}

    def _where(self) -> dict[str, Any]:
        given, where = self._options, dict[str, Any]()
        if given.subnets:
            network: dict[str, Any] = {
                "subnets": given.subnets.split(","),
                "assignPublicIp": "ENABLED" if given.public_ip else "DISABLED",
            }
            if given.security_groups:
                network["securityGroups"] = given.security_groups.split(",")
            where["networkConfiguration"] = {"awsvpcConfiguration": network}
        if given.spot:
            where["capacityProviderStrategy"] = [{"capacityProvider": "FARGATE_SPOT", "weight": 1}]
        elif given.subnets:
            where["launchType"] = "FARGATE"
        return where
