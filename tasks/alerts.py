"""Failure messages to Slack (or the local inbox): the net inside a flow run.

The other net is the server's notification policy for Crashed, TimedOut and Late runs, made by
`deployments/register.py`: a killed process runs no hook.
"""

import logging

from prefect import Flow
from prefect.blocks.notifications import SlackWebhook
from prefect.client.schemas import FlowRun
from prefect.logging.loggers import flow_run_logger
from prefect.settings import PREFECT_UI_URL
from prefect.states import State

LogAdapter = logging.LoggerAdapter[logging.Logger]

BLOCK = "alerts"
SERVER_SIDE_STATES = ("Crashed", "TimedOut", "Late")
"""States that the server's notification policy tells of; the hook leaves them to it."""


def alert_failure(flow: Flow, flow_run: FlowRun, state: State) -> None:
    """Send why a run failed, with a link to it. An `on_failure` hook."""
    if state.name in SERVER_SIDE_STATES:
        return
    logger = flow_run_logger(flow_run, flow)  # a hook runs outside the run's context
    send(f"{flow.name} failed: {flow_run.name}", str(state.message), str(flow_run.id), logger)


def send(subject: str, body: str, flow_run_id: str, logger: LogAdapter) -> None:
    """Send an alert with a link to a flow run; without the block, the log says that none was sent."""
    try:
        webhook = SlackWebhook.load(BLOCK)
    except ValueError as error:
        logger.warning("No alert was sent: %s Make it with `python -m deployments.register`.", error)
        return
    link = f"{PREFECT_UI_URL.value()}/flow-runs/flow-run/{flow_run_id}"
    with webhook.raise_on_failure():
        webhook.notify(subject=subject, body=f"{body}\n<{link}|View in Prefect>")
    logger.info("Alert sent to the block %r.", BLOCK)
