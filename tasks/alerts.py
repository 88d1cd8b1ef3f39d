"""Alerts to Slack or to the local inbox, sent by a flow run.

Alerts about runs in the states Crashed, TimedOut and Late are sent by the server, because a killed process runs no
hook. `deployments/register.py` creates the notification policy for them.
"""

import logging

from prefect import Flow
from prefect.blocks.abstract import NotificationError
from prefect.blocks.notifications import SlackWebhook
from prefect.client.schemas import FlowRun
from prefect.logging.loggers import flow_run_logger
from prefect.settings import PREFECT_UI_URL
from prefect.states import State

LogAdapter = logging.LoggerAdapter[logging.Logger]

BLOCK = "alerts"
SERVER_SIDE_STATES = ("Crashed", "TimedOut", "Late")
"""States for which the server's notification policy sends the alert; the hook does not."""


def alert_failure(flow: Flow, flow_run: FlowRun, state: State) -> None:
    """Send an alert with the reason of a failure and a link to the run. This is an `on_failure` hook."""
    if state.name in SERVER_SIDE_STATES:
        return
    logger = flow_run_logger(flow_run, flow)  # a hook runs outside the run's context
    send(f"{flow.name} failed: {flow_run.name}", str(state.message), str(flow_run.id), logger)


def send(subject: str, body: str, flow_run_id: str, logger: LogAdapter) -> None:
    """Send an alert with a link to a flow run. If that fails, log the reason: an alert never changes a run."""
    try:
        webhook = SlackWebhook.load(BLOCK)
    except ValueError as error:
        logger.warning("No alert was sent: %s Create the block with `python -m deployments.register`.", error)
        return
    link = f"{PREFECT_UI_URL.value()}/flow-runs/flow-run/{flow_run_id}"
    try:
        with webhook.raise_on_failure():
            webhook.notify(subject=subject, body=f"{body}\n<{link}|View in Prefect>")
    except Exception as error:  # of the network, of the service or of its library
        reason = error.log if isinstance(error, NotificationError) else error
        logger.error("The alert %r was not sent with the block %r: %s", subject, BLOCK, reason)
    else:
        logger.info("Sent an alert with the block %r.", BLOCK)
