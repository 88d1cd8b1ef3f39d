"""Boosted trees in TensorFlow agree with scikit-learn, and stop before they overfit."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from boat import snapshot
from boat.intent import boosting
from boat.intent.features import FEATURES, histories
from boat.intent.odds import ForestOdds
from boat.models import examples

Table = tuple[np.ndarray, np.ndarray, np.ndarray]


@pytest.fixture(scope="module")
def table(shop: Path) -> Table:
    """Return features of session starts, whether the sessions buy, and the numbers of the sessions."""
    part = histories(examples.read(shop / snapshot.INTENT, snapshot.read(shop).split, "fit"))
    session, length = part.prefixes(seed=0)
    return part.features(session, length, 30), part.buys[session], session


def test_the_graph_has_the_chances_of_scikit_learn(table: Table) -> None:
    features, _label, _session = table
    boosted = boosting.fit(*table, members=3, leaves=8, most_rounds=60, seed=0)
    odds = ForestOdds(boosted.forest()).of(tf.constant(features)).numpy()
    np.testing.assert_allclose(odds, boosted.log_odds(features), atol=1e-5)
    (alone,) = boosting.fit(*table, members=1, leaves=8, most_rounds=60, seed=0, rounds=40).members
    single = boosting.Boosted((alone,), 40, 0.0)
    chance = tf.sigmoid(ForestOdds(single.forest()).of(tf.constant(features))).numpy()
    np.testing.assert_allclose(chance, alone.predict_proba(features)[:, 1], atol=1e-6)
    assert np.ptp(chance) > 0.3


def test_values_on_thresholds_and_out_of_range_take_the_same_branch(table: Table) -> None:
    boosted = boosting.fit(*table, members=2, leaves=8, most_rounds=40, seed=0)
    forest = boosted.forest()
    draw = np.random.default_rng(0)
    rows = np.tile(table[0][:1], (500, 1))
    thresholds = forest.threshold[forest.left != np.arange(forest.left.shape[1])]
    for column in range(len(FEATURES)):
        rows[:, column] = draw.choice([*thresholds.astype(np.float32), -1e30, 1e30], len(rows))
    np.testing.assert_allclose(ForestOdds(forest).of(tf.constant(rows)).numpy(), boosted.log_odds(rows), atol=1e-5)


def test_boosting_stops_early_on_noise() -> None:
    draw = np.random.default_rng(0)
    features, label = draw.random((600, 5)), draw.random(600) < 0.3
    noise = boosting.fit(features, label, np.arange(600), members=3, leaves=8, most_rounds=400, seed=0)
    clear = boosting.fit(features, features[:, 0] > 0.7, np.arange(600), members=3, leaves=8, most_rounds=400, seed=0)
    assert noise.rounds <= 40
    assert clear.rounds > 80
    assert clear.loss < 0.1 < noise.loss


def test_rows_of_a_session_stay_together_and_the_seed_decides(table: Table) -> None:
    features, label, session = table
    odds = [
        boosting.fit(features, label, session, members=2, leaves=4, most_rounds=20, seed=seed).log_odds(features)
        for seed in (1, 1, 2)
    ]
    assert np.array_equal(odds[0], odds[1])
    assert not np.array_equal(odds[0], odds[2])
    for bag in boosting._bags(label, session, 5, 0):
        inside = {number: set(bag[session == number]) for number in np.unique(session)[:50]}
        assert all(len(values) == 1 for values in inside.values())
