"""Recommenders use the page that a shopper is on, if the sessions have pages."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf
from scipy import sparse

from boat.models import archive, examples, sessions
from boat.models.examples import Sessions
from boat.models.export import export
from boat.models.fitted import FittedModel
from boat.models.graphs import pages_of
from boat.models.pages import named
from boat.models.served import SavedModel
from boat.models.sessions import SessionEvent
from boat.recommend import counts, family
from boat.recommend.graph import OUTPUTS
from boat.recommend.parameters import RecommendModel, RecommendParameters
from boat.recommend.scores import PageScores

CATEGORIES, PER_CATEGORY = 8, 5
DAY = 86_400


def _browsed(begin: int, end: int, pages: bool) -> Sessions:
    """Return sessions, one an hour, that alternate between a category page and one of its products."""
    draw = np.random.default_rng(begin)
    rows: list[dict[str, Any]] = []
    for number in range(begin, end):
        for step in range(4):
            category = draw.integers(CATEGORIES)
            row = {
                "event_time": np.datetime64("2024-05-01T00:00", "us") + np.timedelta64(3600 * number + 10 * step, "s")
            }
            row |= {
                "session_key": number,
                "event_type": "detail",
                "product_id": f"p{category}-{draw.integers(PER_CATEGORY)}",
            }
            rows.append(row | ({"url_before": f"/category/{category}"} if pages else {}))
    return Sessions(pa.Table.from_pylist(rows), np.arange(0, len(rows) + 1, 4))


def _fitted(model: RecommendModel, pages: bool) -> FittedModel:
    parts = [_browsed(*hours, pages) for hours in ((0, 400), (400, 460), (0, 460))]
    quick = RecommendParameters(model=model, dimensions=8, window=4, epochs=1, refit_epochs=0)
    return family.fit(*parts, quick, lambda row: None)


def _served(fitted: FittedModel, path: Path) -> SavedModel:
    about: dict[str, Any] = {"kind": "recommend", "model": "", "outputs": OUTPUTS, "parameters": {}, "metrics": {}}
    export(fitted.graph, path / "model.tar.gz", **about, snapshot_digest="", products=fitted.products)
    archive.unpack(path / "model.tar.gz", path / "model", archive.digest(path / "model.tar.gz"))
    return SavedModel(path / "model")


@pytest.mark.parametrize("model", ["co_occurrence", "blend"])
def test_pages_improve_a_model_if_they_lead_to_products(tmp_path: Path, model: RecommendModel) -> None:
    without, fitted = _fitted(model, pages=False), _fitted(model, pages=True)
    assert fitted.metrics["weight_pages"] > 0
    assert fitted.metrics["validation_mrr"] > 2 * without.metrics["validation_mrr"]
    product_view: SessionEvent = {"event_type": "detail", "product_id": "p1-1", "url": "/p1-1", "event_time": 1.0}
    category_page: SessionEvent = {"event_type": "pageview", "url": "/category/3", "event_time": 9.0}
    unknown_page: SessionEvent = {"event_type": "pageview", "url": "/nobody has been here", "event_time": 20.0}
    served = _served(fitted, tmp_path)
    browsed = [
        [product_view, category_page],
        [category_page, product_view],
        [product_view, category_page, unknown_page],
        [product_view],
        [category_page],
        [unknown_page],
    ]
    page_last, page_first, unknown_last, no_page, only_page, only_unknown = served.predict(sessions.instances(browsed))
    assert sum(name.startswith("p3-") for name in page_last["product_id"][:PER_CATEGORY]) >= PER_CATEGORY - 1
    # Only the newest page counts, and an unknown page changes nothing.
    for unchanged in (page_first, unknown_last):
        assert unchanged["score"] == pytest.approx(no_page["score"])
    # A known page is enough, even without a product.
    assert {name[:3] for name in only_page["product_id"][:PER_CATEGORY]} == {"p3-"}
    assert {name[:3] for name in only_unknown["product_id"][:PER_CATEGORY]} != {"p3-"}


def test_searches_and_cart_actions_lead_to_products_as_pages_do(tmp_path: Path) -> None:
    pages = {1: "search:category 1", 2: "add:p5-0", 3: "remove:p5-0"}
    parts = [_with_pages(_browsed(*hours, pages=True), pages) for hours in ((0, 400), (400, 460), (0, 460))]
    quick = RecommendParameters(model="co_occurrence", dimensions=8, window=4, epochs=1, refit_epochs=0)
    served = _served(family.fit(*parts, quick, lambda row: None), tmp_path)
    product_view: SessionEvent = {"event_type": "detail", "product_id": "p5-0", "url": "/p5-0"}
    searched: SessionEvent = {"event_type": "search", "query": "Category 1"}
    added: SessionEvent = {"event_type": "add", "product_id": "p5-0", "url": "/p5-0"}
    removed: SessionEvent = {"event_type": "remove", "product_id": "p5-0"}
    category_page: SessionEvent = {"event_type": "pageview", "url": "/category/4"}
    browsed = [
        [product_view, searched],
        [product_view, added],
        [product_view, added, removed],
        [product_view, added, category_page],
        [searched],
    ]
    for answer, category in zip(served.predict(sessions.instances(browsed)), (1, 2, 3, 4, 1), strict=True):
        assert sum(name.startswith(f"p{category}-") for name in answer["product_id"][:PER_CATEGORY]) >= PER_CATEGORY - 1


def _with_pages(part: Sessions, pages: dict[int, str]) -> Sessions:
    """Return the sessions with some category pages replaced."""
    names = {f"/category/{category}": page for category, page in pages.items()}
    before = [names.get(page, page) for page in part.events["url_before"].to_pylist()]
    column = part.events.column_names.index("url_before")
    return Sessions(part.events.set_column(column, "url_before", pa.array(before)), part.offsets)


def test_a_model_of_sessions_without_pages_has_no_page_scores() -> None:
    fitted = _fitted("co_occurrence", pages=False)
    assert "weight_pages" not in fitted.metrics
    assert [type(part).__name__ for part in fitted.graph.submodules if "Scores" in type(part).__name__] == [
        "FollowerScores"
    ]


def test_followers_of_a_page_are_weighted_by_steps_and_age() -> None:
    # Session 1: page 1, product 1, page 2, product 2. Session 2 is a half-life newer: page 1, product 2, product 1.
    follows = counts.page_followers(
        np.array([1, 2, 1, 0]), np.array([1, 2, 2, 1]), np.array([0, 2, 4]), np.array([0.5, 0.5, 1, 1]), (2, 2)
    )
    step = counts.DECAY
    np.testing.assert_allclose(follows.toarray(), [[0, 0, 0], [0, 0.5 + 1 * step, 1 + 0.5 * step], [0, 0, 0.5]])


def test_a_page_with_many_followers_keeps_the_most_frequent() -> None:
    codes = np.repeat(np.arange(1, 301), np.arange(300, 0, -1))
    offsets = np.arange(len(codes) + 1)
    follows = counts.page_followers(np.ones_like(codes), codes, offsets, np.ones(len(codes)), (1, 300))
    assert follows[1].indices.tolist() == list(range(1, 101))
    assert follows[1].data.tolist() == list(range(300, 200, -1))


URLS = {
    "/mugs": "/mugs",
    "https://shop.example/mugs?gclid=a1": "https://shop.example/mugs",
    "/mugs?utm_source=mail&utm_medium=x&size=2#top": "/mugs?size=2",
    "/mugs?size=2&fbclid=b2": "/mugs?size=2",
    "/mugs?size=2&fbclid=b2&colour=red": "/mugs?size=2&colour=red",
    "/mugs?mygclid=1&utm_id": "/mugs?mygclid=1&utm_id",
    "/app#/mugs/7": "/app#/mugs/7",
    "/mugs#": "/mugs",
    "search:  Blue MÜG ": "search:blue müg",
    "search:mug": "search:mug",
    "/Search:Mug": "/Search:Mug",
    "": "",
}


def test_the_name_of_a_page_has_no_tracking_parameters() -> None:
    assert named(pa.array(URLS, pa.string())).to_pylist() == list(URLS.values())
    assert [name.decode() for name in pages_of(tf.constant(list(URLS))).numpy()] == list(URLS.values())


def test_a_url_with_tracking_parameters_is_the_same_page() -> None:
    part = Sessions(pa.table({"url_before": ["/a?gclid=1", "/a", "/a?gclid=2#b"]}), np.array([0, 1, 2, 3]))
    assert part.shared_pages.tolist() == ["/a"]
    scores = PageScores(np.array(["/a"], object), sparse.csr_matrix([[0, 0, 0], [0, 3, 1]]))
    assert scores(tf.zeros([1, 4], tf.int32), tf.constant(["/a?utm_source=mail"])).numpy().tolist() == [[3, 1]]


def test_a_page_of_only_one_session_is_not_used() -> None:
    pages = ["/a", "/a", "/b", "/c", "/b", "", "/b", "/c", None]
    part = Sessions(pa.table({"url_before": pages}), np.array([0, 3, 6, 9]))
    assert part.shared_pages.tolist() == ["/b", "/c"]


def test_scores_of_pages_equal_the_counts_of_their_followers() -> None:
    scores = PageScores(np.array(["/a", "/b"], object), sparse.csr_matrix([[0, 0, 0], [0, 3, 1], [0, 0, 2.0]]))
    recent = tf.zeros([3, 4], tf.int32)
    assert scores(recent, tf.constant(["/b", "", "/a"])).numpy().tolist() == [[0, 2], [0, 0], [3, 1]]
    assert not scores(recent).numpy().any()


def test_a_model_gets_the_page_before_the_target() -> None:
    part = _browsed(0, 2, pages=True)
    columns = examples.columns(part, np.array([0, 1, 1]), np.array([3, 1, 4]), longest=2)
    pages = part.strings("url_before")
    assert columns["event_type"].tolist() == [
        ["detail", "detail", "pageview"],
        ["detail", "pageview", ""],
        ["detail", "detail", ""],  # all events: no target follows, so there is no page before it
    ]
    assert columns["url"].tolist() == [["", "", pages[3]], ["", pages[5], ""], ["", "", ""]]
    assert columns["event_time"][0, 2] == columns["event_time"][0, 1]
