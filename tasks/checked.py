"""The record of the loads whose tables have passed their checks. It is missing while the tables are checked again."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import expectations
from boat import store
from boat.transform import loads
from tasks.blocks import Platform

PROJECT = Path(__file__).parent.parent / "dbt"
"""The dbt project."""
_FILE = "checked.json"
_SOURCES = (PROJECT, Path(expectations.__file__).parent)


def have_passed(platform: Platform, load_ids: Iterable[str]) -> bool:
    """Return whether exactly these loads have passed, with the present models and expectations."""
    uri = _uri(platform)
    return store.exists(uri) and json.loads(store.read_text(uri)) == _record(load_ids)


def remember(platform: Platform, load_ids: Iterable[str]) -> None:
    """Record that the tables with these loads have passed."""
    store.publish_bytes(json.dumps(_record(load_ids)).encode(), _uri(platform))


def forget(platform: Platform) -> None:
    """Delete the record."""
    store.remove(_uri(platform))


def _record(load_ids: Iterable[str]) -> Mapping[str, str]:
    return {"loads": loads.digest(load_ids), "sources": loads.digest_of_sources(*_SOURCES)}


def _uri(platform: Platform) -> str:
    return store.join(platform.store, _FILE)
