"""What the generator can do to a shop's last day is noticed by the expectations that are there for it."""

from datetime import date
from pathlib import Path

import duckdb
import pytest

from boat import raw_log, synthetic, warehouse
from boat.__main__ import main
from expectations import daily_volume
from tests.transform.conftest import Build, build

END = date(2024, 6, 30)
NOTICED = {
    "collapse": {"events of the days before", "half and three times"},
    "lost-pageviews": {"similar shares", "Every event type of all days before", "half and three times"},
    "new-product-ids": {"Most products"},
}


@pytest.fixture(scope="module")
def shops(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """A shop of each drift and a healthy one, all in one warehouse."""
    folder = tmp_path_factory.mktemp("drift")
    (folder / "landing").mkdir()
    for drift in (None, *synthetic.DRIFTS):
        synthetic.generate(folder / str(drift), sessions=3_000, days=12, seed=5, products=200, end=END, drift=drift)
        _land(folder / str(drift), folder / "landing" / f"{drift}.parquet")
    loaded = warehouse.connect(f"duckdb:///{folder}/warehouse.duckdb")
    raw_log.load(loaded, folder / "landing")
    built = build(loaded, folder, "--select", "resource_type:model")
    assert built.code == 0, built.output
    return built


def _land(files: Path, path: Path) -> None:
    """A shop's events under a name of its own, and the first one of the day after."""
    duckdb.sql(
        f"""copy (
            select '{files.name}' as shop, session_id_hash as session_id, server_timestamp_epoch_ms as event_time,
                coalesce(product_action, 'pageview') as event_type, product_sku_hash as product_id, hashed_url as url
            from read_csv('{files}/browsing_train.csv', all_varchar = true)
            where cast(server_timestamp_epoch_ms as bigint) < epoch_ms(date '{END}' + 1)
            union all
            select '{files.name}', 'next', cast(epoch_ms(date '{END}' + 1) as varchar), 'pageview', null, '/'
        ) to '{path}' (format parquet)"""
    )


def _noticed(shops: Build, shop: str) -> set[str]:
    """Descriptions of the expectations that do not hold of a shop."""
    queries = {each.description: each.unexpected_rows_query for each in daily_volume.suite().expectations}
    found = {text: shops.rows(query.format(batch="marts.daily_volume")) for text, query in queries.items()}
    return {text for text, rows in found.items() if shop in {row["shop"] for row in rows}}


@pytest.mark.parametrize("drift", NOTICED)
def test_each_drift_is_noticed_by_its_expectations(shops: Build, drift: str) -> None:
    noticed = _noticed(shops, drift)
    assert all(any(rule in text for text in noticed) for rule in NOTICED[drift]), noticed


def test_every_drift_is_looked_for_and_a_healthy_shop_is_left_in_peace(shops: Build) -> None:
    assert NOTICED.keys() == synthetic.DRIFTS.keys()
    assert _noticed(shops, "None") == set()


def test_only_the_last_day_is_another(tmp_path: Path) -> None:
    options = ["--sessions", "600", "--days", "3", "--seed", "2", "--products", "60", "--end", str(END)]
    before = f"where cast(server_timestamp_epoch_ms as bigint) < epoch_ms(date '{END}')"
    for name, drift in (("healthy", []), ("odd", ["--drift", "new-product-ids"])):
        assert main(["synth", "--out", str(tmp_path / name), *options, *drift]) == 0
    healthy, odd = (
        f"(select * from read_csv('{tmp_path}/{name}/browsing_train.csv', all_varchar = true) {{}})"
        for name in ("healthy", "odd")
    )
    for one, other in ((healthy, odd), (odd, healthy)):
        assert duckdb.sql(f"from {one.format(before)} except from {other.format(before)}").fetchall() == []
    assert duckdb.sql(f"from {odd.format('')} except from {healthy.format('')}").fetchall() != []


def test_an_unknown_drift_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["synth", "--out", str(tmp_path), "--drift", "upwards"]) == 1
    assert (
        "The drift 'upwards' is unknown. Use one of: collapse, lost-pageviews, new-product-ids."
        in capsys.readouterr().err
    )
