"""Snapshots: examples for training as Parquet files with a manifest, split by time into train, validation and test.

A folder `snapshots/<digest>` contains `recommend.parquet`, `intent.parquet`, `products.parquet` and `manifest.json`.
The digest covers the rows, the queries and the dbt manifest: the same content is the same snapshot.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from boat import kinds, progress
from boat import store as artifacts
from boat.errors import ArtifactError, DataError
from boat.events import DEFAULT_SHOP
from boat.kinds import KINDS
from boat.warehouse import Transaction, Warehouse

SCHEMA_VERSION = 4
RECOMMEND, INTENT, PRODUCTS = "recommend.parquet", "intent.parquet", "products.parquet"
MANIFEST = "manifest.json"

# Without event_count and first_seen_at: they cover the test days, which a model must not see in training.
_PRODUCTS_QUERY = (
    "select shop, product_id, product_name, category, price, description_vector\n"
    "from marts.dim_products where {of_shop}"
)
_EXAMPLES_ORDER, _PRODUCTS_ORDER = ("started_at", "session_key", "position"), ("shop", "product_id")
_MIN_DAYS = 3
_MOST_TEST_DAYS = 7
_ENOUGH_TARGETS = 20_000
"""Items to predict with which the 95 % interval of MRR@20 is about 0.005 wide to each side."""
_ENOUGH_BUYERS = 200
_STRAY_SHARE = 0.1
"""Events after a gap of a day or more are a wrong clock, if their days have less than this share of a usual day."""
_LAST_HOUR = 23
_BATCH = 2**16
_TAKE_AGAIN = "Delete the folder and run `retrain` again: it takes a new snapshot."


@dataclass(frozen=True)
class Split:
    """Points in time that split the sessions of a snapshot by their start.

    Attributes:
        validation_from: Later sessions are for validation, such as early stopping. Later train events are left out.
        test_from: Later sessions are for the test. Later validation events are left out.
        test_until: Later events are of an incomplete day. Only the model that is released learns from them.
        rule: How the times were chosen, as text for people.
    """

    validation_from: datetime
    test_from: datetime
    test_until: datetime
    rule: str


@dataclass(frozen=True)
class File:
    """One file of a snapshot."""

    rows: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """Content of a snapshot.

    Attributes:
        digest: SHA-256 of all fields below.
        as_of: Time of the newest event that may be in it, UTC.
        window_from: Its sessions started after this time. `None` if it has all sessions.
        split: Its split by time.
        sessions: Number of sessions with at least two items.
        intent: Number of sessions and of buying sessions among the intent examples, by part.
        files: Rows and digest of each file.
        queries: SQL that exported each file.
        dbt_manifest: Digest of the dbt project that built the tables.
        shop: Name of the shop.
        schema_version: Version of the layout, see `SCHEMA_VERSION`.
    """

    digest: str
    as_of: datetime
    window_from: datetime | None
    split: Split
    sessions: int
    intent: Mapping[str, tuple[int, int]]
    files: Mapping[str, File]
    queries: Mapping[str, str]
    dbt_manifest: str
    shop: str
    schema_version: int = SCHEMA_VERSION

    @property
    def purchases(self) -> int:
        """Return the number of buying sessions among the intent examples."""
        return sum(buying for _, buying in self.intent.values())

    @property
    def intent_obstacle(self) -> str | None:
        """Return why no intent model can be trained and evaluated, or `None` if it can."""
        for part, (sessions, buying) in self.intent.items():
            if not 0 < buying < sessions:
                return f"{buying} of {sessions} {part} sessions contain a purchase"
        return None


@dataclass(frozen=True)
class Snapshot:
    """Location and main figures of a snapshot, small enough to pass between tasks.

    Attributes:
        uri: Its folder, or its `s3://` URI.
        digest: Content digest.
        rows: Number of recommend and intent examples together.
        sessions: Number of sessions with at least two items.
        purchases: Number of buying sessions among the intent examples.
        intent_obstacle: Why no intent model can be trained and evaluated. `None` if it can.
        dbt_manifest: Digest of the dbt project that built the tables.
        as_of: Time of the newest event that may be in it, UTC.
        test_from: Start of the test days, UTC.
        split_rule: How the days were split, as text for people.
    """

    uri: str
    digest: str
    rows: int
    sessions: int
    purchases: int
    intent_obstacle: str | None
    dbt_manifest: str
    as_of: datetime
    test_from: datetime
    split_rule: str


def take(
    warehouse: Warehouse,
    store: Path | str,
    *,
    days: int | None = None,
    as_of: datetime | None = None,
    dbt_manifest: str = "",
    test_days: int | None = None,
    validation_days: int | None = None,
    shop: str = DEFAULT_SHOP,
) -> Snapshot:
    """Export the training examples of a shop's sessions started in (as_of - days, as_of].

    Args:
        warehouse: Warehouse with the marts that dbt has built.
        store: Artifact store, a folder or `s3://…`. The snapshot is written to its `snapshots/`.
        days: Length of the window in days. `None`: everything up to `as_of`.
        as_of: End of the window and of the test days, UTC if it has no time zone. `None`: the window ends with the
            newest event, the test days with the last complete day.
        dbt_manifest: Digest of the dbt project, for lineage.
        test_days: Days for the test. `None`: as few as give narrow intervals, at most a seventh of the window, 1 to
            7.
        validation_days: Days for validation, before the test days. `None`: as many as test days.
        shop: Name of the shop.

    Raises:
        DataError: The shop has no examples in the window, or too few to split them in three.
    """
    folder = artifacts.join(str(store), "snapshots")
    with _temporary_folder(folder) as temporary:
        export = Path(temporary) / "snapshot"
        export.mkdir()
        with warehouse.transaction() as transaction:
            end, test_until = (_naive(as_of),) * 2 if as_of else _ends(transaction, shop)
            start = end - timedelta(days=days) if days is not None else None
            queries = _queries(shop, start, end)
            files = {
                name: _export(transaction, sql, export / name, number, len(queries))
                for number, (name, sql) in enumerate(queries.items())
            }
        if not files[RECOMMEND].rows:
            raise DataError(
                f"No session of the shop {shop!r} with two products started in ({start or 'the beginning'}, {end}].",
                "Load events of that time, or increase `days` of `retrain` to read more days.",
            )
        first = first_rows(export / RECOMMEND)
        buyers = _buyers(export / INTENT)
        starts = _session_starts(export / RECOMMEND, first)
        targets = np.diff(first, append=files[RECOMMEND].rows) - 1
        test_days = test_days or _test_days(starts, targets, buyers.starts[buyers.buys], test_until)
        split = _split(starts, end, test_until, test_days, validation_days or test_days)
        manifest = _manifest(
            shop=shop,
            end=end,
            start=start,
            split=split,
            sessions=len(first),
            buyers=buyers,
            files=files,
            queries=queries,
            dbt_manifest=dbt_manifest,
        )
        (export / MANIFEST).write_text(_to_json(manifest), encoding="utf-8")
        uri = _publish(export, artifacts.join(folder, manifest.digest[:16]))
    return Snapshot(
        uri=uri,
        digest=manifest.digest,
        rows=files[RECOMMEND].rows + files[INTENT].rows,
        sessions=manifest.sessions,
        purchases=manifest.purchases,
        intent_obstacle=manifest.intent_obstacle,
        dbt_manifest=dbt_manifest,
        as_of=end,
        test_from=split.test_from,
        split_rule=split.rule,
    )


def read(uri: str | Path, verify: bool = True) -> Manifest:
    """Read the manifest of a snapshot.

    Args:
        uri: Folder of the snapshot. Download a snapshot on S3 first, with `boat.store.fetch`.
        verify: Compare the digest of every file with the manifest.

    Raises:
        ArtifactError: There is no snapshot, it is damaged, or another version of Boat took it.
    """
    folder = Path(uri)
    try:
        content: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        version = content["schema_version"]
        manifest = _manifest_of(content) if version == SCHEMA_VERSION else None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(
            f"{folder} is not a snapshot ({error!r}).", "Take a snapshot and pass its folder."
        ) from error
    if manifest is None:
        raise ArtifactError(
            f"Snapshot {folder} has layout version {version}, but this version of Boat reads only {SCHEMA_VERSION}.",
            "Run `retrain` again: it takes a new snapshot and trains new models on it.",
        )
    if manifest.digest != _content_digest(manifest):
        raise ArtifactError(f"The manifest of snapshot {folder} does not match its digest.", _TAKE_AGAIN)
    for name, file in manifest.files.items() if verify else ():
        if not (folder / name).is_file() or _sha256(folder / name) != file.sha256:
            raise ArtifactError(f"{folder / name} is missing or does not match its digest.", _TAKE_AGAIN)
    return manifest


def _queries(shop: str, start: datetime | None, end: datetime) -> dict[str, str]:
    name = shop.replace("'", "''")
    of_shop = f"shop = '{name}'"
    after = f" and started_at > timestamp '{start}'" if start else ""
    # Events after the end are left out, also of a session that started before it.
    window = f"{of_shop} and started_at <= timestamp '{end}' and event_time <= timestamp '{end}'{after}"
    examples = {
        kind.examples: f"select session_key, shop, started_at, position, {kind.example_columns} "
        f"from marts.{kind.name}_examples\nwhere {window}"
        for kind in map(kinds.load, KINDS)
    }
    return {**examples, PRODUCTS: _PRODUCTS_QUERY.format(of_shop=of_shop)}


def _ends(transaction: Transaction, shop: str) -> tuple[datetime, datetime]:
    """Return the time of a shop's newest event, and the end of its last complete day."""
    days = transaction.query(
        """
        select cast(event_time as date) as day, count(*) as events, max(event_time) as newest
        from marts.fct_session_events where shop = ? group by 1 order by 1
        """,
        [shop],
    ).to_pylist()
    if not days:
        shops = transaction.query("select distinct shop from marts.fct_session_events order by shop")["shop"]
        names = ", ".join(repr(name.as_py()) for name in shops[:10]) or "none"
        raise DataError(
            f"The shop {shop!r} has no events in marts.fct_session_events. Shops with events: {names}.",
            "Load events of this shop, or set `shop` in the platform block.",
        )
    newest = _naive(_without_stray_days(days)[-1]["newest"])
    midnight = newest.replace(hour=0, minute=0, second=0, microsecond=0)
    return newest, midnight + timedelta(days=1) if newest.hour >= _LAST_HOUR else midnight


