"""README and docs agree with the code, link to each other, and are short."""

import argparse
import inspect
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from importlib import import_module
from pathlib import Path

import pytest
import yaml
from prefect import Flow

from boat import __main__ as cli
from boat import settings
from boat.compute.batch import BatchOptions
from boat.compute.ecs import EcsOptions
from boat.serving.sagemaker import Hosting
from tasks.blocks import GatePolicy, Platform, RetryPolicy
from tests.conftest import ROOT

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").rglob("*.md"))]
TEXT = {page.relative_to(ROOT).as_posix(): page.read_text(encoding="utf-8") for page in PAGES}
MAX_README_LINES = 130
MAX_WORDS = 28
FLOWS = {"ingestion": "ingestion", "retrain": "retrain", "promote": "promote", "backfill": "backfill"}
NOT_RUN = {
    "make demo": "run by tests/e2e/test_demo.py",
    "make down": "run by tests/e2e/test_demo.py",
    "make status": "run by tests/deployments/test_services.py",
    "make aws-plan": "run by tests/cloud/infra/test_plan.py",
    "make aws-deploy": "needs an AWS account",
    "make test": "is this run",
    "make test-fast": "is a part of this run",
    "source .venv/bin/activate": "changes the shell only",
    "boat erase": "run by tests/raw_log/test_erase.py, with real addresses in place of URL and DIR",
    "boat load": "run below, with a real file in place of the path",
    "BOAT_COLLECT_ORIGINS=": "started by tests/deployments/test_services.py",
    ".venv/bin/pytest": "is this run",
    "python benchmarks/": "takes minutes; its figures are in docs/benchmarks.md",
    "aws ": "needs an AWS account",
    "task=": "needs an AWS account",
    "id=": "needs an AWS account",
    "#": "a comment",
    "--parameters": "continues the line before",
    "python -m pip wheel": "needs docker for the lines after it",
    "docker build": "needs docker",
    "TAG=": "needs an AWS account",
}
"""Commands of the docs that this file does not run, by their beginning, each with the reason."""


def prose(text: str) -> str:
    """Return the paragraphs of a page, without code, tables, headings and lists."""
    text = re.sub(r"```.*?```", "", text, flags=re.S)
    return " ".join(line for line in text.splitlines() if not line.startswith(("|", "#", "!", "-", " ")))


def commands() -> Iterator[tuple[str, str]]:
    """Yield page and line of each command in a fenced `sh` block."""
    for page, text in TEXT.items():
        for block in re.findall(r"^ *```sh\n(.*?)^ *```", text, flags=re.S | re.M):
            for line in block.splitlines():
                if line.strip():
                    yield page, line.strip()


