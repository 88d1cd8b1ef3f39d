"""Promotion of a challenger that passes its gates, its approval by a person, and rollback to the previous champion."""

from typing import Annotated, Literal

from prefect import flow
from prefect.states import Completed, State
from pydantic import Field

from boat.errors import SettingError
from boat.kinds import KINDS, KindName
from tasks.alerts import alert_failure
from tasks.approval import approval_command, ask_for_approval, require_approval
from tasks.blocks import GatePolicy, Platform, RetryPolicy
from tasks.evaluation import TEST_FROM, evaluate_model, record_gates
from tasks.registry import find_version, set_champion
from tasks.serving import describe_endpoint, smoke_test, update_endpoint
from tasks.turns import take_turn


@flow(name="promote", flow_run_name="promote-{alias}", on_failure=[alert_failure], timeout_seconds=3600)
def promote(
    alias: Literal["challenger", "previous"] = "challenger",
    version: Annotated[int, Field(ge=1)] | None = None,
    digest: str = "",
    kinds: tuple[KindName, ...] = KINDS,
    platform: str = "default",
) -> State:
    """Update endpoints with a challenger, or with an earlier champion.

    Args:
        alias: `challenger` must pass its gates first. `previous` rolls back at once.
        version: Number of a version of one kind, instead of the one that has the alias.
        digest: SHA-256 of the archive that this version releases. With it, a person approves the version.
        kinds: Kinds of models whose endpoints are updated.
        platform: Name of the Boat Platform block.
    """
    if version is not None and len(kinds) != 1:
        raise SettingError(
            f"`version` is {version}, but every kind has its own versions: {', '.join(kinds)}.",
            f"Name the kind: -p version={version} -p kinds='[\"{kinds[0] if kinds else KINDS[0]}\"]'.",
        )
    if digest and version is None:
        raise SettingError(f"The digest {digest} is of no version.", "Set `version` and `kinds` too.")
    block = Platform.load(platform)
    take_turn(platform, "promote")
    retried = RetryPolicy.load("default").apply

    released, refused, waiting = [], [], []
    for kind in kinds:
        chosen = retried(find_version)(block, kind, alias, version)
        if chosen is None:
            refused.append(f"{kind}: there is no {alias} version. `version` chooses one by its number.")
            continue
        if alias == "challenger":
            policy = GatePolicy.load_for(kind)
            if digest:
                require_approval(policy, kind, chosen, digest)
            if policy.mode == "off":
                refused.append(f"{kind} version {chosen.version}: the gate policy {kind!r} allows no promotion.")
                continue
            test_from = chosen.lineage.get(TEST_FROM, "")
            evaluation = retried(evaluate_model)(block, kind, chosen.uri, chosen.snapshot_uri, test_from)
            record_gates(block, kind, chosen, evaluation.decision)
            if not evaluation.decision.accepted:
                refused.append(f"{kind} version {chosen.version}: {evaluation.decision.text}")
                continue
            if policy.mode == "manual" and not digest:
                ask_for_approval(block, policy, kind, chosen, evaluation.decision)
                waiting.append(f"{kind} version {chosen.version} waits for approval: {approval_command(kind, chosen)}")
                continue
        before = retried(describe_endpoint)(block, chosen)
        retried(update_endpoint)(block, chosen)
        smoke_test(block, chosen, before)
        retried(set_champion)(block, chosen, is_rollback=alias == "previous" and version is None)
        instead = f" instead of version {before.version}" if before else ""
        released.append(f"{kind} version {chosen.version} answers{instead}.")

    # A refusal is the gate at work, not a failure: no alert.
    name = "AwaitingApproval" if waiting else "Refused" if refused and not released else None
    return Completed(name=name, message=" ".join(released + waiting + refused))
