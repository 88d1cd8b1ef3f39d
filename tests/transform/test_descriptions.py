"""Every model and column of dbt has a description, and lines of SQL are short."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.transform.conftest import PROJECT, Build

MAX_COLUMNS = 120
YAML_FILES = sorted((PROJECT / "models").rglob("*.yml"))
MODELS: dict[str, dict[str, Any]] = {
    model["name"]: model for path in YAML_FILES for model in yaml.safe_load(path.read_text()).get("models", [])
}


def test_every_model_has_a_description() -> None:
    assert set(MODELS) == {path.stem for path in (PROJECT / "models").rglob("*.sql")}


@pytest.mark.parametrize("name", MODELS)
def test_a_description_begins_with_the_grain(name: str) -> None:
    assert MODELS[name]["description"].startswith("One row per ")


@pytest.mark.parametrize("name", MODELS)
def test_every_listed_column_has_a_description(name: str) -> None:
    columns = MODELS[name]["columns"]
    assert [column["name"] for column in columns if not column.get("description")] == []


def test_every_built_column_is_listed_in_its_order(built: Build) -> None:
    rows = built.rows(
        """select table_name, list(column_name order by ordinal_position) as columns
        from information_schema.columns where table_schema in ('staging', 'intermediate', 'marts') group by all"""
    )
    listed = {name: [column["name"] for column in model["columns"]] for name, model in MODELS.items()}
    assert {row["table_name"]: row["columns"] for row in rows} == listed


@pytest.mark.parametrize("path", sorted(PROJECT.rglob("*.sql")), ids=lambda path: path.stem)
def test_sql_lines_are_short(path: Path) -> None:  # sqlfluff does not read macros
    assert [line for line in path.read_text().splitlines() if len(line) > MAX_COLUMNS] == []
