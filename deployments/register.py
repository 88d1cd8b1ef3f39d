"""Create blocks, work pool and deployments on a Prefect server: `python -m deployments.register`.

Existing blocks are not changed, so that edits in the UI are preserved.
"""

import asyncio
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from prefect import get_client
from prefect.blocks.core import Block
from prefect.blocks.notifications import SlackWebhook
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.exceptions import ObjectNotFound

from boat import settings
from boat.errors import BoatError
from boat.kinds import KINDS
from boat.settings import Settings
from deployments.environment import as_client, of_services, run_command
from tasks.alerts import BLOCK as ALERTS
from tasks.alerts import SERVER_SIDE_STATES
from tasks.blocks import GatePolicy, Platform, RetryPolicy

ROOT = Path(__file__).parent.parent
PREFECT = Path(sys.executable).with_name("prefect")
WORK_POOL = "boat"
DEFAULT_SHOP = "demo"
CONCURRENT_RUNS = 3
"""Two cores are enough for a training, an ingestion and a promotion at the same time."""
MESSAGE = """{flow_name} run {flow_run_name} is {flow_run_state_name}: {flow_run_state_message}
<{flow_run_url}|View in Prefect>"""


def alerts_url(config: Settings) -> str:
    """Return the address for alerts: Slack if its address is set, else the inbox of the reports server."""
    return config.slack_webhook_url or f"json://127.0.0.1:{config.reports_port}/alerts"


async def ensure_block(name: str, block: Block) -> None:
    """Save a block, unless a block with this name exists."""
    block_type = type(block)
    await block_type.register_type_and_schema()
    try:
        await block_type.load(name)
    except ValueError:
        await block.save(name)
        print(f"block {block_type.get_block_type_slug()}/{name}: created")


async def ensure_policies() -> None:
    """Save the retry policy and the gate policy of each kind, unless they exist."""
    await ensure_block("default", RetryPolicy())
    for kind in KINDS:
        await ensure_block(kind, GatePolicy.default_of(kind))


async def ensure_pool(client: PrefectClient) -> None:
    """Create the process work pool, unless it exists."""
    try:
        await client.read_work_pool(WORK_POOL)
    except ObjectNotFound:
        pool = WorkPoolCreate(name=WORK_POOL, type="process", concurrency_limit=CONCURRENT_RUNS)
        await client.create_work_pool(pool)
        print(f"work pool {WORK_POOL}: created")


async def ensure_policy(client: PrefectClient) -> None:
    """Create the policy by which the server sends alerts about runs whose process has ended, unless it exists."""
    block = await client.read_block_document_by_name(ALERTS, SlackWebhook.get_block_type_slug())
    for policy in await client.read_flow_run_notification_policies(None):  # None: also inactive policies
        if policy.block_document_id == block.id:
            return
    await client.create_flow_run_notification_policy(
        block_document_id=block.id, state_names=list(SERVER_SIDE_STATES), message_template=MESSAGE
    )
    print(f"notification policy for {', '.join(SERVER_SIDE_STATES)}: created")


async def register(config: Settings, shop: str = DEFAULT_SHOP) -> None:
    """Create the blocks of a laptop, the work pool and the notification policy, unless they exist."""
    # With Prefect 2's default notify type, apprise sends nothing and reports success.
    alerts = SlackWebhook(url=alerts_url(config), notify_type="failure")
    await ensure_block("default", Platform.on_laptop(config, shop))
    await ensure_policies()
    await ensure_block(ALERTS, alerts)
    async with get_client() as client:
        await ensure_pool(client)
        await ensure_policy(client)


def deploy(config: Settings) -> None:
    """Deploy all deployments of `prefect.yaml`.

    Raises:
        BoatError: `prefect deploy` failed. The message has its output.
    """
    environment = {**of_services(config), "BOAT_ROOT": str(ROOT)}
    command = [str(PREFECT), "--no-prompt", "deploy", "--all"]
    process = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if process.returncode:
        output = (process.stderr or process.stdout).strip()
        raise BoatError(f"`prefect deploy` failed: {output}", "Check that the Prefect server runs: make status.")
    print("deployments of prefect.yaml: deployed")


def running(config: Settings) -> Settings:
    """Return the settings with the ports that the services use."""
    memory = config.home / "services.json"
    return replace(config, **json.loads(memory.read_text())) if memory.exists() else config


def main() -> int:
    """Create the blocks and deploy the flows on the running server. Return the exit status."""
    config = running(settings.load())
    with as_client(config):
        asyncio.run(register(config))
    deploy(config)
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
