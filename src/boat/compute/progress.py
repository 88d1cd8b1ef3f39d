"""Progress of a job: JSON on marked lines of its output, so that it needs no server."""

import json
from typing import Any

_MARK = "boat-progress "


def report(**fields: Any) -> None:
    """Print one progress line, such as `report(epoch=3, validation_mrr=0.21)`."""
    print(_MARK + json.dumps(fields), flush=True)


def parse(line: str) -> dict[str, Any] | None:
    """Return the fields of a progress line, or None for any other line."""
    if not line.startswith(_MARK):
        return None
    fields: dict[str, Any] = json.loads(line[len(_MARK) :])
    return fields
