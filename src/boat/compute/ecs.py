"""Jobs as tasks on ECS, on Fargate or on your own hosts. ECS does not restart a lost task, so Boat submits it again."""

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
    """Options of `ecs://CLUSTER/TASK_DEFINITION?region=eu-west-1&subnets=subnet-1,subnet-2&spot=1`.

    Attributes:
        subnets: Subnets of the task, separated by commas. Fargate needs at least one.
        security_groups: Security groups of the task, separated by commas.
        public_ip: 1 assigns a public address to the task. It needs one in a public subnet.
        spot: 1 runs the task on Fargate Spot. 0 runs it on Fargate, or with the cluster's default strategy if there
            are no `subnets`.
        container: Name of the container that runs the job.
    """

    subnets: str = ""
    security_groups: str = ""
    public_ip: int = 0
    spot: int = 0
    container: str = "job"


def connect(url: str) -> RemoteCompute:
    """Return ECS as the back end of a URL.

    Raises:
        SettingError: An option is missing, unknown or not a number.
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
        usable = [task for task in tasks if self._phase(task) not in ("failed", "lost")]
        return [task["taskArn"] for task in sorted(usable, key=lambda task: task["createdAt"], reverse=True)]

    def submit(self, request: JobRequest) -> str:
        answer = self._client.run_task(
            cluster=self._cluster,
            taskDefinition=self._definition,
            clientToken=request.token,  # makes a repeated call idempotent
            startedBy=request.name,
            count=1,
            overrides=self._overrides(request),
            **self._network(),
        )
        if answer["tasks"]:
            arn: str = answer["tasks"][0]["taskArn"]
            return arn
        reason = ", ".join(failure.get("reason", "") for failure in answer["failures"]) or "no reason given"
        if reason.startswith(_NO_ROOM):
            raise NoHostError(reason)
        raise SettingError(
            f"ECS cannot run the task definition {self._definition} on the cluster {self._cluster} ({reason}).",
            "Correct one of them in the compute URL.",
        )

    def describe(self, job: str) -> JobState:
        tasks = self._client.describe_tasks(cluster=self._cluster, tasks=[job])["tasks"]
        if not tasks:
            return JobState("lost", "ECS no longer lists the task")
        (task,) = tasks
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
        matches = [entry for entry in task.get("containers", []) if entry.get("name") == self._options.container]
        return matches[0] if matches else {}

    @cached_property
    def _log(self) -> tuple[str, str]:
        """Return the log group and the prefix of its streams."""
        definition = self._client.describe_task_definition(taskDefinition=self._definition)["taskDefinition"]
        for container in definition["containerDefinitions"]:
            options = container.get("logConfiguration", {}).get("options", {})
            if container["name"] == self._options.container and {_GROUP, _PREFIX} <= options.keys():
                return options[_GROUP], options[_PREFIX]
        raise SettingError(
            f"The task definition {self._definition} has no container {self._options.container!r} with {_GROUP} and"
            f" {_PREFIX}.",
            "Set container= in the compute URL, and give that container the log driver awslogs.",
        )

    def _overrides(self, request: JobRequest) -> dict[str, Any]:
        options = self._options
        container: dict[str, Any] = {
            "name": options.container,
            "command": list(request.command),
            "environment": [{"name": name, "value": value} for name, value in request.environment.items()],
        }
        if options.gpus:
            container["resourceRequirements"] = [{"type": "GPU", "value": str(options.gpus)}]
        sizes = {"cpu": round(options.vcpus * 1024), "memory": options.memory}
        return {"containerOverrides": [container], **{name: str(size) for name, size in sizes.items() if size}}

    def _network(self) -> dict[str, Any]:
        options, arguments = self._options, dict[str, Any]()
        if options.subnets:
            network: dict[str, Any] = {
                "subnets": options.subnets.split(","),
                "assignPublicIp": "ENABLED" if options.public_ip else "DISABLED",
            }
            if options.security_groups:
                network["securityGroups"] = options.security_groups.split(",")
            arguments["networkConfiguration"] = {"awsvpcConfiguration": network}
        if options.spot:
            arguments["capacityProviderStrategy"] = [{"capacityProvider": "FARGATE_SPOT", "weight": 1}]
        elif options.subnets:
            arguments["launchType"] = "FARGATE"
        return arguments
