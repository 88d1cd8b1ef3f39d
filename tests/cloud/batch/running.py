"""moto for S3, and the emulator of Batch, ECS and Logs, for tests."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

import boto3
from moto.server import ThreadedMotoServer

from tests.cloud.batch.emulator import CLUSTER, DEFINITION, QUEUE, REGION, TASK, Emulator, running

BUCKET = "boat-artifacts"


@dataclass(frozen=True)
class Cloud:
    """Running emulators.

    Attributes:
        aws: Address of moto.
        emulator: The emulator.
        store: URI of an empty artifact store.
    """

    aws: str
    emulator: Emulator
    store: str = field(default_factory=lambda: f"s3://{BUCKET}/{uuid.uuid4().hex[:8]}/store")

    @property
    def environment(self) -> dict[str, str]:
        """Return the environment of a machine in the account: credentials, region and the address of S3."""
        return {
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ENDPOINT_URL_S3": self.aws,
        }

    def batch(self, **settings: Any) -> str:
        """Return a compute URL."""
        return f"batch://{QUEUE}/{DEFINITION}?{self._query(settings)}"

    def ecs(self, **settings: Any) -> str:
        """Return a compute URL."""
        return f"ecs://{CLUSTER}/{TASK}?{self._query({'subnets': 'subnet-1,subnet-2', 'spot': 1, **settings})}"

    def _query(self, settings: dict[str, Any]) -> str:
        return urlencode({"region": REGION, "poll": 0.1, "endpoint_url": self.emulator.url, **settings})


@contextmanager
def running_cloud() -> Iterator[tuple[str, Emulator]]:
    """Start moto and the emulator. Yield the address of moto, and the emulator."""
    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    address, port = moto.get_host_and_port()
    aws = f"http://{address}:{port}"
    account = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": REGION}
    boto3.client("s3", endpoint_url=aws, **account).create_bucket(
        Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION}
    )
    try:
        with running(aws) as emulator:
            yield aws, emulator
    finally:
        moto.stop()
