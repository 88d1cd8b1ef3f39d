"""First words of a job in a container, sent as `python -c`: fetches Boat's code, checks its digest, hands over to it.

Runs before anything of Boat is there: the standard library, and boto3, which it installs where the image has none.
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


def main(job):  # type: ignore[no-untyped-def]  # every character is sent along
    """Install what is missing, unpack the code and run the job; never returns."""
    folder = tempfile.mkdtemp(prefix="boat-job-")
    code, site = os.path.join(folder, "code"), os.path.join(folder, "site")
    there = {found.metadata["Name"].lower().replace("_", "-") for found in importlib.metadata.distributions()}
    missing = [pin for pin in job["requirements"] if pin.split("==")[0] not in there]
    if missing:
        install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", site]
        subprocess.run([*install, *missing], check=True)
    sys.path[:0] = [code, site]
    import boto3

    bucket, key = job["code"].removeprefix("s3://").split("/", 1)
    package = boto3.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read()
    found = hashlib.sha256(package).hexdigest()
    if found != job["sha256"]:
        sys.exit("The code at %s has the digest %s, not %s." % (job["code"], found, job["sha256"]))  # noqa: UP031
    zipfile.ZipFile(io.BytesIO(package)).extractall(code)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [code, site, os.environ.get("PYTHONPATH")]))
    from boat.compute import job as boat_job

    sys.exit(boat_job.main(job["spec"], folder))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))  # type: ignore[no-untyped-call]