def _without_stray_days(days: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """Return the days without single events at the end, after a gap."""
    usual = float(np.median([day["events"] for day in days]))
    gaps = [number for number in range(1, len(days)) if (days[number]["day"] - days[number - 1]["day"]).days > 1]
    for gap in reversed(gaps):
        if max(day["events"] for day in days[gap:]) < _STRAY_SHARE * usual:
            days = days[:gap]
    return days


def _naive(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment


def _export(transaction: Transaction, sql: str, path: Path, number: int, files: int) -> File:
    with transaction.watched(lambda share: progress.report(path.name, number + share, files)):
        rows = transaction.export(sql, path, _PRODUCTS_ORDER if path.name == PRODUCTS else _EXAMPLES_ORDER)
    return File(rows, _sha256(path))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def first_rows(path: Path) -> np.ndarray:
    """Return the first row of each session in a file of examples, int64 [sessions]. A session's rows are adjacent.

    The keys are read in batches: all keys of a large shop would be more text than one Arrow array can hold.
    """
    rows, before, last = [], 0, None
    for batch in pq.ParquetFile(path).iter_batches(batch_size=_BATCH, columns=["session_key"]):
        keys = batch.column(0)
        differs = pc.not_equal(keys.slice(1), keys.slice(0, len(keys) - 1)).to_numpy(zero_copy_only=False)
        rows.append(before + np.flatnonzero(np.append(keys[0].as_py() != last, differs)))
        before, last = before + len(keys), keys[-1].as_py()
    return np.concatenate([np.empty(0, np.int64), *rows])


def _session_starts(path: Path, first: np.ndarray) -> np.ndarray:
    """Return the start of each session, datetime64 [sessions], in the order of the file: ascending."""
    started_at = pq.read_table(path, columns=["started_at"])["started_at"].cast("timestamp[us]")
    starts: np.ndarray = started_at.to_numpy()[first].astype("datetime64[us]")
    return starts


def _test_days(starts: np.ndarray, targets: np.ndarray, buyers: np.ndarray, until: datetime) -> int:
    """Return the fewest days with enough targets and buyers, at most a seventh of all days.

    Args:
        starts: Start of each session, datetime64 [sessions], ascending.
        targets: Number of its targets, int64 [sessions].
        buyers: Start of each buying session, datetime64 [buying sessions]. Without any, no number is required.
        until: End of the test days.
    """
    span = float((np.datetime64(until) - starts[0]) / np.timedelta64(1, "D"))
    most = min(max(round(span / 7), 1), _MOST_TEST_DAYS)

    def is_enough(days: int) -> bool:
        begin, end = np.datetime64(until - timedelta(days=days)), np.datetime64(until)
        buying = ((buyers >= begin) & (buyers < end)).sum()
        enough_buyers = not len(buyers) or buying >= _ENOUGH_BUYERS
        return bool(enough_buyers and targets[(starts >= begin) & (starts < end)].sum() >= _ENOUGH_TARGETS)

    return next(filter(is_enough, range(1, most)), most)


def _split(starts: np.ndarray, end: datetime, test_until: datetime, test: int, validation: int) -> Split:
    span = (np.datetime64(test_until) - starts[0]) / np.timedelta64(1, "D")
    test_from = test_until - timedelta(days=test)
    rule = f"by days: test the last {test}, validation the {validation} before"
    by_days = Split(test_from - timedelta(days=validation), test_from, test_until, rule)
    if span >= _MIN_DAYS and all(_sizes(starts, by_days)):
        return by_days
    rule = f"by shares of the sessions, 80/10/10 in time: {max(span, 0):.1f} days cannot be cut {rule}"
    validation_from, test_from = (starts[int(len(starts) * share)].item() for share in (0.8, 0.9))
    by_shares = Split(validation_from, test_from, end, rule)
    sizes = _sizes(starts, by_shares)
    if not all(sizes):
        raise DataError(
            f"Cannot split {len(starts)} sessions into train, validation and test: "
            f"the parts would have {'/'.join(map(str, sizes))} sessions.",
            "Load events of more days.",
        )
    return by_shares


def _sizes(starts: np.ndarray, split: Split) -> tuple[int, int, int]:
    cuts = np.array([split.validation_from, split.test_from, split.test_until], "datetime64[us]")
    train, not_test, all_of_them = np.searchsorted(starts, cuts)
    return int(train), int(not_test - train), int(all_of_them - not_test)


def _manifest(
    *,
    shop: str,
    end: datetime,
    start: datetime | None,
    split: Split,
    sessions: int,
    buyers: "_Buyers",
    files: Mapping[str, File],
    queries: Mapping[str, str],
    dbt_manifest: str,
) -> Manifest:
    unsigned = Manifest(
        digest="",
        as_of=end,
        window_from=start,
        split=split,
        sessions=sessions,
        intent=_intent_sessions(buyers, split),
        files=files,
        queries=queries,
        dbt_manifest=dbt_manifest,
        shop=shop,
    )
    return Manifest(**{**vars(unsigned), "digest": _content_digest(unsigned)})


class _Buyers(NamedTuple):
    """Start of each session of the intent examples, datetime64 [sessions], and whether it buys, bool [sessions]."""

    starts: np.ndarray
    buys: np.ndarray


def _buyers(path: Path) -> _Buyers:
    first = first_rows(path)
    buys = pq.read_table(path, columns=["is_purchase"])["is_purchase"].to_numpy()[first].astype(bool)
    return _Buyers(_session_starts(path, first), buys)


def _intent_sessions(buyers: _Buyers, split: Split) -> dict[str, tuple[int, int]]:
    """Return the number of sessions and of buying sessions in each part."""
    sizes = _sizes(buyers.starts, split)
    ends = np.cumsum(sizes)
    return {
        part: (size, int(buyers.buys[end - size : end].sum()))
        for part, size, end in zip(("train", "validation", "test"), sizes, ends, strict=True)
    }


def _content_digest(manifest: Manifest) -> str:
    content = {name: value for name, value in asdict(manifest).items() if name != "digest"}
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=datetime.isoformat).encode()).hexdigest()


