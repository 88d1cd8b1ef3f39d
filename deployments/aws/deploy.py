"""Create or update the stack: `python -m deployments.aws.deploy --parameter AlertEmail=me@shop.example [--yes]`.

The command uploads the code to a bucket, shows the changes, asks for confirmation, and waits until the changes are
complete. Without changes it does nothing. Credentials are those of the AWS tools; the command takes no key.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from boat.errors import BoatError, SettingError
from deployments.aws import package, template
from deployments.aws.package import Package
from deployments.aws.plan import assignments

STACK = "boat"
POLL_SECONDS = 2.0
CHANGE_SET_SECONDS = 300
STACK_SECONDS = 3600
"""The database of a first stack takes about ten minutes."""
_NO_CHANGES = ("didn't contain changes", "No updates are to be performed")
_NOT_UPDATABLE = {"ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "DELETE_FAILED", "UPDATE_ROLLBACK_FAILED"}


class Stack:
    """A CloudFormation stack and the bucket with its code.

    Args:
        session: Credentials and region.
        name: Name of the stack.
        poll_seconds: Pause between two requests for its status.
    """

    def __init__(self, session: boto3.Session, name: str = STACK, poll_seconds: float = POLL_SECONDS) -> None:
        if session.region_name is None:
            raise SettingError("No AWS region is set.", "Set AWS_REGION or AWS_DEFAULT_REGION.")
        self.name, self.region = name, session.region_name
        self._cloudformation = session.client("cloudformation")
        self._s3 = session.client("s3")
        self._account = session.client("sts").get_caller_identity()["Account"]
        self._poll_seconds = poll_seconds

    @property
    def code_bucket(self) -> str:
        """Return the name of the bucket for packages, which has to exist before the stack."""
        return f"boat-code-{self._account}-{self.region}"

    def ensure_code_bucket(self) -> None:
        """Create the code bucket, private and encrypted, unless it exists."""
        owner = {"ExpectedBucketOwner": self._account}  # another account may own a bucket with this name
        try:
            self._s3.head_bucket(Bucket=self.code_bucket, **owner)
            return
        except ClientError as error:
            if error.response["Error"]["Code"] not in ("404", "NoSuchBucket"):
                raise
        # S3 refuses us-east-1 as a location constraint.
        location = {} if self.region == "us-east-1" else {"LocationConstraint": self.region}
        self._s3.create_bucket(Bucket=self.code_bucket, **({"CreateBucketConfiguration": location} if location else {}))
        blocks = ("BlockPublicAcls", "BlockPublicPolicy", "IgnorePublicAcls", "RestrictPublicBuckets")
        self._s3.put_public_access_block(
            Bucket=self.code_bucket, PublicAccessBlockConfiguration=dict.fromkeys(blocks, True)
        )
        rules = [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]
        self._s3.put_bucket_encryption(
            Bucket=self.code_bucket, ServerSideEncryptionConfiguration={"Rules": rules}, **owner
        )
        self._s3.put_bucket_versioning(Bucket=self.code_bucket, VersioningConfiguration={"Status": "Enabled"}, **owner)

    def upload(self, item: Package) -> str:
        """Upload a package to the code bucket, unless it exists there. Return its address."""
        try:
            self._s3.head_object(Bucket=self.code_bucket, Key=item.key)
        except ClientError as error:
            if error.response["Error"]["Code"] not in ("404", "NoSuchKey"):
                raise
            # With a checksum, S3 refuses an object that was damaged on the way.
            self._s3.put_object(Bucket=self.code_bucket, Key=item.key, Body=item.content, ChecksumAlgorithm="SHA256")
        return f"https://{self.code_bucket}.s3.{self.region}.amazonaws.com/{item.key}"

    def describe(self) -> dict[str, Any] | None:
        """Return the stack, or `None` if it does not exist or has only a change set."""
        try:
            (stack,) = self._cloudformation.describe_stacks(StackName=self.name)["Stacks"]
        except ClientError as error:
            if "does not exist" in str(error):
                return None
            raise
        return None if stack["StackStatus"] in ("REVIEW_IN_PROGRESS", "DELETE_COMPLETE") else dict(stack)

    def outputs(self) -> dict[str, str]:
        """Return the outputs by name.

        Raises:
            SettingError: The stack does not exist.
        """
        stack = self.describe()
        if stack is None:
            raise SettingError(f"There is no stack {self.name!r} in {self.region}.", "Create it with make aws-deploy.")
        return {output["OutputKey"]: output["OutputValue"] for output in stack.get("Outputs", [])}

    def propose(self, body: Mapping[str, Any], parameters: Mapping[str, str]) -> "ChangeSet | None":
        """Upload the code and create a change set. Return `None` if there are no changes.

        Args:
            body: The template.
            parameters: Values by parameter. Other parameters keep the value of the stack, or have the default.

        Raises:
            SettingError: A parameter is unknown or missing, or the stack is in a state without updates.
            BoatError: CloudFormation refuses the changes.
        """
        template.parameters(body, parameters)
        stack = self.describe()
        if stack is not None and stack["StackStatus"] in _NOT_UPDATABLE:
            raise SettingError(
                f"The stack {self.name!r} cannot be updated, because it is {stack['StackStatus']}.",
                "See its events in the CloudFormation console. Then delete it, or continue its rollback.",
            )
        self.ensure_code_bucket()
        functions = package.functions()
        for code in functions.values():
            self.upload(code)
        address = self.upload(Package.of("template", ".json", json.dumps(body).encode()))
        keys = {parameter: code.key for parameter, code in functions.items()}
        values = {**parameters, "CodeBucket": self.code_bucket, **keys}
        created = self._cloudformation.create_change_set(
            StackName=self.name,
            ChangeSetName=f"boat-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}",
            ChangeSetType="UPDATE" if stack else "CREATE",
            TemplateURL=address,
            Parameters=list(_parameters(body, values, stack)),
            Capabilities=["CAPABILITY_NAMED_IAM"],
            Tags=[{"Key": "application", "Value": "boat"}],
        )
        return self._computed(ChangeSet(created["Id"], is_first=stack is None))

    def _computed(self, proposed: "ChangeSet") -> "ChangeSet | None":
        """Wait until CloudFormation has computed the changes. Return `None` if there are no changes."""
        deadline = time.monotonic() + CHANGE_SET_SECONDS
        while True:
            change_set = self._cloudformation.describe_change_set(StackName=self.name, ChangeSetName=proposed.id)
            if change_set["Status"] == "CREATE_COMPLETE":
                changes = [change["ResourceChange"] for page in self._pages(proposed) for change in page["Changes"]]
                return ChangeSet(proposed.id, proposed.is_first, tuple(changes))
            if change_set["Status"] == "FAILED":
                self.discard(proposed)
                reason = change_set.get("StatusReason", "no reason given")
                if any(words in reason for words in _NO_CHANGES):
                    return None
                raise BoatError(f"CloudFormation refuses the changes: {reason}.", "The stack was not changed.")
            if time.monotonic() > deadline:
                raise BoatError(
                    f"The change set is {change_set['Status']} after {CHANGE_SET_SECONDS} s.", "Run the command again."
                )
            time.sleep(self._poll_seconds)

    def _pages(self, proposed: "ChangeSet") -> Iterator[dict[str, Any]]:
        pages = self._cloudformation.get_paginator("describe_change_set")
        yield from pages.paginate(StackName=self.name, ChangeSetName=proposed.id)

    def discard(self, proposed: "ChangeSet") -> None:
        """Delete a change set. Also delete the empty stack that comes with the first change set."""
        self._cloudformation.delete_change_set(StackName=self.name, ChangeSetName=proposed.id)
        if proposed.is_first:
            self._cloudformation.delete_stack(StackName=self.name)

    def execute(self, proposed: "ChangeSet", on_status: Callable[[str], None]) -> None:
        """Execute a change set, and wait until it is complete.

        Raises:
            BoatError: CloudFormation has rolled back. The message names the resource that failed.
        """
        self._cloudformation.execute_change_set(StackName=self.name, ChangeSetName=proposed.id)
        deadline = time.monotonic() + STACK_SECONDS
        status = ""
        while time.monotonic() < deadline:
            (stack,) = self._cloudformation.describe_stacks(StackName=self.name)["Stacks"]
            if stack["StackStatus"] != status:
                status = stack["StackStatus"]
                on_status(status)
            if status in ("CREATE_COMPLETE", "UPDATE_COMPLETE"):
                return
            if status.endswith(("_FAILED", "_COMPLETE")) and not status.endswith("_CLEANUP_IN_PROGRESS"):
                raise BoatError(
                    f"The stack {self.name!r} is {status}: {self._reason()}.",
                    "See its events in the CloudFormation console.",
                )
            time.sleep(self._poll_seconds)
        raise BoatError(
            f"The stack {self.name!r} is {status} after {STACK_SECONDS} s.",
            "See its events in the CloudFormation console.",
        )

    def _reason(self) -> str:
        pages = self._cloudformation.get_paginator("describe_stack_events").paginate(StackName=self.name)
        failed = [
            f"{event['LogicalResourceId']} ({event.get('ResourceStatusReason', 'no reason given')})"
            for page in pages
            for event in page["StackEvents"]
            if event["ResourceStatus"].endswith("_FAILED") and "cancelled" not in event.get("ResourceStatusReason", "")
        ]
        return failed[-1] if failed else "no event has a reason"  # newest first: the last is the cause


class ChangeSet:
    """Proposed changes of a stack.

    Args:
        id: ARN of the change set.
        is_first: Whether the changes create the stack.
        changes: CloudFormation's `ResourceChange` objects.
    """

    def __init__(self, id: str, is_first: bool, changes: tuple[Mapping[str, Any], ...] = ()) -> None:
        self.id, self.is_first, self.changes = id, is_first, changes

    def lines(self) -> list[str]:
        """Return a line for each change. Replacements are marked."""
        return [
            f"  {change['Action']:<7} {change['ResourceType']:<45} {change['LogicalResourceId']}"
            + ("  REPLACED" if change.get("Replacement") == "True" else "")
            for change in self.changes
        ]


def _parameters(
    body: Mapping[str, Any], values: Mapping[str, str], stack: Mapping[str, Any] | None
) -> Iterator[dict[str, Any]]:
    """Yield each parameter with its new value or the stack's value. Parameters with the default are omitted."""
    before = {parameter["ParameterKey"] for parameter in (stack or {}).get("Parameters", [])}
    for name, declared in body["Parameters"].items():
        if name in values:
            yield {"ParameterKey": name, "ParameterValue": values[name]}
        elif name in before:
            yield {"ParameterKey": name, "UsePreviousValue": True}
        elif "Default" not in declared:
            raise SettingError(f"The parameter {name} is missing.", f"Add --parameter {name}=VALUE.")


