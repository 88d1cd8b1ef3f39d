"""Promotion of a challenger that passes its gates, and rollback to the previous champion."""

from typing import Literal

from prefect import flow
from prefect.states import Completed, State

from boat.kinds import KINDS, KindName
from tasks.alerts import alert_failure
from tasks.blocks import Platform, RetryPolicy
from tasks.evaluation import TEST_FROM, check_gates, evaluate_model
from tasks.registry import find_version, set_champion
from tasks.serving import smoke_test, update_endpoint


@flow(name="promote", flow_run_name="promote-{alias}", on_failure=[alert_failure], timeout_seconds=3600)
def promote(
    alias: Literal["challenger", "previous"] = "challenger",
    kinds: tuple[KindName, ...] = KINDS,
    platform: str = "default",
) -> State:
    """Update endpoints with a challenger, or with the previous champion.

    Args:
        alias: `challenger` must pass its gates first. `previous` rolls back at once.
        kinds: Kinds of models whose endpoints are updated.
        platform: Name of the Boat Platform block.
    """
    block = Platform.load(platform)
    retried = RetryPolicy.load("default").apply

    released, stayed = [], []
    for kind in kinds:
        version = retried(find_version)(block, kind, alias)
        if version is None:
            stayed.append(f"{kind}: there is no {alias}.")
            continue
        if alias == "challenger":
            test_from = version.lineage.get(TEST_FROM, "")
            evaluation = retried(evaluate_model)(block, kind, version.uri, version.snapshot_uri, test_from)
            decision = check_gates(kind, evaluation)
            if not decision.accepted:
                stayed.append(f"{kind} version {version.version}: {decision.text}")
                continue
        before = retried(update_endpoint)(block, version)
        smoke_test(block, version, before)
        retried(set_champion)(block, version)
        released.append(f"{kind} version {version.version} answers.")

    # A refusal is the gate at work, not a failure: no alert.
    return Completed(name=None if released or not stayed else "Refused", message=" ".join(released + stayed))