def _to_json(manifest: Manifest) -> str:
    return json.dumps(asdict(manifest), indent=2, default=datetime.isoformat) + "\n"


def _manifest_of(content: Mapping[str, Any]) -> Manifest:
    split = content["split"]
    moments = {name: datetime.fromisoformat(split[name]) for name in ("validation_from", "test_from", "test_until")}
    window_from = content["window_from"]
    return Manifest(
        **{
            **content,
            "as_of": datetime.fromisoformat(content["as_of"]),
            "window_from": datetime.fromisoformat(window_from) if window_from else None,
            "split": Split(**moments, rule=split["rule"]),
            "intent": {part: tuple(counts) for part, counts in content["intent"].items()},
            "files": {name: File(**file) for name, file in content["files"].items()},
        }
    )


def _temporary_folder(folder: str) -> "tempfile.TemporaryDirectory[str]":
    """Create a temporary folder. For a local store it is on the same file system, so that a rename publishes it."""
    if artifacts.is_remote(folder):
        return tempfile.TemporaryDirectory(prefix="taking-")
    Path(folder).mkdir(parents=True, exist_ok=True)
    return tempfile.TemporaryDirectory(prefix=".taking-", dir=folder)


def _publish(export: Path, uri: str) -> str:
    """Publish a snapshot, unless the store has it already. A damaged snapshot in a local store is replaced."""
    if artifacts.is_remote(uri):
        return uri if artifacts.exists(uri) else artifacts.publish(export, uri)
    target = Path(uri)
    if target.exists() and not _is_intact(target):
        shutil.rmtree(target)
    try:
        os.rename(export, target)
    except OSError:
        read(target)  # the same snapshot, perhaps of another process; raises if it is not one
    return uri


def _is_intact(folder: Path) -> bool:
    try:
        read(folder)
    except ArtifactError:
        return False
    return True
