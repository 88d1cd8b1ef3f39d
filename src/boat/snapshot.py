"""Snapshots: examples for training as Parquet files with a manifest, split by time into train, validation and test.

A folder `snapshots/<digest>` contains `recommend.parquet`, `intent.parquet`, `products.parquet` and `manifest.json`.
The digest covers the rows, the queries and the dbt manifest: the same content is the same snapshot.
"""

import hashlib
import json
import os
import shutil
import tempfile
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from boat import kinds, progress
from boat import store as artifacts
from boat.errors import ArtifactError, DataError
from boat.kinds import KINDS
from boat.warehouse import Transaction, Warehouse

SCHEMA_VERSION = 3
RECOMMEND, INTENT, PRODUCTS = "recommend.parquet", "intent.parquet", "products.parquet"
MANIFEST = "manifest.json"

# Without event_count and first_seen_at: they cover the test days, which a model must not see in training.
_PRODUCTS_QUERY = "select shop, product_id, product_name, category, price, description_vector from marts.dim_products"
_EXAMPLES_ORDER, _PRODUCTS_ORDER = ("started_at", "session_key", "position"), ("shop", "product_id")
_MIN_DAYS = 3
_BATCH = 2**16
_TAKE_AGAIN = "Delete the folder and run `retrain` again: it takes a new snapshot."


