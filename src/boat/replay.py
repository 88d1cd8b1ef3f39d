"""Replay: the raw log rebuilt from the landing files beside the live one, compared day by day, and put in its place.

Only files in the ledger are read, in the order in which they were loaded, so that the first of two events with one id
is the same again. What was never loaded is the ingestion's to load.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path

from boat import raw_log
from boat.errors import DataError, SettingError
from boat.events import COLUMNS
from boat.landing import BadRows
from boat.landing.bucket import fetched, is_bucket
from boat.landing.files import LandingFile, digest, discover
from boat.landing.loading import load_files
from boat.warehouse import Session, Warehouse

SCHEMA = "raw_replay"
"""Where the raw log is rebuilt; dropped at the end."""
MAX_DAYS = 400

_LIVE = raw_log.SCHEMA
_CONTENT = ", ".join([*(column.name for column in COLUMNS), "schema_version", "extra"])
_DAY = "cast(event_time as date)"
_AS_LOADED = BadRows("keep_apart", max_share=1)  # what these files hold was accepted before


@dataclass(frozen=True)
class Day:
    """One day of the raw log, live and rebuilt.

    Attributes:
        day: By the events' time, UTC.
        live: Events there are.
        rebuilt: Events that the landing files give.
        only_live: Of the live ones, those that the landing files do not give, or not with this content.
        only_rebuilt: Of the rebuilt ones, those that are not there, or not with this content.
        swapped: Whether the rebuilt ones are there now.
    """

    day: date
    live: int
    rebuilt: int
    only_live: int
    only_rebuilt: int
    swapped: bool = False

    @property
    def differs(self) -> bool:
        return self.live != self.rebuilt or self.only_live + self.only_rebuilt > 0


@dataclass(frozen=True)
class Replay:
    """What a replay found.

    Attributes:
        days: Those of the range that have any event, live or rebuilt.
        files: Number of files that were read.
        lost: Loaded files that are no longer in the landing folder: what they held cannot be rebuilt.
    """

    days: tuple[Day, ...]
    files: int
    lost: tuple[str, ...]

    @property
    def differing(self) -> tuple[Day, ...]:
        return tuple(day for day in self.days if day.differs)


def replay(warehouse: Warehouse, source: Path | str, first: date, last: date, *, swap: bool = False) -> Replay:
    """Rebuild the raw log from the landing files, and compare the events of some days with the live ones.

    Args:
        warehouse: Where the raw log is.
        source: The landing folder, or `s3://BUCKET/PREFIX`, all of which is fetched.
        first: First day, UTC.
        last: Last day, itself included; at most `MAX_DAYS` in all.
        swap: Put the rebuilt events in the place of the live ones on the days that differ, in one transaction. Done
            again, it changes nothing. The tables made of the raw log have to be built anew afterwards.

    Raises:
        SettingError: No such range.
        DataError: Days are to be swapped that hold events of files that are gone, or that moved to other days.
    """
    if not timedelta(0) <= last - first < timedelta(days=MAX_DAYS):
        raise SettingError(f"{first} to {last} is no range of 1 to {MAX_DAYS} days.", "Take a part of it at a time.")
    if isinstance(source, str) and is_bucket(source):
        with fetched(source, lambda _name, _at: True) as folder:
            return replay(warehouse, folder, first, last, swap=swap)
    with warehouse.exclusive():
        with warehouse.session() as session:
            raw_log.ensure(session)
            files, lost = _loaded_files(session, Path(source))
            session.execute(f"drop schema if exists {SCHEMA} cascade")
        try:
            load_files(warehouse, files, _AS_LOADED, SCHEMA)
            with warehouse.session() as session:
                found = Replay(_compared(session, first, last), len(files), lost)
                return _swapped(session, found) if swap and found.differing else found
        finally:
            with warehouse.session() as session:
                session.execute(f"drop schema if exists {SCHEMA} cascade")


def _loaded_files(session: Session, source: Path) -> tuple[tuple[LandingFile, ...], tuple[str, ...]]:
    """Files of the ledger in the order they were loaded, and the names of those that are gone."""
    ledger = session.query(
        f"""select digest, source_file from {_LIVE}.loads where kind <> '{raw_log.ERASED}'
        order by loaded_at, source_file"""
    ).to_pylist()
    there = {digest(file): file for file in discover(source)[0]}
    found = tuple(there[row["digest"]] for row in ledger if row["digest"] in there)
    return found, tuple(row["source_file"] for row in ledger if row["digest"] not in there)


def _compared(session: Session, first: date, last: date) -> tuple[Day, ...]:
    live, rebuilt = (
        f"(select {_DAY} as day, {_CONTENT} from {schema}.events where {_DAY} between date '{first}' and date '{last}')"
        for schema in (_LIVE, SCHEMA)
    )
    parts = (live, rebuilt, f"({live} except {rebuilt})", f"({rebuilt} except {live})")
    names = ("live", "rebuilt", "only_live", "only_rebuilt")
    counts = " union all ".join(
        f"select day, {', '.join(f'{int(name == part_name)} as {name}' for name in names)} from {part} as part"
        for part_name, part in zip(names, parts, strict=True)
    )
    sums = ", ".join(f"cast(sum({name}) as bigint) as {name}" for name in names)
    rows = session.query(f"select day, {sums} from ({counts}) as counted group by day order by day")
    return tuple(Day(**row) for row in rows.to_pylist())


def _swapped(session: Session, found: Replay) -> Replay:
    """Replace the days that differ within the open transaction."""
    days = ", ".join(f"date '{day.day}'" for day in found.differing)
    _refuse_to_lose(session, days)
    session.execute(f"delete from {_LIVE}.events where {_DAY} in ({days})")
    # Under the names that the live ledger has for the same bytes.
    session.execute(
        f"""insert into {_LIVE}.events ({_CONTENT}, load_id, source_file, source_line)
        select {_of("event", _CONTENT)}, ledger.load_id, ledger.source_file, event.source_line
        from {SCHEMA}.events as event
        join {SCHEMA}.loads as again on again.load_id = event.load_id
        join {_LIVE}.loads as ledger on ledger.digest = again.digest
        where {_DAY} in ({days})"""
    )
    return replace(found, days=tuple(replace(day, swapped=day.differs) for day in found.days))


def _refuse_to_lose(session: Session, days: str) -> None:
    gone = session.query(
        f"""select distinct live.source_file as name from {_LIVE}.events as live
        join {_LIVE}.loads as ledger on ledger.load_id = live.load_id and ledger.kind <> '{raw_log.ERASED}'
        left join {SCHEMA}.loads as again on again.digest = ledger.digest
        where cast(live.event_time as date) in ({days})
            and again.digest is null order by 1"""
    )["name"].to_pylist()
    if gone:
        raise DataError(
            f"Days that differ hold events of files that are gone: {_listed(gone)}.",
            "Bring the files back, or leave these days out.",
        )
    moved = session.query(
        f"""select distinct cast(again.event_time as date) as day from {SCHEMA}.events as again
        join {_LIVE}.events as live on live.shop = again.shop and live.event_id = again.event_id
        where (case when cast(live.event_time as date) in ({days}) then 1 else 0 end)
            <> (case when cast(again.event_time as date) in ({days}) then 1 else 0 end) order by 1"""
    )["day"].to_pylist()
    if moved:
        raise DataError(
            f"Events of days that differ lie on other days in the files: {_listed([str(day) for day in moved])}.",
            "Take a range with all of these days.",
        )


def _of(table: str, names: str) -> str:
    return ", ".join(f"{table}.{name}" for name in names.split(", "))


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
