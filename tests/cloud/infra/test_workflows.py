"""The workflows: pinned actions, least permissions, no keys, and no release without passing tests."""

import re
import subprocess
from typing import Any

import pytest
import yaml

from deployments.aws import template
from tests.conftest import ROOT

FOLDER = ROOT / ".github" / "workflows"
NAMES = sorted(path.name for path in FOLDER.glob("*.yml"))


def workflow(name: str) -> dict[str, Any]:
    # YAML 1.1 parses the key `on` as a boolean.
    return {"on" if key is True else key: value for key, value in yaml.safe_load((FOLDER / name).read_text()).items()}


def steps(name: str) -> list[dict[str, Any]]:
    return [step for job in workflow(name)["jobs"].values() for step in job["steps"]]


each_workflow = pytest.mark.parametrize("name", NAMES)


def test_there_are_two_workflows() -> None:
    assert NAMES == ["ci.yml", "release.yml"]


@each_workflow
def test_actions_are_pinned_to_a_commit_with_a_version_comment(name: str) -> None:
    lines = [line for line in (FOLDER / name).read_text().splitlines() if "uses:" in line]
    assert lines
    for line in lines:
        assert re.search(r"uses: [\w-]+/[\w-]+@[0-9a-f]{40} # v\d+(\.\d+)+$", line), line


@each_workflow
def test_the_token_is_read_only_and_not_stored(name: str) -> None:
    assert workflow(name)["permissions"] == {"contents": "read"}
    for step in steps(name):
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False


@each_workflow
def test_no_secret_is_used_and_no_text_looks_like_a_key(name: str) -> None:
    text = (FOLDER / name).read_text()
    assert "secrets." not in text
    assert not re.search(r"AKIA[0-9A-Z]{16}|aws[-_]secret|aws[-_]access[-_]key|password:", text, re.IGNORECASE)


@each_workflow
def test_untrusted_text_is_never_part_of_a_command(name: str) -> None:
    assert "pull_request_target" not in workflow(name)["on"]
    assert [step["run"] for step in steps(name) if "${{" in step.get("run", "")] == []


@each_workflow
def test_every_job_has_a_time_limit(name: str) -> None:
    assert all(0 < job["timeout-minutes"] <= 90 for job in workflow(name)["jobs"].values())


def test_only_the_release_assumes_a_role_and_only_after_the_tests() -> None:
    release = workflow("release.yml")
    may = {name for name, job in release["jobs"].items() if job.get("permissions", {}).get("id-token") == "write"}
    assert may == {"release"}
    assert release["jobs"]["release"]["needs"] == "test"
    assert "id-token" not in (FOLDER / "ci.yml").read_text()


def test_a_release_is_a_tag_that_the_role_accepts() -> None:
    (pattern,) = workflow("release.yml")["on"]["push"]["tags"]
    trust = str(template.load()["Resources"]["ReleaseRole"]["Properties"]["AssumeRolePolicyDocument"])
    assert f":ref:refs/tags/{pattern}'" in trust


def test_the_release_script_uses_outputs_of_the_template_and_calls_allowed_by_the_role() -> None:
    script = ROOT / "deployments/aws/release.sh"
    assert subprocess.run(["bash", "-n", script], check=False).returncode == 0
    text = script.read_text()
    outputs = set(re.findall(r"\$\(output (\w+)\)", text))
    whole = template.load()
    assert outputs
    assert outputs <= set(whole["Outputs"])
    calls = {
        f"{service}:{''.join(word.title() for word in action.split('-'))}"
        for service, action in re.findall(r"aws (ecs|cloudformation) (?!wait)([a-z-]+)", text)
    }
    granted = str(whole["Resources"]["ReleaseRole"]["Properties"]["Policies"])
    assert sorted(action for action in calls if f"'{action}'" not in granted) == []
    assert "cloudformation:DescribeStacks" in calls
