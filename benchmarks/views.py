"""Read files of product views for benchmarks: Parquet, or tab separated like Serenade's."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from pandas.api.types import is_numeric_dtype

from boat.models.examples import Sessions

_TAB_SEPARATED = {"SessionId": "session_id", "ItemId": "product_id", "Time": "event_time"}


def read(path: Path) -> pd.DataFrame:
    """Read views `session_id, product_id, event_time`, sessions by their start and views by their time.

    Args:
        path: Parquet with these columns, or tab separated `SessionId ItemId Time`. Times are UTC; numbers are seconds
            since 1970.
    """
    if path.suffix == ".parquet":
        views = pd.read_parquet(path, columns=list(_TAB_SEPARATED.values()))
    else:
        views = pd.read_csv(path, sep="\t", dtype={"SessionId": str, "ItemId": str}).rename(columns=_TAB_SEPARATED)
    unit = "s" if is_numeric_dtype(views["event_time"]) else None
    views["event_time"] = pd.to_datetime(views["event_time"], unit=unit, utc=True)
    views = views[views["product_id"].notna()].astype({"session_id": str, "product_id": str})
    views["started_at"] = views.groupby("session_id")["event_time"].transform("min")
    return views.sort_values(["started_at", "session_id", "event_time"], kind="stable", ignore_index=True)


def split(views: pd.DataFrame, share: float) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Split views into the newest `share` of all sessions and the views before; later views of others are dropped."""
    begins = views.drop_duplicates("session_id")["started_at"]
    start = begins.quantile(1 - share)
    return views[views["event_time"] < start], views[views["started_at"] >= start]


def collapsed(views: pd.DataFrame) -> pd.DataFrame:
    """Drop views of the product that the session has just viewed."""
    same = (views["session_id"] == views["session_id"].shift()) & (views["product_id"] == views["product_id"].shift())
    return views[~same]


def sessions(views: pd.DataFrame) -> Sessions:
    """Return the views as `detail` events."""
    begins = np.flatnonzero(views["session_id"] != views["session_id"].shift())
    times = views["event_time"].dt.tz_localize(None).astype("datetime64[us]")
    events = pa.table(
        {
            "event_time": pa.array(times),
            "event_type": pa.array(["detail"] * len(views), pa.string()),
            "product_id": pa.array(views["product_id"], pa.string()),
        }
    )
    return Sessions(events, np.append(begins, len(views)).astype(np.int64))
