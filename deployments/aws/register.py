"""Blocks, work pool and deployments in the cloud: `python -m deployments.aws.register --stack boat`.

Runs as the task `boat-register` of the stack, the only one that may read the secrets of others, and may be run again
at any time. What people edit in the UI stays as it is, but for blocks that hold a secret: those are written anew from
Secrets Manager, so that a new key needs no more than this.
"""

import argparse
import asyncio
import copy
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import boto3
from botocore.exceptions import BotoCoreError, ClientError
from prefect import get_client
from prefect.blocks.notifications import SlackWebhook
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
from prefect.exceptions import ObjectNotFound
from prefect_aws import AwsCredentials
from prefect_aws.s3 import S3Bucket
from prefect_snowflake import SnowflakeConnector, SnowflakeCredentials
from pydantic.v1 import SecretBytes, SecretStr

from boat.errors import BoatError, SettingError
from deployments.aws.deploy import STACK, Stack
from deployments.environment import QUIET
from deployments.register import PREFECT, ROOT, ensure_block, ensure_policy
from tasks.alerts import BLOCK as ALERTS
from tasks.blocks import Platform, RetryPolicy

WORK_POOL = "boat-ecs"
PREFECT_FILE = "deployments/aws/prefect.yaml"
BASE_JOB_TEMPLATE = Path(__file__).with_name("ecs_base_job_template.json")
ROLLBACK_ALARMS = ("boat-recommend-errors", "boat-recommend-latency", "boat-intent-errors", "boat-intent-latency")
GPU_HOUR = 0.20
"""US dollars, for the cost that a run tells at its end; `prices.json` says of what and as of when."""
_KEY = ("account", "user", "role", "warehouse", "database", "private_key")
"""What the Snowflake secret has to hold; `private_key_passphrase` may be beside it."""


@dataclass(frozen=True)
class Secrets:
    """What the stack's secrets hold; never printed.

    Attributes:
        snowflake: Where and as whom to log in, with the private key.
        slack: Address of the webhook that alerts go to.
    """

    snowflake: Mapping[str, str]
    slack: str

    def __repr__(self) -> str:
        return "Secrets(...)"

    @classmethod
    def read(cls, session: boto3.Session, outputs: Mapping[str, str]) -> "Secrets":
        """Read them from Secrets Manager.

        Raises:
            SettingError: One has no value yet, or not the parts it needs.
        """
        client = session.client("secretsmanager")
        text = _value(client, outputs["SnowflakeSecret"])
        try:
            snowflake = json.loads(text)
            missing = [name for name in _KEY if not snowflake.get(name)]
        except (ValueError, AttributeError):
            missing = ["an object of JSON"]  # and not the text, which is a secret
        if missing:
            raise SettingError(f"The secret boat/snowflake lacks {', '.join(missing)}.", "See docs/cloud.md.")
        return cls(snowflake, _value(client, outputs["SlackSecret"]))


def _value(client: Any, name: str) -> str:
    try:
        return str(client.get_secret_value(SecretId=name)["SecretString"])
    except client.exceptions.ResourceNotFoundException as error:
        raise SettingError(
            f"The secret {name} has no value.", "Set it: aws secretsmanager put-secret-value."
        ) from error


def platform(outputs: Mapping[str, str]) -> Platform:
    """Where everything is, by the outputs of the stack."""
    region = outputs["Region"]
    reports = outputs["ReportsUri"]
    bucket, folder = reports.removeprefix("s3://").split("/", 1)
    serving = {"role": outputs["EndpointRoleArn"], "alarms": ",".join(ROLLBACK_ALARMS)}
    return Platform(
        warehouse_url="snowflake://boat",
        compute_url=f"batch://boat-train/boat-train?{urlencode({'region': region, 'gpus': 1, 'price': GPU_HOUR})}",
        serving_url=f"sagemaker://{region}?{urlencode(serving)}",
        tracking_uri="http://mlflow.boat.internal:5000",
        landing=outputs["LandingUri"],
        store=outputs["StoreUri"],
        reports=reports,
        # A private bucket: the link opens for those who may see it in the AWS console.
        reports_url=f"https://{region}.console.aws.amazon.com/s3/object/{bucket}?prefix={folder}",
    )


def job_template(outputs: Mapping[str, str]) -> dict[str, Any]:
    """The work pool's base job template with the stack's cluster and network as defaults."""
    template: dict[str, Any] = copy.deepcopy(json.loads(BASE_JOB_TEMPLATE.read_text(encoding="utf-8")))
    properties = template["variables"]["properties"]
    for name, value in {
        "cluster": outputs["ClusterName"],
        "subnets": outputs["TaskSubnetIds"].split(","),
        "security_groups": [outputs["TaskGroupId"]],
        "assign_public_ip": outputs["AssignPublicIp"],
    }.items():
        properties[name]["default"] = value
    return template


async def register(outputs: Mapping[str, str], secrets: Secrets) -> None:
    """Make blocks, work pool and notification policy."""
    await _write_credentials(secrets.snowflake)
    # With Prefect 2's default notify type apprise sends nothing and reports success.
    await SlackWebhook(url=secrets.slack, notify_type="failure").save(ALERTS, overwrite=True)
    results = S3Bucket(bucket_name=outputs["ResultsBucket"], credentials=AwsCredentials())  # the task's own role
    await ensure_block("boat-results", results)
    await ensure_block("default", platform(outputs))
    await ensure_block("default", RetryPolicy())
    async with get_client() as client:
        await _write_pool(client, job_template(outputs))
        await ensure_policy(client)


async def _write_credentials(secret: Mapping[str, str]) -> None:
    passphrase = secret.get("private_key_passphrase")
    credentials = SnowflakeCredentials(
        account=secret["account"],
        user=secret["user"],
        role=secret["role"],
        private_key=SecretBytes(secret["private_key"].encode()),
        private_key_passphrase=SecretStr(passphrase) if passphrase else None,
    )
    await credentials.save("boat", overwrite=True)
    # The schema is of no use to us: every name of ours has one. The block wants it.
    connector = SnowflakeConnector(
        credentials=await SnowflakeCredentials.load("boat"),
        database=secret["database"],
        warehouse=secret["warehouse"],
        schema="raw",
    )
    await connector.save("boat", overwrite=True)
    print("blocks snowflake-credentials/boat and snowflake-connector/boat: written")


async def _write_pool(client: PrefectClient, template: dict[str, Any]) -> None:
    """Make the pool, or bring the network and cluster in its template up to date."""
    try:
        await client.read_work_pool(WORK_POOL)
        await client.update_work_pool(WORK_POOL, WorkPoolUpdate(base_job_template=template))
    except ObjectNotFound:
        await client.create_work_pool(WorkPoolCreate(name=WORK_POOL, type="ecs", base_job_template=template))
    print(f"work pool {WORK_POOL}: written")


def deploy() -> None:
    """Deploy all of the cloud's `prefect.yaml` to the server of `PREFECT_API_URL`."""
    command = [str(PREFECT), "--no-prompt", "deploy", "--all", "--prefect-file", PREFECT_FILE]
    subprocess.run(command, cwd=ROOT, env={**os.environ, "PYTHONWARNINGS": QUIET}, check=True)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m deployments.aws.register", description=__doc__.splitlines()[0])
    parser.add_argument("--stack", default=STACK, help="name of the stack (%(default)s)")
    options = parser.parse_args(arguments)
    try:
        session = boto3.Session()
        outputs = Stack(session, options.stack).outputs()
        asyncio.run(register(outputs, Secrets.read(session, outputs)))
        deploy()
    except (BoatError, BotoCoreError, ClientError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
