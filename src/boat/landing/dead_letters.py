"""Rows that cannot be taken: why, and what a load does about them."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

OnBadRows = Literal["stop", "quarantine"]

MAX_PAYLOAD = 32_000
"""Characters of a row that are kept with what is wrong with it."""
FEW = 100
"""So many bad rows of a file never stop a load that keeps them apart, whatever their share."""


class Reason(StrEnum):
    """Why a row is in `raw.dead_letters`. What the collector did not take has a reason of `boat.collect.CollectReason`.

    The values are a contract, and those of one name are the same in both.
    """

    NOT_JSON = "not_json"
    NOT_AN_OBJECT = "not_an_object"
    NOT_UTF8 = "not_utf8"
    TOO_LARGE = "too_large"
    BAD_CHARACTER = "bad_character"
    WRONG_FIELD_COUNT = "wrong_field_count"
    MISSING = "missing"
    WRONG_TYPE = "wrong_type"
    UNKNOWN_EVENT_TYPE = "unknown_event_type"
    NOT_A_TIME = "not_a_time"
    TIME_OUT_OF_RANGE = "time_out_of_range"
    NOT_A_NUMBER = "not_a_number"
    OUT_OF_RANGE = "out_of_range"
    UNKNOWN_SCHEMA_VERSION = "unknown_schema_version"
    ID_CONFLICT = "id_conflict"
    UNUSED = "unused"
    """An event of a type that is understood and not used: it is counted, and is no dead letter."""


@dataclass(frozen=True)
class BadRows:
    """What a load does about rows that cannot be taken.

    Rows of the collector's files are always kept apart: nobody is there to correct them. So is an event whose id
    another one has: the first wins.

    Attributes:
        do: `stop` loads nothing and names the first; `quarantine` puts them into `raw.dead_letters`.
        max_share: A file with a larger share of bad rows, and more than `FEW`, stops the load all the same: it is
            more likely the wrong file.
    """

    do: OnBadRows = "stop"
    max_share: float = 0.2

    def are_too_many(self, bad: int, received: int) -> bool:
        return bad > FEW and bad > self.max_share * received
