"""moto for S3 and CloudWatch, and the SageMaker emulator, for tests."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import boto3
import httpx
from moto.server import ThreadedMotoServer

from boat.serving import ServedModel
from tests.serving.running_host import free_port

REGION = "eu-west-1"
ROLE = "arn:aws:iam::123456789012:role/boat-serve"
BUCKET = "boat-models"
ALARM = "boat-endpoint-errors"


@dataclass(frozen=True)
class Emulators:
    """Addresses of the running emulators, with methods for tests.

    Attributes:
        aws: Address of moto.
        sagemaker: Address of the SageMaker emulator.
    """

    aws: str
    sagemaker: str

    @property
    def environment(self) -> dict[str, str]:
        """Return the environment of a machine in the account: credentials, region and the address of S3."""
        return {
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ENDPOINT_URL_S3": self.aws,
        }

    def url(self, **settings: Any) -> str:
        """Return a serving URL."""
        options = {"role": ROLE, "bake": 20, "wait": 60, "endpoint_url": self.sagemaker, **settings}
        return f"sagemaker://{REGION}?{urlencode(options)}"

    def client(self, service: str) -> Any:
        address = self.sagemaker if service.startswith("sagemaker") else self.aws
        return boto3.client(
            service, endpoint_url=address, region_name=REGION, aws_access_key_id="test", aws_secret_access_key="test"
        )

    def store(self, archive: Path, key: str) -> str:
        """Upload an archive to the bucket and return its URI."""
        self.client("s3").upload_file(str(archive), BUCKET, key)
        return f"s3://{BUCKET}/{key}"

    def stored(self, model: ServedModel, key: str) -> ServedModel:
        return ServedModel(self.store(Path(model.uri), key), model.digest, model.version)

    def fail(self, on: str, do: str, times: int = 1) -> None:
        """Let the next calls of an operation, or the next deployment, fail."""
        httpx.post(f"{self.sagemaker}/_faults", json={"on": on, "do": do, "times": times}).raise_for_status()

    def clear_faults(self) -> None:
        httpx.delete(f"{self.sagemaker}/_faults").raise_for_status()
        self.set_alarm("OK")

    def set_alarm(self, state: str) -> None:
        self.client("cloudwatch").set_alarm_state(AlarmName=ALARM, StateValue=state, StateReason="test")

    def state(self) -> dict[str, Any]:
        """Return the calls, the states of each endpoint, and the stored objects."""
        return dict(httpx.get(f"{self.sagemaker}/_state").json())


@contextmanager
def running_emulators(folder: Path) -> Iterator[Emulators]:
    """Start both, with a bucket and an alarm. Stop them at the end."""
    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    address, port = moto.get_host_and_port()
    emulators = Emulators(f"http://{address}:{port}", f"http://127.0.0.1:{free_port()}")
    emulators.client("s3").create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
    emulators.client("cloudwatch").put_metric_alarm(
        AlarmName=ALARM,
        Namespace="AWS/SageMaker",
        MetricName="Invocation5XXErrors",
        Statistic="Sum",
        Period=60,
        EvaluationPeriods=1,
        Threshold=1,
        ComparisonOperator="GreaterThanOrEqualToThreshold",
    )
    options = ["--port", emulators.sagemaker.rsplit(":", 1)[1], "--aws", emulators.aws, "--state", str(folder)]
    command = [sys.executable, "-m", "tests.cloud.sagemaker.emulator", *options]
    process = subprocess.Popen(command, cwd=Path(__file__).parents[3], env=dict(os.environ))
    try:
        _wait(process, emulators.sagemaker, time.monotonic() + 60)
        yield emulators
    finally:
        process.terminate()
        process.wait(30)
        moto.stop()


def _wait(process: "subprocess.Popen[bytes]", address: str, deadline: float) -> None:
    while time.monotonic() < deadline:
        assert process.poll() is None, f"the emulator ended with {process.returncode}"
        try:
            httpx.get(f"{address}/_state", timeout=1)
            return
        except httpx.HTTPError:
            time.sleep(0.05)
    raise TimeoutError("the emulator does not listen")
