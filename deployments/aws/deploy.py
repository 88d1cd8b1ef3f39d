"""Make or update the stack: `python -m deployments.aws.deploy --parameter AlertEmail=me@shop.example [--yes]`.

Puts the code into a bucket of its own, shows what would change, asks, and waits until it has. Doing it again without a
change does nothing. Credentials come the way they do for any AWS tool; nothing here takes a key.
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
"""A first stack waits for its database, some ten minutes."""
_NOTHING = ("didn't contain changes", "No updates are to be performed")
_UNFIT = {"ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "DELETE_FAILED", "UPDATE_ROLLBACK_FAILED"}


class Stack:
    """One CloudFormation stack and the bucket its code lies in.

    Args:
        session: Says who asks, and in which region.
        name: Of the stack.
        poll_seconds: Between two looks at it.
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
        """Name of the bucket for packages, which has to be there before the stack is."""
        return f"boat-code-{self._account}-{self.region}"

    def ensure_code_bucket(self) -> None:
        """Make the code bucket, private and encrypted, unless it is there."""
        owner = {"ExpectedBucketOwner": self._account}  # a stranger may have taken the name
        try:
            self._s3.head_bucket(Bucket=self.code_bucket, **owner)
            return
        except ClientError as error:
            if error.response["Error"]["Code"] not in ("404", "NoSuchBucket"):
                raise
        # us-east-1 alone refuses to be named.
        place = {} if self.region == "us-east-1" else {"LocationConstraint": self.region}
        self._s3.create_bucket(Bucket=self.code_bucket, **({"CreateBucketConfiguration": place} if place else {}))
        closed = ("BlockPublicAcls", "BlockPublicPolicy", "IgnorePublicAcls", "RestrictPublicBuckets")
        self._s3.put_public_access_block(
            Bucket=self.code_bucket, PublicAccessBlockConfiguration=dict.fromkeys(closed, True)
        )
        rules = [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]
        self._s3.put_bucket_encryption(
            Bucket=self.code_bucket, ServerSideEncryptionConfiguration={"Rules": rules}, **owner
        )
        self._s3.put_bucket_versioning(Bucket=self.code_bucket, VersioningConfiguration={"Status": "Enabled"}, **owner)

    def upload(self, item: Package) -> str:
        """Put a package into the code bucket unless it is there; returns its address."""
        try:
            self._s3.head_object(Bucket=self.code_bucket, Key=item.key)
        except ClientError as error:
            if error.response["Error"]["Code"] not in ("404", "NoSuchKey"):
                raise
            # S3 refuses the object if what arrives is not what was sent.
            self._s3.put_object(Bucket=self.code_bucket, Key=item.key, Body=item.content, ChecksumAlgorithm="SHA256")
        return f"https://{self.code_bucket}.s3.{self.region}.amazonaws.com/{item.key}"

    def describe(self) -> dict[str, Any] | None:
        """The stack; None where there is none, or none yet but a change set."""
        try:
            (stack,) = self._cloudformation.describe_stacks(StackName=self.name)["Stacks"]
        except ClientError as error:
            if "does not exist" in str(error):
                return None
            raise
        return None if stack["StackStatus"] in ("REVIEW_IN_PROGRESS", "DELETE_COMPLETE") else dict(stack)

    def outputs(self) -> dict[str, str]:
        """Outputs by name.

        Raises:
            SettingError: There is no stack.
        """
        stack = self.describe()
        if stack is None:
            raise SettingError(f"There is no stack {self.name!r} in {self.region}.", "Run make aws-deploy.")
        return {output["OutputKey"]: output["OutputValue"] for output in stack.get("Outputs", [])}

    def propose(self, body: Mapping[str, Any], given: Mapping[str, str]) -> "ChangeSet | None":
        """Upload the code and work out what would change; None if nothing would.

        Args:
            body: The template.
            given: Parameters; others keep the value the stack has, or take the template's default.

        Raises:
            SettingError: A parameter is unknown or missing, or the stack cannot be updated as it is.
            BoatError: CloudFormation refuses the template.
        """
        template.parameters(body, given)
        stack = self.describe()
        if stack is not None and stack["StackStatus"] in _UNFIT:
            raise SettingError(
                f"Stack {self.name!r} is {stack['StackStatus']} and takes no update.",
                "See its events in the CloudFormation console; delete it, or continue its rollback.",
            )
        self.ensure_code_bucket()
        functions = package.functions()
        for code in functions.values():
            self.upload(code)
        address = self.upload(Package.of("template", ".json", json.dumps(body).encode()))
        keys = {parameter: code.key for parameter, code in functions.items()}
        values = {**given, "CodeBucket": self.code_bucket, **keys}
        made = self._cloudformation.create_change_set(
            StackName=self.name,
            ChangeSetName=f"boat-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}",
            ChangeSetType="UPDATE" if stack else "CREATE",
            TemplateURL=address,
            Parameters=list(_parameters(body, values, stack)),
            Capabilities=["CAPABILITY_NAMED_IAM"],
            Tags=[{"Key": "application", "Value": "boat"}],
        )
        return self._settled(ChangeSet(made["Id"], is_first=stack is None))

    def _settled(self, proposed: "ChangeSet") -> "ChangeSet | None":
        """The change set once it is worked out."""
        deadline = time.monotonic() + CHANGE_SET_SECONDS
        while True:
            found = self._cloudformation.describe_change_set(StackName=self.name, ChangeSetName=proposed.id)
            if found["Status"] == "CREATE_COMPLETE":
                changes = [change["ResourceChange"] for page in self._pages(proposed) for change in page["Changes"]]
                return ChangeSet(proposed.id, proposed.is_first, tuple(changes))
            if found["Status"] == "FAILED":
                self.discard(proposed)
                reason = found.get("StatusReason", "no reason given")
                if any(words in reason for words in _NOTHING):
                    return None
                raise BoatError(f"CloudFormation refuses the change: {reason}.", "Nothing was changed.")
            if time.monotonic() > deadline:
                raise BoatError(f"The change set is {found['Status']} after {CHANGE_SET_SECONDS} s.", "Try again.")
            time.sleep(self._poll_seconds)

    def _pages(self, proposed: "ChangeSet") -> Iterator[dict[str, Any]]:
        pages = self._cloudformation.get_paginator("describe_change_set")
        yield from pages.paginate(StackName=self.name, ChangeSetName=proposed.id)

    def discard(self, proposed: "ChangeSet") -> None:
        """Forget a change set, and the empty stack that a first one comes with."""
        self._cloudformation.delete_change_set(StackName=self.name, ChangeSetName=proposed.id)
        if proposed.is_first:
            self._cloudformation.delete_stack(StackName=self.name)

    def execute(self, proposed: "ChangeSet", tell: Callable[[str], None]) -> None:
        """Make the change and wait for its end.

        Raises:
            BoatError: It failed and CloudFormation has rolled back; names the resource that was the reason.
        """
        self._cloudformation.execute_change_set(StackName=self.name, ChangeSetName=proposed.id)
        deadline = time.monotonic() + STACK_SECONDS
        status = ""
        while time.monotonic() < deadline:
            (stack,) = self._cloudformation.describe_stacks(StackName=self.name)["Stacks"]
            if stack["StackStatus"] != status:
                status = stack["StackStatus"]
                tell(status)
            if status in ("CREATE_COMPLETE", "UPDATE_COMPLETE"):
                return
            if status.endswith(("_FAILED", "_COMPLETE")) and not status.endswith("_CLEANUP_IN_PROGRESS"):
                raise BoatError(f"Stack {self.name!r} is {status}: {self._reason()}.", "See its events.")
            time.sleep(self._poll_seconds)
        raise BoatError(f"Stack {self.name!r} is {status} after {STACK_SECONDS} s.", "See its events.")

    def _reason(self) -> str:
        pages = self._cloudformation.get_paginator("describe_stack_events").paginate(StackName=self.name)
        failed = [
            f"{event['LogicalResourceId']} ({event.get('ResourceStatusReason', 'no reason given')})"
            for page in pages
            for event in page["StackEvents"]
            if event["ResourceStatus"].endswith("_FAILED") and "cancelled" not in event.get("ResourceStatusReason", "")
        ]
        return failed[-1] if failed else "no resource says why"  # newest first: the last is where it began