def anchors(text: str) -> set[str]:
    """Return the anchors that a Markdown page offers, as GitHub makes them of headings."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", text, flags=re.S), flags=re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def flow(name: str) -> Flow:  # type: ignore[type-arg]
    """Return a flow by the name of its module."""
    loaded = getattr(import_module(f"flows.{name}"), name)
    assert isinstance(loaded, Flow)
    return loaded


def subparsers() -> dict[str, argparse.ArgumentParser]:
    """Return the parser of each command of `boat`."""
    subcommands = argparse.ArgumentParser().add_subparsers()
    for add in cli._COMMANDS:
        add(subcommands)
    return dict(subcommands.choices)


def test_the_readme_is_short() -> None:
    assert len(TEXT["README.md"].splitlines()) <= MAX_README_LINES


@pytest.mark.parametrize("page", TEXT)
def test_sentences_are_short(page: str) -> None:
    sentences = re.split(r"(?<=[.!?])\s+", prose(TEXT[page]))
    assert [sentence for sentence in sentences if len(sentence.split()) > MAX_WORDS] == []


@pytest.mark.parametrize("page", TEXT)
def test_every_relative_link_leads_to_a_file_and_a_heading(page: str) -> None:
    text = re.sub(r"```.*?```", "", TEXT[page], flags=re.S)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (ROOT / page).parent / path if path else ROOT / page
        assert target.exists(), f"{page} links to {link}"
        if anchor:
            assert anchor in anchors(target.read_text(encoding="utf-8")), f"{page} links to {link}"


def test_every_variable_is_documented() -> None:
    source = inspect.getsource(settings)
    variables = set(re.findall(r"BOAT_[A-Z_]*[A-Z]", source))
    assert variables
    for page in ("docs/settings.md", ".env.example"):
        text = (ROOT / page).read_text(encoding="utf-8")
        assert {name for name in variables if name not in text} == set(), page


@pytest.mark.parametrize("block", [Platform, RetryPolicy, GatePolicy], ids=lambda block: str(block._block_type_slug))
def test_every_block_field_is_documented(block: type[Platform | RetryPolicy | GatePolicy]) -> None:
    section = TEXT["docs/settings.md"].split(f"## Block `{block._block_type_slug}`")[1].split("\n## ")[0]
    documented = set(re.findall(r"^\| `(\w+)` \|", section, flags=re.M))
    own = {name for name in block.__fields__ if not name.startswith("_") and name != "block_type_slug"}
    assert documented == own


@pytest.mark.parametrize("options", [BatchOptions, EcsOptions, Hosting])
def test_every_option_of_a_cloud_url_is_documented(options: type[BatchOptions] | type[Hosting]) -> None:
    section = TEXT["docs/settings.md"].split("### Options in URLs")[1].split("\n## ")[0]
    documented = set(re.findall(r"`(\w+)`", section)) | {"region"}
    assert {option.name for option in fields(options)} <= documented


@pytest.mark.parametrize("kind", ["recommend", "intent"])
def test_every_behaviour_test_is_documented(kind: str) -> None:
    source = (ROOT / "src" / "boat" / kind / "behaviour.py").read_text(encoding="utf-8")
    names = re.findall(r"^@suite\.at_\w+\(.+\)\ndef (\w+)", source, flags=re.M)
    assert names
    assert [name for name in names if f"`{name}`" not in TEXT["docs/evaluation.md"]] == []


@pytest.mark.parametrize("name", FLOWS)
def test_every_flow_parameter_is_documented_with_its_default(name: str) -> None:
    section = TEXT["docs/settings.md"].split("## Flow parameters")[1]
    rows = re.search(rf"^\| `{name}` \|.*\n(?:\| +\|.*\n)*", section, flags=re.M)
    assert rows
    documented = re.findall(r"`(\w+)`", " ".join(row.split("|")[2] for row in rows.group().splitlines()))
    assert set(documented) == set(flow(name).parameters.properties)


def test_every_deployment_is_in_the_readme() -> None:
    deployments = yaml.safe_load((ROOT / "prefect.yaml").read_text(encoding="utf-8"))["deployments"]
    for deployment in deployments:
        flow_name = deployment["entrypoint"].split(":")[1]
        assert f"`{flow_name}/{deployment['name']}`" in TEXT["README.md"]


def test_every_command_and_option_of_boat_is_documented() -> None:
    docs = "\n".join(TEXT.values())
    for command, parser in subparsers().items():
        assert f"boat {command}" in docs
        options = {option for action in parser._actions for option in action.option_strings if option.startswith("--")}
        assert {option for option in options - {"--help"} if option not in docs} == set(), command


def test_every_command_in_the_docs_is_run_or_has_a_reason() -> None:
    for page, command in commands():
        is_run = command.startswith(("prefect deployment run ", *NOT_RUN)) or "boat load" in command
        assert is_run, f"{page}: {command} is not run by any test. Run it here, or give the reason in NOT_RUN."


@pytest.mark.parametrize(
    "command", sorted({line for _, line in commands() if line.startswith("prefect deployment run")})
)
def test_a_run_in_the_docs_has_parameters_that_its_flow_accepts(command: str) -> None:
    words = shlex.split(command, comments=True)
    name, deployment = words[3].split("/")
    deployments = yaml.safe_load((ROOT / "prefect.yaml").read_text(encoding="utf-8"))["deployments"]
    assert deployment in {deployed["name"] for deployed in deployments if deployed["entrypoint"].endswith(f":{name}")}
    values = dict(word.split("=", 1) for word in words[4:] if word != "-p")
    flow(name).validate_parameters(
        {key: yaml.safe_load(value) for key, value in values.items()}
        | ({"first_day": "2026-03-01", "last_day": "2026-03-31"} if name == "backfill" else {})
    )


def test_the_dry_run_of_the_readme_shows_a_file(tmp_path: Path) -> None:
    assert "boat load path/to/events.parquet --dry-run" in TEXT["README.md"]
    events = tmp_path / "events.csv"
    events.write_text("event_time,event_type,client_id,product_id\n2026-03-01T10:00:00,detail,c,p\n", encoding="utf-8")
    command = [sys.executable, "-m", "boat", "load", str(events), "--dry-run"]
    result = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert "events.csv (events): 1 row can be loaded" in result.stdout


def test_make_help_lists_every_target() -> None:
    result = subprocess.run(["make", "-s", "help"], capture_output=True, text=True, check=True, cwd=ROOT, timeout=60)
    targets = re.search(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.M)
    assert targets
    listed = {line.split()[1] for line in result.stdout.splitlines()}
    assert listed == set(targets.group(1).split())
