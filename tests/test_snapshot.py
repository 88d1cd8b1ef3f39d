"""A snapshot is complete, immutable, named by its digest and split by time."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from boat import snapshot, warehouse
from boat.errors import ArtifactError, DataError
from boat.models import examples
from boat.snapshot import INTENT, PRODUCTS, RECOMMEND
from boat.warehouse import Warehouse

FIRST = datetime(2024, 5, 1)

# A session of three product views begins every 6 hours. Every fifth session buys.
MARTS = """
create schema marts;
create table marts.fct_session_events as
    select 's' || session as session_key, 'shop' as shop, position,
        timestamp '{first}' + session * interval 6 hours + position * interval 1 minute as event_time,
        'detail' as event_type, 'p' || ((session + position) % 7) as product_id, null::varchar as url,
        timestamp '{first}' + session * interval 6 hours + interval 1 minute as started_at,
        session % 5 = 0 as is_purchase
    from range({sessions}) as sessions(session), range(1, 4) as positions(position);
create table marts.recommend_examples as
    select session_key, shop, started_at, position, event_time, event_type, product_id, null::varchar as url_before
    from marts.fct_session_events;
create table marts.intent_examples as select * from marts.fct_session_events;
create table marts.dim_products as
    select 'shop' as shop, 'p' || product as product_id, 'Product ' || product as product_name,
        null::varchar as category, 1.5 as price, timestamp '{first}' as first_seen_at, 10 as event_count,
        null::varchar as description_vector
    from range(7) as products(product);