class ChangeSet:
    """What would change.

    Args:
        id: Its ARN.
        is_first: Whether the stack is not there yet.
        changes: CloudFormation's `ResourceChange`s.
    """

    def __init__(self, id: str, is_first: bool, changes: tuple[Mapping[str, Any], ...] = ()) -> None:
        self.id, self.is_first, self.changes = id, is_first, changes

    def lines(self) -> list[str]:
        """One line a change, replacements marked."""
        return [
            f"  {change['Action']:<7} {change['ResourceType']:<45} {change['LogicalResourceId']}"
            + ("  REPLACED" if change.get("Replacement") == "True" else "")
            for change in self.changes
        ]


def _parameters(
    body: Mapping[str, Any], values: Mapping[str, str], stack: Mapping[str, Any] | None
) -> Iterator[dict[str, Any]]:
    """What is given; else what the stack has; else the template's default."""
    before = {parameter["ParameterKey"] for parameter in (stack or {}).get("Parameters", [])}
    for name, declared in body["Parameters"].items():
        if name in values:
            yield {"ParameterKey": name, "ParameterValue": values[name]}
        elif name in before:
            yield {"ParameterKey": name, "UsePreviousValue": True}
        elif "Default" not in declared:
            raise SettingError(f"Parameter {name} is missing.", f"Add --parameter {name}=VALUE.")


def run(stack: Stack, body: Mapping[str, Any], given: Mapping[str, str], is_sure: Callable[[], bool]) -> None:
    """Propose, ask, execute; prints what it does."""
    proposed = stack.propose(body, given)
    if proposed is None:
        print(f"Stack {stack.name!r} is up to date.")
        return
    print(
        f"{'Makes' if proposed.is_first else 'Changes'} stack {stack.name!r} in {stack.region}:",
        *proposed.lines(),
        sep="\n",
    )
    if not is_sure():
        stack.discard(proposed)
        print("Nothing was changed.")
        return
    stack.execute(proposed, print)
    for name, value in stack.outputs().items():
        print(f"  {name}: {value}")


def _asked() -> bool:
    return input("Do it? [y/N] ").strip().lower() in ("y", "yes")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m deployments.aws.deploy", description=__doc__.splitlines()[0])
    parser.add_argument("--stack", default=STACK, help="name of the stack (%(default)s)")
    parser.add_argument("--parameter", action="append", default=[], metavar="NAME=VALUE", help="of the template")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    options = parser.parse_args(arguments)
    try:
        stack = Stack(boto3.Session(), options.stack)
        run(stack, template.load(), assignments(options.parameter), (lambda: True) if options.yes else _asked)
    except (BoatError, BotoCoreError, ClientError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
