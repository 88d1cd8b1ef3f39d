"""Examples contain only events before their target."""

from pathlib import Path

import numpy as np
import pyarrow.compute as pc

from boat import snapshot
from boat.models import examples


def test_a_window_has_the_products_before_its_target_newest_first() -> None:
    codes, offsets = np.array([1, 2, 3, 4, 5]), np.array([0, 3, 5])
    recent, target, _ = examples.windows(codes, offsets, 2)
    assert recent.tolist() == [[1, 0], [2, 1], [4, 0]]
    assert target.tolist() == [2, 3, 5]


def test_unknown_products_are_skipped_in_a_window_but_stay_a_target() -> None:
    recent, target, _ = examples.windows(np.array([1, 0, 2, 0]), np.array([0, 4]), 2)
    assert recent.tolist() == [[1, 0], [1, 0], [2, 1]]
    assert target.tolist() == [0, 2, 0]


def test_sessions_of_unknown_products_have_empty_windows() -> None:
    recent, target, _ = examples.windows(np.array([0, 0]), np.array([0, 2]), 2)
    assert recent.tolist() == [[0, 0]]
    assert target.tolist() == [0]


def test_the_vocabulary_begins_with_the_most_frequent() -> None:
    names, counts = examples.vocabulary(np.array(["b", "c", "a", "c", "a"], dtype=object))
    assert names.tolist() == ["a", "c", "b"]
    assert counts.tolist() == [2, 2, 1]
    assert examples.encode(np.array(["c", "new", "a"], dtype=object), names).tolist() == [2, 0, 1]


def test_sessions_are_cut_after_early_events_and_at_their_end() -> None:
    session, length = examples.cuts(np.array([1, 3, 4, 0, 9]))
    assert list(zip(session.tolist(), length.tolist(), strict=True)) == [
        (0, 1), (1, 1), (1, 2), (1, 3), (2, 1), (2, 2), (2, 4), (4, 1), (4, 2), (4, 4), (4, 6), (4, 8), (4, 9),
    ]  # fmt: skip


def test_no_part_contains_events_of_a_later_part(shop: Path) -> None:
    split = snapshot.read(shop).split
    for name in (snapshot.RECOMMEND, snapshot.INTENT):
        parts = {part: examples.read(shop / name, split, part) for part in ("train", "validation", "fit", "test")}
        assert pc.max(parts["train"].events["event_time"]).as_py() < split.validation_from
        assert pc.min(parts["validation"].events["started_at"]).as_py() >= split.validation_from
        assert pc.max(parts["validation"].events["event_time"]).as_py() < split.test_from
        assert pc.min(parts["test"].events["started_at"]).as_py() >= split.test_from
        assert len(parts["fit"]) == len(parts["train"]) + len(parts["validation"])
        assert (
            sum(len(parts[part]) for part in ("fit", "test"))
            == pc.count_distinct(examples.pq.read_table(shop / name)["session_key"]).as_py()
        )


def test_events_after_the_cut_are_left_out_even_if_their_session_began_before(shop: Path) -> None:
    split = snapshot.read(shop).split
    path = shop / snapshot.RECOMMEND
    whole = examples.read(path, split, "train")
    last = whole.events.slice(int(whole.offsets[-2]))
    assert len(last) >= 2
    cut = snapshot.Split(last["event_time"][1].as_py(), split.test_from, "within the last session")
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
