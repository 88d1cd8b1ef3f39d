"""Bad rows: their reasons, and how a load handles them."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

OnBadRows = Literal["stop", "quarantine"]

MAX_PAYLOAD = 32_000
"""Largest number of characters of a row that are stored with its flaw."""
FEW = 100
"""Number of bad rows of a file that never stop a load that quarantines them, whatever their share."""


class Reason(StrEnum):
    """Reason of a row in `raw.dead_letters`. Rows of the collector have a `boat.collect.CollectReason`.

    The values are a contract; equal names have equal values in both.
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
    """An event of a known type that is not used: it is counted and is not a dead letter."""


@dataclass(frozen=True)
class BadRows:
    """How a load handles bad rows.

    Bad rows of the collector's files are always quarantined, because no person can correct them. So is an event with
    the id of another event: the first one counts.

    Attributes:
        do: `stop` loads nothing and names the first bad row; `quarantine` puts bad rows into `raw.dead_letters`.
        max_share: A file with a larger share of bad rows, and more than `FEW` of them, stops the load in any case: it
            is probably the wrong file.
    """

    do: OnBadRows = "stop"
    max_share: float = 0.2

    def are_too_many(self, bad: int, received: int) -> bool:
        """Return whether the number of bad rows stops the load."""
        return bad > FEW and bad > self.max_share * received
