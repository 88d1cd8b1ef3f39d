"""Create blocks, work pool and deployments in the cloud: `python -m deployments.aws.register --stack boat`.

The stack's task `boat-register` runs this command. Only this task has permission to read the secrets. It may run again
at any time: edits in the Prefect UI are preserved, except in blocks with a secret. These are overwritten from Secrets
Manager, so that a new key needs no other step.
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
from deployments.register import PREFECT, ROOT, ensure_block, ensure_policies, ensure_policy
from tasks.alerts import BLOCK as ALERTS
from tasks.blocks import Platform

WORK_POOL = "boat-ecs"
PREFECT_FILE = "deployments/aws/prefect.yaml"
BASE_JOB_TEMPLATE = Path(__file__).with_name("ecs_base_job_template.json")
ROLLBACK_ALARMS = ("boat-recommend-errors", "boat-recommend-latency", "boat-intent-errors", "boat-intent-latency")
GPU_HOUR = 0.20
"""US dollars, for the cost that a training job logs. `prices.json` has its source and date."""
_KEY = ("account", "user", "role", "warehouse", "database", "private_key")
"""Required fields of the Snowflake secret. `private_key_passphrase` is optional."""


@dataclass(frozen=True)
class Secrets:
    """The values of the stack's secrets. They are never printed.

    Attributes:
        snowflake: Login for Snowflake, with the private key.
        slack: Address of the webhook for alerts.
    """

    snowflake: Mapping[str, str]
    slack: str

    def __repr__(self) -> str:
        return "Secrets(...)"

    @classmethod
    def read(cls, session: boto3.Session, outputs: Mapping[str, str]) -> "Secrets":
        """Read the secrets from Secrets Manager.

        Raises:
            SettingError: A secret has no value yet, or lacks a field.
        """
        client = session.client("secretsmanager")
        text = _value(client, outputs["SnowflakeSecret"])
        try:
            snowflake = json.loads(text)
            missing = [name for name in _KEY if not snowflake.get(name)]
        except (ValueError, AttributeError):
            missing = ["an object of JSON"]  # not the text itself, which is a secret
        if missing:
            raise SettingError(
                f"The secret boat/snowflake lacks {', '.join(missing)}.",
                "Set it with aws secretsmanager put-secret-value, as step 3 of docs/cloud.md shows.",
            )
        return cls(snowflake, _value(client, outputs["SlackSecret"]))


def _value(client: Any, name: str) -> str:
    try:
        return str(client.get_secret_value(SecretId=name)["SecretString"])
    except client.exceptions.ResourceNotFoundException as error:
        raise SettingError(
            f"The secret {name} has no value.", "Set it with aws secretsmanager put-secret-value."
        ) from error


def platform(outputs: Mapping[str, str], shop: str | None = None) -> Platform:
    """Return the platform block for the outputs of the stack, and for the name of the shop in the events."""
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
        # The bucket is private: the link opens for users of the AWS console with permission to read it.
        reports_url=f"https://{region}.console.aws.amazon.com/s3/object/{bucket}?prefix={folder}",
        **({"shop": shop} if shop else {}),
    )


def job_template(outputs: Mapping[str, str]) -> dict[str, Any]:
    """Return the base job template of the work pool, with the stack's cluster and network as defaults."""
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


async def register(outputs: Mapping[str, str], secrets: Secrets, shop: str | None = None) -> None:
    """Create blocks, work pool and notification policy."""
    await _write_credentials(secrets.snowflake)
    # With Prefect 2's default notify type, apprise sends nothing and reports success.
    await SlackWebhook(url=secrets.slack, notify_type="failure").save(ALERTS, overwrite=True)
    results = S3Bucket(bucket_name=outputs["ResultsBucket"], credentials=AwsCredentials())  # the task's own role
    await ensure_block("boat-results", results)
    await ensure_block("default", platform(outputs, shop))
    await ensure_policies()
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
    # The block requires a schema. Boat does not use it, because all its queries name their schema.
    connector = SnowflakeConnector(
        credentials=await SnowflakeCredentials.load("boat"),
        database=secret["database"],
        warehouse=secret["warehouse"],
        schema="raw",
    )
    await connector.save("boat", overwrite=True)
    print("blocks snowflake-credentials/boat and snowflake-connector/boat: written")


async def _write_pool(client: PrefectClient, template: dict[str, Any]) -> None:
    """Create the work pool, or update network and cluster in its template."""
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
    """Run the command line. Return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m deployments.aws.register", description=__doc__.splitlines()[0])
    parser.add_argument("--stack", default=STACK, help="name of the stack (default: %(default)s)")
    parser.add_argument(
        "--shop",
        help="name of the shop in the events, for the field `shop` of a new platform block. An existing block is not "
        f"changed: edit it in the Prefect UI (default: {Platform.__fields__['shop'].default})",
    )
    options = parser.parse_args(arguments)
    try:
        session = boto3.Session()
        outputs = Stack(session, options.stack).outputs()
        asyncio.run(register(outputs, Secrets.read(session, outputs), options.shop))
        deploy()
    except (BoatError, BotoCoreError, ClientError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