@dataclass(frozen=True)
class Split:
    """Two points in time that split the sessions of a snapshot by their start.

    Attributes:
        validation_from: Later sessions are for validation, such as early stopping. Later train events are left out.
        test_from: Later sessions are only for the test. Later validation events are left out.
        rule: How the two times were chosen, as text for people.
    """

    validation_from: datetime
    test_from: datetime
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
    """

    uri: str
    digest: str
    rows: int
    sessions: int
    purchases: int
    intent_obstacle: str | None
    dbt_manifest: str
    as_of: datetime


def take(
    warehouse: Warehouse,
    store: Path | str,
    *,
    days: int | None = None,
    as_of: datetime | None = None,
    dbt_manifest: str = "",
    test_days: int | None = None,
    validation_days: int | None = None,
) -> Snapshot:
    """Export the training examples of sessions started in (as_of - days, as_of].

    Args:
        warehouse: Warehouse with the marts that dbt has built.
        store: Artifact store, a folder or `s3://…`. The snapshot is written to its `snapshots/`.
        days: Length of the window in days. `None`: everything up to `as_of`.
        as_of: End of the window, UTC if it has no time zone. `None`: the newest event.
        dbt_manifest: Digest of the dbt project, for lineage.
        test_days: Days for the test, at the end of the window. `None`: a fourteenth of the window, 1 to 7.
        validation_days: Days for validation, before the test days. `None`: as many as test days.

    Raises:
        DataError: The window has no examples, or too few to split them in three.
    """
    folder = artifacts.join(str(store), "snapshots")
    with _temporary_folder(folder) as temporary:
        export = Path(temporary) / "snapshot"
        export.mkdir()
        with warehouse.transaction() as transaction:
            end = _naive(as_of) if as_of else _newest(transaction)
            start = end - timedelta(days=days) if days is not None else None
            queries = _queries(start, end)
            files = {
                name: _export(transaction, sql, export / name, number, len(queries))
                for number, (name, sql) in enumerate(queries.items())
            }
        if not files[RECOMMEND].rows:
            raise DataError(
                f"No session with two products started in ({start or 'the beginning'}, {end}].",
                "Load events of that time, or increase `days` of `retrain` to read more days.",
            )
        first = first_rows(export / RECOMMEND)
        split = _split(_session_starts(export / RECOMMEND, first), end, test_days, validation_days)
        manifest = _manifest(
            export,
            end=end,
            start=start,
            split=split,
            sessions=len(first),
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


def _queries(start: datetime | None, end: datetime) -> dict[str, str]:
    after = f" and started_at > timestamp '{start}'" if start else ""
    # Events after the end are left out, also of a session that started before it.
    window = f"started_at <= timestamp '{end}' and event_time <= timestamp '{end}'{after}"
    examples = {
        kind.examples: f"select session_key, shop, started_at, position, {kind.example_columns} "
        f"from marts.{kind.name}_examples\nwhere {window}"
        for kind in map(kinds.load, KINDS)
    }
    return {**examples, PRODUCTS: _PRODUCTS_QUERY}


def _newest(transaction: Transaction) -> datetime:
    newest = transaction.query("select max(event_time) as newest from marts.fct_session_events")["newest"][0].as_py()
    if newest is None:
        raise DataError(
            "The table marts.fct_session_events has no events.", "Load events and run `ingestion/hourly` first."
        )
    return _naive(newest)


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


def _session_starts(path: Path, first: np.ndarray) -> list[datetime]:
    """Return the start of each session, in the order of the file: ascending."""
    started_at = pq.read_table(path, columns=["started_at"])["started_at"].cast("timestamp[us]")
    starts: list[datetime] = started_at.to_numpy()[first].astype("datetime64[us]").tolist()
    return starts


def _split(starts: Sequence[datetime], end: datetime, test_days: int | None, validation_days: int | None) -> Split:
    span = (end - starts[0]) / timedelta(days=1)
    test = test_days or min(max(round(span / 14), 1), 7)
    validation = validation_days or test
    test_from = end - timedelta(days=test)
    rule = f"by days: test the last {test}, validation the {validation} before"
    by_days = Split(test_from - timedelta(days=validation), test_from, rule)
    if span >= _MIN_DAYS and all(_sizes(starts, by_days)):
        return by_days
    rule = f"by shares of the sessions, 80/10/10 in time: {span:.1f} days cannot be cut {rule}"
    by_shares = Split(starts[int(len(starts) * 0.8)], starts[int(len(starts) * 0.9)], rule)
    sizes = _sizes(starts, by_shares)
    if not all(sizes):
        raise DataError(
            f"Cannot split {len(starts)} sessions into train, validation and test: "
            f"the parts would have {'/'.join(map(str, sizes))} sessions.",
            "Load events of more days.",
        )
    return by_shares


def _sizes(starts: Sequence[datetime], split: Split) -> tuple[int, int, int]:
    train, not_test = bisect_left(starts, split.validation_from), bisect_left(starts, split.test_from)
    return train, not_test - train, len(starts) - not_test


def _manifest(
    folder: Path,
    *,
    end: datetime,
    start: datetime | None,
    split: Split,
    sessions: int,
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
        intent=_intent_sessions(folder, split),
        files=files,
        queries=queries,
        dbt_manifest=dbt_manifest,
    )
    return Manifest(**{**vars(unsigned), "digest": _content_digest(unsigned)})


def _intent_sessions(folder: Path, split: Split) -> dict[str, tuple[int, int]]:
    """Return the number of sessions and of buying sessions in each part."""
    path = folder / INTENT
    first = first_rows(path)
    starts = _session_starts(path, first)
    buys = pq.read_table(path, columns=["is_purchase"])["is_purchase"].to_numpy()[first].astype(bool)
    bounds = [0, bisect_left(starts, split.validation_from), bisect_left(starts, split.test_from), len(starts)]
    return {
        part: (end - begin, int(buys[begin:end].sum()))
        for part, (begin, end) in zip(("train", "validation", "test"), pairwise(bounds), strict=True)
    }


def _content_digest(manifest: Manifest) -> str:
    content = {name: value for name, value in asdict(manifest).items() if name != "digest"}
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=datetime.isoformat).encode()).hexdigest()


def _to_json(manifest: Manifest) -> str:
    return json.dumps(asdict(manifest), indent=2, default=datetime.isoformat) + "\n"


def _manifest_of(content: Mapping[str, Any]) -> Manifest:
    split = content["split"]
    moments = {name: datetime.fromisoformat(split[name]) for name in ("validation_from", "test_from")}
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
