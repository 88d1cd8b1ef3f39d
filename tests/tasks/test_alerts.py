"""An alert that cannot be sent changes nothing in the run that sends it."""

import logging
import socket

import pytest
from prefect.blocks.notifications import SlackWebhook

from tasks import alerts

pytestmark = pytest.mark.usefixtures("prefect_server")

LOGGER = logging.LoggerAdapter(logging.getLogger("test-alerts"))


def test_an_alert_to_a_service_that_is_down_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        SlackWebhook(url=f"json://127.0.0.1:{port}/alerts").save(alerts.BLOCK, overwrite=True)
        alerts.send("retrain failed", "No model.", "1", LOGGER)
    (message,) = [record.message for record in caplog.records if record.name == "test-alerts"]
    assert "The alert 'retrain failed' was not sent with the block 'alerts': " in message
    assert "Connection error" in message
