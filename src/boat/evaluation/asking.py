"""How an exported model is asked for many starts of sessions."""

from collections.abc import Iterator

import numpy as np

from boat.models import examples
from boat.models.examples import Sessions
from boat.models.served import SavedModel

LOOKED_AT = 50
"""Of a session, the last so many events are shown."""

_BATCH = 500

Answers = dict[str, np.ndarray]


def batches(model: SavedModel, part: Sessions, session: np.ndarray, shown: np.ndarray) -> Iterator[Answers]:
    """What a model says of starts of sessions, some hundred at a time.

    Args:
        model: Whom to ask.
        part: The sessions.
        session: int64 [asked], numbers of sessions.
        shown: int64 [asked], how many events of each are shown.

    Yields:
        An array [some, …] for each output of the model.
    """
    for at in range(0, len(session), _BATCH):
        yield model.score(examples.columns(part, session[at : at + _BATCH], shown[at : at + _BATCH], LOOKED_AT))


def answers(model: SavedModel, part: Sessions, session: np.ndarray, shown: np.ndarray) -> Answers:
    """The same, all at once: an array [asked, …] for each output."""
    found = list(batches(model, part, session, shown))
    return {name: np.concatenate([batch[name] for batch in found]) for name in found[0]}
