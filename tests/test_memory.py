"""The memory budget: read from a setting, or half of the machine; DuckDB gets its share everywhere."""

from pathlib import Path

import pytest
from great_expectations import ExpectationSuite
from great_expectations import expectations as gxe

from boat import kinds, memory, quality, settings, snapshot
from boat.errors import SettingError
from boat.evaluation.evaluate import evaluate
from boat.models.train import train
from boat.warehouse.duckdb import DuckDBWarehouse, limited
from tests.transform.conftest import connect, run, shop_events


@pytest.mark.parametrize(
    ("text", "size"),
    [("2GB", 2 * 10**9), ("2 gb", 2 * 10**9), ("2GiB", 2 * 2**30), ("1500MB", 1500 * 10**6), ("1.5g", 1.5 * 10**9)],
)
def test_a_size_is_read_in_any_notation(text: str, size: float) -> None:
    assert settings.memory({"BOAT_MEMORY": text}) == size


def test_the_default_is_half_of_the_memory() -> None:
    assert settings.memory({}) == memory.of_machine() // 2
    assert memory.of_machine() > 2**30


@pytest.mark.parametrize("text", ["much", "6 apples", "-2GB", "10MB", "900TB"])
def test_a_size_that_cannot_work_is_refused_with_the_possible_ones(text: str) -> None:
    with pytest.raises(SettingError, match="BOAT_MEMORY is") as refused:
        settings.memory({"BOAT_MEMORY": text})
    assert text in str(refused.value)
    assert "GB" in refused.value.hint


def test_a_container_limit_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_CGROUPS", tmp_path)
    (tmp_path / "memory.max").write_text("max\n")
    everything = memory.of_machine()
    (tmp_path / "memory.max").write_text(f"{2**30}\n")
    assert memory.of_machine() == 2**30 < everything


def test_duckdb_gets_its_share_in_the_loader_in_dbt_and_in_the_checks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BOAT_MEMORY", "2GiB")
    shop = connect(tmp_path, shop_events())
    setting = "select current_setting('memory_limit') as size"
    with shop.transaction() as transaction:
        limit = transaction.query(setting)["size"][0].as_py()
    assert limit == "1.0 GiB"
    assert shop.dbt_environment()["BOAT_DUCKDB_MEMORY_LIMIT"] == "1024MiB"
    shown = run(shop, tmp_path, "show", "--inline", setting)
    assert limit in shown.output

    # The check opens its own connection.
    other_limit = f"select * from {{batch}} where current_setting('memory_limit') != '{limit}'"
    suite = ExpectationSuite("raw.loads", [gxe.UnexpectedRowsExpectation(unexpected_rows_query=other_limit)])
    (check,) = quality.check(shop, [suite], tmp_path / "reports").checks
    assert check.status == "passed", check.observed


def test_an_option_of_the_url_wins() -> None:
    for url in ("duckdb:///a.duckdb?memory_limit=1GB", "snowflake://shop"):
        assert limited(url, 8 * 10**9) == url
    own = DuckDBWarehouse("duckdb:///a.duckdb?memory_limit=1GB&threads=1").dbt_environment()
    assert (own["BOAT_DUCKDB_MEMORY_LIMIT"], own["BOAT_DUCKDB_THREADS"]) == ("1GB", "1")
    assert "memory_limit=1024MiB" in limited("duckdb:///a.duckdb?threads=1", 2 * 2**30)


@pytest.mark.parametrize("kind", kinds.KINDS)
def test_a_training_that_does_not_fit_says_so_before_it_starts(
    kind: kinds.KindName, shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kinds, "_JOB_BYTES", 3 * 10**9)
    monkeypatch.setenv("BOAT_MEMORY", "2GB")
    training = kinds.load(kind)
    needed = memory.shown(training.needed_bytes(snapshot.read(shop)))
    with pytest.raises(SettingError, match=f"The training needs about {needed} of memory, and 2.0 GB are allowed"):
        train(training, shop, tmp_path, training.parameters())
    with pytest.raises(SettingError, match="The evaluation needs about"):
        evaluate(kind, tmp_path / "model.tar.gz", shop)
    assert list(tmp_path.iterdir()) == []


def test_a_job_on_another_machine_may_use_all_of_it() -> None:
    assert settings.job_memory({}) == memory.of_machine()
    assert settings.job_memory({"BOAT_MEMORY": "2GB"}) == 2 * 10**9
