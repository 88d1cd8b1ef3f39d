"""Approval of promotions by a person. Nothing waits for it: a second run with the archive's digest is the approval."""

from datetime import UTC, datetime, timedelta

from prefect import get_run_logger, runtime, task
from prefect.artifacts import create_markdown_artifact

from boat.errors import SettingError
from boat.evaluation.gate import Decision
from boat.kinds import KindName
from boat.registry.versions import ModelVersion
from boat.render.cards import Card, Section
from tasks import alerts
from tasks.blocks import GatePolicy, Platform


def approval_command(kind: KindName, version: ModelVersion) -> str:
    """Return the command that approves a version."""
    return f"prefect deployment run promote/approve {_of(kind, version)} -p digest={version.released.digest}"


def _of(kind: KindName, version: ModelVersion) -> str:
    return f"-p version={version.version} -p kinds='[\"{kind}\"]'"


def require_approval(policy: GatePolicy, kind: KindName, version: ModelVersion, digest: str) -> None:
    """Check that a person may approve a version by a digest.

    Raises:
        SettingError: The version releases another archive, or nobody was asked in the last days to approve it.
    """
    if digest != version.released.digest:
        raise SettingError(
            f"Version {version.version} of {version.name} releases {version.released.digest}, not {digest}.",
            "Copy the command from the artifact of the run that waits for approval.",
        )
    if policy.mode == "manual" and not _is_asked(policy, version):
        asked = version.approval_asked_at
        raise SettingError(
            f"Version {version.version} of {version.name} cannot be approved: "
            + (f"the request of {asked:%Y-%m-%d %H:%M} UTC has expired." if asked else "nobody asked for it."),
            f"Run `prefect deployment run promote/latest {_of(kind, version)}`: it checks the gates and asks again.",
        )


@task(task_run_name="ask for approval of {version.name} version {version.version}")
def ask_for_approval(
    platform: Platform, policy: GatePolicy, kind: KindName, version: ModelVersion, decision: Decision
) -> None:
    """Show the gates of a version and the command that approves it. The first request sends an alert."""
    command, title = approval_command(kind, version), f"{version.name} version {version.version} waits for approval"
    lead = f"To approve it within {policy.approval_days} days, start a Custom run of promote/approve with these values."
    values = {"version": version.version, "digest": version.released.digest, "kinds": f'["{kind}"]', "command": command}
    sections = (
        Section("Approval", table=[("Parameter", "Value"), *values.items()]),
        Section("Gates", decision.text, [("Gate", "Passed", ""), *(tuple(row.values()) for row in decision.table)]),
    )
    create_markdown_artifact(Card(title, lead, sections).markdown(), f"approval-{kind}", title)
    if not _is_asked(policy, version):
        platform.registry.ask_for_approval(version.name, version.version)
        alerts.send(title, f"{decision.text}\n{command}", str(runtime.flow_run.id), get_run_logger())


def _is_asked(policy: GatePolicy, version: ModelVersion) -> bool:
    asked = version.approval_asked_at
    return asked is not None and datetime.now(UTC) - asked < timedelta(days=policy.approval_days)