def run(stack: Stack, body: Mapping[str, Any], parameters: Mapping[str, str], is_confirmed: Callable[[], bool]) -> None:
    """Propose changes, ask for confirmation and execute the changes. Print each step."""
    proposed = stack.propose(body, parameters)
    if proposed is None:
        print(f"Stack {stack.name!r} is up to date.")
        return
    print(
        f"{'Creates' if proposed.is_first else 'Changes'} stack {stack.name!r} in {stack.region}:",
        *proposed.lines(),
        sep="\n",
    )
    if not is_confirmed():
        stack.discard(proposed)
        print("Nothing was changed.")
        return
    stack.execute(proposed, print)
    for name, value in stack.outputs().items():
        print(f"  {name}: {value}")


def _confirm() -> bool:
    return input("Make these changes? [y/N] ").strip().lower() in ("y", "yes")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line. Return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m deployments.aws.deploy", description=__doc__.splitlines()[0])
    parser.add_argument("--stack", default=STACK, help="name of the stack (default: %(default)s)")
    parser.add_argument(
        "--parameter", action="append", default=[], metavar="NAME=VALUE", help="parameter of the template"
    )
    parser.add_argument("--yes", action="store_true", help="do not ask for confirmation")
    options = parser.parse_args(arguments)
    try:
        stack = Stack(boto3.Session(), options.stack)
        run(stack, template.load(), assignments(options.parameter), (lambda: True) if options.yes else _confirm)
    except (BoatError, BotoCoreError, ClientError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
