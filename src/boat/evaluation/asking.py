"""Predictions of an exported model for the starts of many sessions."""

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from boat import progress
from boat.models import examples
from boat.models.examples import Sessions
from boat.models.served import SavedModel

MAX_EVENTS = 50
"""The model receives the last events of a start, at most this many."""

_BATCH = 500

Answers = dict[str, np.ndarray]
"""An array [starts, …] for each output of the model."""


Score = Callable[[Mapping[str, np.ndarray]], Answers]
"""Answers an array [starts, events] for each input of a model, as `SavedModel.score` does."""


def batches(score: Score, name: str, part: Sessions, session: np.ndarray, length: np.ndarray) -> Iterator[Answers]:
    """Predict for starts of sessions, 500 at a time.

    Args:
        score: The model.
        name: Its name, for the progress.
        part: The sessions.
        session: Number of the session of each start, int64 [starts].
        length: How many events of the session are in the start, int64 [starts].

    Yields:
        The answers to some of the starts.
    """
    for at in range(0, len(session), _BATCH):
        progress.report(f"predicting with {name}", at, len(session), "predictions")
        yield score(examples.columns(part, session[at : at + _BATCH], length[at : at + _BATCH], MAX_EVENTS))


def answers(model: SavedModel, part: Sessions, session: np.ndarray, length: np.ndarray) -> Answers:
    """Predict with an exported model for all starts of sessions; see `batches`."""
    parts = list(batches(model.score, model.manifest.model, part, session, length))
    return {name: np.concatenate([batch[name] for batch in parts]) for name in parts[0]}
