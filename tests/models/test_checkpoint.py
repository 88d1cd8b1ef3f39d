"""An interrupted training resumes after its last complete epoch and has the same result."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from boat import snapshot
from boat.intent import training as intent
from boat.intent.features import histories
from boat.intent.parameters import IntentParameters
from boat.models import examples
from boat.models.checkpoint import Checkpoint, TrainingState
from boat.models.fitting import Trained
from boat.recommend import training as recommend
from boat.recommend.parameters import RecommendParameters

ABOUT = {"seed": 3}

Report = Callable[[Mapping[str, float]], None]
Training = Callable[[Report, Checkpoint | None], Trained]


class LostHostError(Exception):
    pass


@pytest.fixture(params=["recommend", "intent"])
def training(request: pytest.FixtureRequest, shop: Path) -> Training:
    """Return a training of four epochs."""
    split = snapshot.read(shop).split
    if request.param == "intent":
        part = histories(examples.read(shop / snapshot.INTENT, split, "train"))
        parameters = IntentParameters(epochs=4, patience=4, dropout=0.3, seed=3)
        return lambda report, checkpoint: intent.train("sequence", part, part, parameters, report, checkpoint)
    parts = [examples.read(shop / snapshot.RECOMMEND, split, name) for name in ("train", "validation", "fit")]  # type: ignore[arg-type]
    quick = RecommendParameters(dimensions=8, epochs=4, patience=4, refit_epochs=1, seed=3)
    return lambda report, checkpoint: recommend.train(*parts, quick, report, checkpoint).trained


def _lose_host_after(epoch: int) -> Report:
    def report(figures: Mapping[str, float]) -> None:
        if figures["epoch"] == epoch:
            raise LostHostError

    return report


def _epochs_and_result(training: Training, checkpoint: Checkpoint) -> tuple[list[float], Trained]:
    epochs: list[float] = []
    return epochs, training(lambda figures: epochs.append(figures["epoch"]), checkpoint)


def test_an_interrupted_training_resumes_and_has_the_same_result(training: Training, tmp_path: Path) -> None:
    whole = training(lambda figures: None, None)
    checkpoint = Checkpoint(tmp_path / "state.npz", ABOUT)
    with pytest.raises(LostHostError):
        training(_lose_host_after(2), checkpoint)
    epochs, resumed = _epochs_and_result(training, checkpoint)
    assert epochs == [3, 4]
    assert [figures["epoch"] for figures in resumed.curve] == [1, 2, 3, 4]
    # Threads add up in any order, so the last digits differ.
    for whole_weights, resumed_weights in zip(whole.network.get_weights(), resumed.network.get_weights(), strict=True):
        np.testing.assert_allclose(whole_weights, resumed_weights, atol=1e-3)
    assert [figures["loss"] for figures in whole.curve] == pytest.approx(
        [figures["loss"] for figures in resumed.curve], abs=1e-3
    )


def test_a_finished_training_is_not_repeated(training: Training, tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "state.npz", ABOUT)
    with pytest.raises(LostHostError):
        training(_lose_host_after(4), checkpoint)
    epochs, resumed = _epochs_and_result(training, checkpoint)
    assert epochs == []
    assert len(resumed.curve) == 4


@pytest.mark.parametrize("damage", [b"", b"not a checkpoint", None])
def test_a_damaged_or_foreign_checkpoint_is_ignored(tmp_path: Path, damage: bytes | None) -> None:
    path = tmp_path / "state.npz"
    Checkpoint(path, ABOUT).save(TrainingState({"network": [np.ones(3)]}, {"best": 1}))
    state = Checkpoint(path, ABOUT).load()
    assert state is not None
    assert state.arrays["network"][0].tolist() == [1, 1, 1]
    if damage is not None:
        path.write_bytes(damage)
    assert Checkpoint(path, ABOUT if damage is not None else {"seed": 4}).load() is None
    assert Checkpoint(tmp_path / "none", ABOUT).load() is None
