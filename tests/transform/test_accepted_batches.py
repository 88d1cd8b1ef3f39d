"""Every row that the loader or the collector accepts passes the build and all critical expectations."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from boat import events, landing, quality, raw_log, warehouse
from boat.collect import Collector, CollectRequest, Policy
from boat.events import EVENT_TYPES, MAX_PRICE, MAX_QUANTITY, MISSING_WORDS
from expectations import suites
from tests.transform.conftest import build

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:`schema_name` is deprecated:DeprecationWarning"),
]
COLLECTED = "20240101T100000-0a1b2c3d.ndjson"
NOW = datetime.now(UTC).replace(tzinfo=None, microsecond=0)

TEXTS = st.one_of(
    st.sampled_from(["a", "b", "7", "7.0", " 7 ", "shop", "s:1", "client:a", *MISSING_WORDS, "é\"'{}%s\\", "x" * 250]),
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=6),
    st.integers(-(10**20), 10**20),
    st.floats(allow_nan=False, allow_infinity=False),
    st.booleans(),
    st.none(),
)
TIMES = st.one_of(
    st.sampled_from(
        [NOW, NOW - timedelta(days=7), NOW + timedelta(hours=1), events.EARLIEST, NOW + timedelta(hours=23)]
    ),
    st.datetimes(datetime(1, 1, 2), datetime(9999, 1, 1)),
    st.integers(-(10**19), 10**19),
    st.sampled_from(["20191001120000", "1980-01-01T00:00:10Z", "2019-10-01 12:00:00 PST", "yesterday", ""]),
)
AMOUNTS = st.one_of(
    st.sampled_from(
        [0, -1, 1, "9.5", "-4.99", "nan", MAX_PRICE, -MAX_PRICE, MAX_QUANTITY, -MAX_QUANTITY, 1e300, "inf"]
    ),
    st.floats(),
    st.none(),
)
TYPES = st.sampled_from([*EVENT_TYPES, "purchase", "refund", "view", "scroll", "Add to Cart", "teleport"])


@st.composite
def rows(draw: st.DrawFn) -> dict[str, Any]:
    return {
        "event_time": draw(TIMES),
        "event_type": draw(TYPES),
        "shop": draw(st.sampled_from([None, "shop", "other", "s:1"])),
        "session_id": draw(TEXTS),
        "client_id": draw(TEXTS),
        "product_id": draw(TEXTS),
        "url": draw(TEXTS),
        "query": draw(TEXTS),
        "price": draw(AMOUNTS),
        "quantity": draw(AMOUNTS),
        "tax": draw(AMOUNTS),
        "shipping": draw(AMOUNTS),
        "transaction_id": draw(TEXTS),
        "results": draw(st.sampled_from([None, [], ["p"], "many", {"a": 1}])),
    }


@settings(
    max_examples=2,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # no shrinking: every attempt takes a build
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.large_base_example,
        HealthCheck.data_too_large,
    ],
)
@given(batch=st.lists(rows(), min_size=100, max_size=150))
def test_every_accepted_row_passes_the_build_and_the_critical_expectations(
    tmp_path_factory: pytest.TempPathFactory, batch: list[dict[str, Any]]
) -> None:
    folder = tmp_path_factory.mktemp("batch")
    files = folder / "landing"
    (files / "events").mkdir(parents=True)
    lines = [json.dumps(row, default=str) for row in batch]
    (files / "export.ndjson").write_text("\n".join([*lines, *lines[::3], ""]))
    (files / "events" / COLLECTED).write_bytes(_collected(lines, batch))
    shop = warehouse.connect(f"duckdb:///{folder / 'warehouse.duckdb'}")
    report = raw_log.load(shop, files, landing.BadRows("quarantine", max_share=1))
    collected = next(file for file in report.files if file.source_file.endswith(COLLECTED))
    assert collected.failed == 0, "the loader refuses what the collector accepted"
    assert report.accepted > len(batch) // 10
    _load_plain_session(shop, folder)
    built = build(shop, folder, "--exclude", "resource_type:unit_test")
    assert built.code == 0, built.output
    quality.raise_for(quality.check(shop, suites(), folder / "reports"))


def _collected(lines: list[str], batch: list[dict[str, Any]]) -> bytes:
    collector = Collector(Policy(burst=10**6))
    requests = [CollectRequest("POST", "", {}, "203.0.113.7", f"[{','.join(lines)}]".encode())]
    requests += [
        CollectRequest(
            "GET", urlencode({"v": 1, "cid": "9.9", "pa": "purchase", "pr1id": "a", **amounts}), {}, "203.0.113.7"
        )
        for row in batch
        if (amounts := {"pr1pr": row["price"], "pr1qt": row["quantity"], "tt": row["tax"], "ts": row["shipping"]})
    ]
    return b"".join(collector.take(request).accepted for request in requests)


def _load_plain_session(shop: warehouse.Warehouse, folder: Path) -> None:
    """Load a session of three views, so that no table is empty."""
    plain = "event_time,event_type,session_id,product_id"
    views = [f"{NOW - timedelta(minutes=minutes)},view,plain,p{minutes}" for minutes in (9, 8, 7)]
    (folder / "plain.csv").write_text("\n".join([plain, *views, ""]))
    raw_log.load(shop, folder / "plain.csv")
