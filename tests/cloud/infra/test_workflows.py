"""The workflows: pinned, with the least rights, without keys, and with an order that cannot release what fails."""

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
    # YAML 1.1 takes the key `on` for a truth value.
    return {"on" if key is True else key: value for key, value in yaml.safe_load((FOLDER / name).read_text()).items()}


def steps(name: str) -> list[dict[str, Any]]:
    return [step for job in workflow(name)["jobs"].values() for step in job["steps"]]


each = pytest.mark.parametrize("name", NAMES)


def test_there_are_a_check_and_a_release() -> None:
    assert NAMES == ["ci.yml", "release.yml"]


@each
def test_actions_are_pinned_to_a_commit_with_its_version_beside_it(name: str) -> None:
    lines = [line for line in (FOLDER / name).read_text().splitlines() if "uses:" in line]
    assert lines
    for line in lines:
        assert re.search(r"uses: [\w-]+/[\w-]+@[0-9a-f]{40} # v\d+(\.\d+)+$", line), line


@each
def test_the_token_may_only_read_and_is_not_left_behind(name: str) -> None:
    assert workflow(name)["permissions"] == {"contents": "read"}
    for step in steps(name):
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False


@each
def test_no_secret_is_used_and_nothing_looks_like_a_key(name: str) -> None:
    text = (FOLDER / name).read_text()
    assert "secrets." not in text
    assert not re.search(r"AKIA[0-9A-Z]{16}|aws[-_]secret|aws[-_]access[-_]key|password:", text, re.IGNORECASE)


@each
def test_nothing_that_strangers_write_becomes_a_command(name: str) -> None:
    assert "pull_request_target" not in workflow(name)["on"]
    assert [step["run"] for step in steps(name) if "${{" in step.get("run", "")] == []


@each
def test_every_job_ends_in_time(name: str) -> None:
    assert all(0 < job["timeout-minutes"] <= 90 for job in workflow(name)["jobs"].values())


def test_only_the_release_can_become_a_role_and_only_after_the_tests() -> None:
    release = workflow("release.yml")
    may = {name for name, job in release["jobs"].items() if job.get("permissions", {}).get("id-token") == "write"}
    assert may == {"release"}
    assert release["jobs"]["release"]["needs"] == "test"
    assert "id-token" not in (FOLDER / "ci.yml").read_text()


def test_a_release_is_a_tag_that_the_role_is_for() -> None:
    (pattern,) = workflow("release.yml")["on"]["push"]["tags"]
    trust = str(template.load()["Resources"]["ReleaseRole"]["Properties"]["AssumeRolePolicyDocument"])
    assert f":ref:refs/tags/{pattern}'" in trust


def test_the_releasing_script_asks_for_what_the_template_tells_and_calls_what_the_role_may() -> None:
    script = ROOT / "deployments/aws/release.sh"
    assert subprocess.run(["bash", "-n", script], check=False).returncode == 0
    text = script.read_text()
    asked = set(re.findall(r"\$\(output (\w+)\)", text))
    whole = template.load()
    assert asked
    assert asked <= set(whole["Outputs"])
    calls = {
        f"{service}:{''.join(word.title() for word in action.split('-'))}"
        for service, action in re.findall(r"aws (ecs|cloudformation) (?!wait)([a-z-]+)", text)
    }
    granted = str(whole["Resources"]["ReleaseRole"]["Properties"]["Policies"])
    assert sorted(action for action in calls if f"'{action}'" not in granted) == []
    assert "cloudformation:DescribeStacks" in calls
