"""Examples contain only events before their target."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from boat import snapshot
from boat.models import examples
from boat.models.examples import Examples, Sessions


def test_a_window_has_the_products_before_its_target_newest_first() -> None:
    codes, offsets = np.array([1, 2, 3, 4, 5]), np.array([0, 3, 5])
    recent, target, _ = Examples(codes, offsets).at(slice(None), 2)
    assert recent.tolist() == [[1, 0], [2, 1], [4, 0]]
    assert target.tolist() == [2, 3, 5]


def test_unknown_products_are_skipped_in_a_window_but_stay_a_target() -> None:
    recent, target, _ = Examples(np.array([1, 0, 2, 0]), np.array([0, 4])).at(slice(None), 2)
    assert recent.tolist() == [[1, 0], [1, 0], [2, 1]]
    assert target.tolist() == [0, 2, 0]


def test_sessions_of_unknown_products_have_empty_windows() -> None:
    recent, target, _ = Examples(np.array([0, 0]), np.array([0, 2])).at(slice(None), 2)
    assert recent.tolist() == [[0, 0]]
    assert target.tolist() == [0]


def test_products_before_targets_are_looked_up_by_steps_and_by_rows() -> None:
    all_targets = Examples(np.array([1, 2, 0, 3, 4, 5]), np.array([0, 4, 6]))
    assert len(all_targets) == 4
    assert all_targets.before(1).tolist() == [1, 2, 2, 4]
    assert all_targets.before(2).tolist() == [0, 1, 1, 0]
    assert all_targets.at(np.array([3, 2]), 3).recent.tolist() == [[4, 0, 0], [2, 1, 0]]


def test_the_vocabulary_begins_with_the_most_frequent() -> None:
    part = Sessions(pa.table({"product_id": ["b", "c", "a", "c", "a"]}), np.array([0, 5]))
    names, counts = part.vocabulary("product_id")
    assert names.tolist() == ["a", "c", "b"]
    assert counts.tolist() == [2, 2, 1]
    assert examples.encode(np.array(["c", "new", "a"], dtype=object), names).tolist() == [2, 0, 1]


def test_a_session_is_found_across_batches_and_row_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "_BATCH", 3)
    lengths = [1, 2, 6, 3, 1, 4]
    keys = [str(session) for session, length in enumerate(lengths) for _ in range(length)]
    pq.write_table(pa.table({"session_key": keys}), tmp_path / "keys.parquet", row_group_size=5)
    assert snapshot.first_rows(tmp_path / "keys.parquet").tolist() == [0, 1, 3, 9, 12, 13]


def test_texts_are_numbered_once_also_in_tables_of_several_parts() -> None:
    parts = [pa.table({"url": pa.array(urls, pa.string())}) for urls in (["b", None, "a"], ["", "c", "b"])]
    dictionaries = pa.concat_tables([part.set_column(0, "url", part["url"].dictionary_encode()) for part in parts])
    for events in (pa.concat_tables(parts), dictionaries):
        sessions = Sessions(events, np.array([0, 6]))
        texts, numbers = sessions.distinct("url")
        assert texts.tolist() == ["", "a", "b", "c"]
        assert numbers.tolist() == [2, 0, 1, 0, 3, 2]
        assert sessions.strings("url").tolist() == ["b", "", "a", "", "c", "b"]
    assert Sessions(dictionaries.slice(0, 0), np.array([0])).strings("url").tolist() == []


def test_sessions_are_cut_after_early_events_and_at_their_end() -> None:
    session, length = examples.cuts(np.array([1, 3, 4, 0, 9]))
    assert list(zip(session.tolist(), length.tolist(), strict=True)) == [
        (0, 1), (1, 1), (1, 2), (1, 3), (2, 1), (2, 2), (2, 4), (4, 1), (4, 2), (4, 4), (4, 6), (4, 8), (4, 9),
    ]  # fmt: skip


def test_no_part_contains_events_of_a_later_part(shop: Path) -> None:
    split = snapshot.read(shop).split
    for name in (snapshot.RECOMMEND, snapshot.INTENT):
        names: tuple[examples.Part, ...] = ("train", "validation", "fit", "test", "all")
        parts = {part: examples.read(shop / name, split, part) for part in names}
        assert pc.max(parts["train"].events["event_time"]).as_py() < split.validation_from
        assert pc.min(parts["validation"].events["started_at"]).as_py() >= split.validation_from
        assert pc.max(parts["validation"].events["event_time"]).as_py() < split.test_from
        assert pc.min(parts["test"].events["started_at"]).as_py() >= split.test_from
        assert pc.max(parts["test"].events["event_time"]).as_py() <= split.test_until
        assert len(parts["fit"]) == len(parts["train"]) + len(parts["validation"])
        rows = examples.pq.read_table(shop / name)
        late = pc.count_distinct(rows.filter(pc.field("started_at") >= split.test_until)["session_key"]).as_py()
        assert len(parts["all"]) == len(parts["fit"]) + len(parts["test"]) + late
        assert len(parts["all"]) == pc.count_distinct(rows["session_key"]).as_py()


def test_events_after_the_cut_are_left_out_even_if_their_session_began_before(shop: Path) -> None:
    split = snapshot.read(shop).split
    path = shop / snapshot.RECOMMEND
    whole = examples.read(path, split, "train")
    last = whole.events.slice(int(whole.offsets[-2]))
    assert len(last) >= 2
    cut = replace(split, validation_from=last["event_time"][1].as_py())
    shortened = examples.read(path, cut, "train")
    assert len(shortened) == len(whole)
    assert shortened.lengths[-1] == 1


def test_a_model_gets_the_last_events_oldest_first_and_padded_at_the_end(shop: Path) -> None:
    part = examples.read(shop / snapshot.INTENT, snapshot.read(shop).split, "test")
    rows = part.events.slice(0, 3).to_pylist()
    columns = examples.columns(part, np.array([0, 0]), np.array([3, 1]), longest=2)
    assert columns["event_type"].tolist() == [["detail", "detail"], ["pageview", ""]]
    assert columns["product_id"].tolist() == [[rows[1]["product_id"], rows[2]["product_id"]], ["", ""]]
    assert columns["event_time"][0, 1] - columns["event_time"][0, 0] == 10.0
    assert columns["event_time"][1, 1] == 0.0
    assert columns["url"].tolist() == [["/detail", "/detail"], ["/pageview", ""]]
