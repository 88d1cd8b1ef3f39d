"""Entry point of a job in a container, sent as `python -c`: downloads Boat's code, checks its digest and runs it.

Boat is not importable yet. Only the standard library is used, and boto3, which is installed if the image lacks it.
"""

import hashlib
import importlib.metadata
import io
import json
import os
import subprocess
import sys
import tempfile
import zipfile


def main(job):  # type: ignore[no-untyped-def]  # the source is sent with each job: keep it short
    """Install missing packages, unpack the code, run the job and exit."""
    folder = tempfile.mkdtemp(prefix="boat-job-")
    code, site = os.path.join(folder, "code"), os.path.join(folder, "site")
    installed = {dist.metadata["Name"].lower().replace("_", "-") for dist in importlib.metadata.distributions()}
    missing = [pin for pin in job["requirements"] if pin.split("==")[0] not in installed]
    if missing:
        install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", site]
        subprocess.run([*install, *missing], check=True)
    sys.path[:0] = [code, site]
    import boto3

    bucket, key = job["code"].removeprefix("s3://").split("/", 1)
    package = boto3.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read()
    digest = hashlib.sha256(package).hexdigest()
    if digest != job["sha256"]:
        sys.exit("The code at %s has the digest %s, not %s." % (job["code"], digest, job["sha256"]))  # noqa: UP031
    zipfile.ZipFile(io.BytesIO(package)).extractall(code)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [code, site, os.environ.get("PYTHONPATH")]))
    from boat.compute import job as boat_job

    sys.exit(boat_job.main(job["spec"], folder))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))  # type: ignore[no-untyped-call]