"""


@pytest.fixture
def shop(tmp_path: Path) -> Callable[[int], Warehouse]:
    def build(sessions: int) -> Warehouse:
        built = warehouse.connect(f"duckdb:///{tmp_path}/shop-{sessions}.duckdb")
        with built.transaction() as transaction:
            for statement in MARTS.format(first=FIRST, sessions=sessions).split(";")[:-1]:
                transaction.execute(statement)
        return built

    return build


def test_a_snapshot_contains_all_rows_up_to_the_newest_event(shop: Callable[[int], Warehouse], tmp_path: Path) -> None:
    reference = snapshot.take(shop(120), tmp_path, dbt_manifest="abc")
    manifest = snapshot.read(reference.uri)
    assert manifest.as_of == reference.as_of == FIRST + timedelta(hours=6 * 119, minutes=3)
    assert {name: file.rows for name, file in manifest.files.items()} == {RECOMMEND: 360, INTENT: 360, PRODUCTS: 7}
    assert (reference.rows, reference.sessions, reference.purchases) == (720, 120, 24)
    assert manifest.intent == {"train": (84, 17), "validation": (16, 3), "test": (16, 4)}
    assert manifest.dbt_manifest == "abc"
    assert "marts.recommend_examples" in manifest.queries[RECOMMEND]


def test_rows_are_sorted_by_time(shop: Callable[[int], Warehouse], tmp_path: Path) -> None:
    reference = snapshot.take(shop(120), tmp_path)
    rows = pq.read_table(Path(reference.uri) / RECOMMEND).to_pylist()
    assert rows == sorted(rows, key=lambda row: (row["started_at"], row["session_key"], row["position"]))


def test_a_window_contains_its_sessions_and_no_later_events(shop: Callable[[int], Warehouse], tmp_path: Path) -> None:
    end = FIRST + timedelta(days=20, minutes=2)  # between the second and the third event of a session
    reference = snapshot.take(shop(120), tmp_path, days=10, as_of=end.replace(tzinfo=UTC))
    rows = pq.read_table(Path(reference.uri) / RECOMMEND)
    assert pc.max(rows["event_time"]).as_py() == end
    assert pc.min(rows["started_at"]).as_py() > end - timedelta(days=10)
    assert reference.sessions == 40


def test_the_same_content_gives_the_same_snapshot_without_a_copy(
    shop: Callable[[int], Warehouse], tmp_path: Path
) -> None:
    shop_warehouse = shop(120)
    first = snapshot.take(shop_warehouse, tmp_path)
    modified_at = (Path(first.uri) / RECOMMEND).stat().st_mtime_ns
    again = snapshot.take(shop_warehouse, tmp_path)
    assert again == first
    assert (Path(first.uri) / RECOMMEND).stat().st_mtime_ns == modified_at
    assert [path.name for path in (tmp_path / "snapshots").iterdir()] == [Path(first.uri).name]
    assert snapshot.take(shop_warehouse, tmp_path, dbt_manifest="another").digest != first.digest


@pytest.mark.parametrize("name", [RECOMMEND, INTENT, PRODUCTS])
def test_a_changed_byte_is_detected(shop: Callable[[int], Warehouse], tmp_path: Path, name: str) -> None:
    reference = snapshot.take(shop(120), tmp_path)
    content = bytearray((Path(reference.uri) / name).read_bytes())
    content[len(content) // 2] ^= 1
    (Path(reference.uri) / name).write_bytes(content)
    with pytest.raises(ArtifactError, match=name):
        snapshot.read(reference.uri)


def test_a_changed_manifest_is_detected(shop: Callable[[int], Warehouse], tmp_path: Path) -> None:
    reference = snapshot.take(shop(120), tmp_path)
    path = Path(reference.uri) / snapshot.MANIFEST
    path.write_text(path.read_text().replace('"sessions": 120', '"sessions": 121'))
    with pytest.raises(ArtifactError, match="digest"):
        snapshot.read(reference.uri, verify=False)


def test_a_damaged_snapshot_is_taken_again(shop: Callable[[int], Warehouse], tmp_path: Path) -> None:
    shop_warehouse = shop(120)
    reference = snapshot.take(shop_warehouse, tmp_path)
    (Path(reference.uri) / INTENT).unlink()
    assert snapshot.take(shop_warehouse, tmp_path) == reference
    assert snapshot.read(reference.uri).digest == reference.digest


def test_a_snapshot_of_an_older_layout_is_refused_with_the_next_step(
    shop: Callable[[int], Warehouse], tmp_path: Path
) -> None:
    folder = Path(snapshot.take(shop(120), tmp_path).uri)
    (folder / RECOMMEND).rename(folder / "next_item.parquet")  # its name in layout 2
    manifest = json.loads((folder / snapshot.MANIFEST).read_text())
    for files in (manifest["files"], manifest["queries"]):
        files["next_item.parquet"] = files.pop(RECOMMEND)
    (folder / snapshot.MANIFEST).write_text(json.dumps({**manifest, "schema_version": 2}))
    with pytest.raises(ArtifactError, match=rf"{folder.name} has layout version 2, .* only 4\. Run `retrain` again"):
        snapshot.read(folder)


def test_a_folder_that_is_not_a_snapshot_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="nothing-here"):
        snapshot.read(tmp_path / "nothing-here")


def test_an_empty_window_is_refused_with_the_next_step(shop: Callable[[int], Warehouse], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="more days"):
        snapshot.take(shop(120), tmp_path, days=10, as_of=FIRST - timedelta(days=1))
    with pytest.raises(DataError, match="Load events"):
        snapshot.take(shop(0), tmp_path)


def test_a_month_is_split_by_days(shop: Callable[[int], Warehouse], tmp_path: Path) -> None:
    split = snapshot.read(snapshot.take(shop(120), tmp_path).uri).split
    assert split.test_until == FIRST + timedelta(days=29)  # the 30th day has no event in its last hour
    assert split.test_from == split.test_until - timedelta(days=4)
    assert split.validation_from == split.test_until - timedelta(days=8)


def test_a_day_with_events_in_its_last_hour_is_complete(shop: Callable[[int], Warehouse], tmp_path: Path) -> None:
    late = _with(shop(120), ("shop", FIRST + timedelta(days=29, hours=23, minutes=10)))
    assert snapshot.read(snapshot.take(late, tmp_path).uri).split.test_until == FIRST + timedelta(days=30)


def test_events_after_the_test_days_are_only_in_the_part_of_all(
    shop: Callable[[int], Warehouse], tmp_path: Path
) -> None:
    folder = Path(snapshot.take(shop(120), tmp_path).uri)
    split = snapshot.read(folder).split
    test, everything = (examples.read(folder / RECOMMEND, split, part) for part in ("test", "all"))
    assert (
        test.learned.until < split.test_until < everything.learned.until == FIRST + timedelta(hours=6 * 119, minutes=3)
    )
    assert len(everything) == 120


def test_other_shops_and_wrong_clocks_do_not_move_the_test_days(
    shop: Callable[[int], Warehouse], tmp_path: Path
) -> None:
    built = shop(120)
    expected = snapshot.read(snapshot.take(built, tmp_path).uri)
    _with(built, ("mugs", FIRST + timedelta(days=40)), ("shop", FIRST + timedelta(days=60)))
    taken = snapshot.read(snapshot.take(built, tmp_path).uri)
    assert (taken.split, taken.as_of) == (expected.split, expected.as_of)
    assert set(pq.read_table(tmp_path / "snapshots" / taken.digest[:16] / RECOMMEND)["shop"].to_pylist()) == {"shop"}


def test_a_shop_without_events_is_named_beside_those_with_events(
    shop: Callable[[int], Warehouse], tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=r"'mugs' has no events .* 'shop'"):
        snapshot.take(shop(120), tmp_path, shop="mugs")


def test_many_targets_need_fewer_test_days(tmp_path: Path) -> None:
    until = datetime(2026, 3, 31)
    starts = np.datetime64(until) - np.timedelta64(1, "h") * np.arange(89 * 24, 0, -1)

    def days(targets: int, buyers: np.ndarray) -> int:
        return snapshot._test_days(starts, np.full(len(starts), targets), buyers, until)

    many = np.repeat(starts, 20)
    assert [days(targets, many) for targets in (10, 40, 250, 1000)] == [7, 7, 4, 1]
    assert days(1000, starts[:0]) == 1  # a shop that sells nothing
    assert days(1000, starts[::12]) == 7


def _with(built: Warehouse, *events: tuple[str, datetime]) -> Warehouse:
    with built.transaction() as transaction:
        for shop, moment in events:
            transaction.execute(
                f"insert into marts.fct_session_events select * replace ('{shop}' as shop, timestamp '{moment}' as "
                "event_time) from marts.fct_session_events limit 1"
            )
    return built


def test_the_numbers_of_test_and_validation_days_are_parameters(
    shop: Callable[[int], Warehouse], tmp_path: Path
) -> None:
    split = snapshot.read(snapshot.take(shop(120), tmp_path, test_days=1, validation_days=5).uri).split
    assert split.test_from - split.validation_from == timedelta(days=5)


def test_a_few_days_are_split_by_shares_with_the_reason(shop: Callable[[int], Warehouse], tmp_path: Path) -> None:
    split = snapshot.read(snapshot.take(shop(10), tmp_path).uri).split
    assert "2.0 days cannot be cut by days" in split.rule
    start = FIRST + timedelta(minutes=1)
    assert split.validation_from == start + timedelta(hours=6 * 8)
    assert split.test_from == start + timedelta(hours=6 * 9)


def test_days_without_sessions_are_split_by_shares(shop: Callable[[int], Warehouse], tmp_path: Path) -> None:
    split = snapshot.read(snapshot.take(shop(120), tmp_path, as_of=FIRST + timedelta(days=90)).uri).split
    assert "by shares" in split.rule
    assert split.test_from == FIRST + timedelta(hours=6 * 108, minutes=1)


def test_too_few_sessions_for_three_parts_are_refused(shop: Callable[[int], Warehouse], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="1/0/1"):
        snapshot.take(shop(2), tmp_path)
