"""The purchase-intent model as it is exported: events in, the chance of a purchase in this session out."""

from collections.abc import Mapping

import keras
import tensorflow as tf

from boat.events import EVENT_TYPES
from boat.models import sessions
from boat.models.graphs import first, untracked

OUTPUTS = {"purchase": "float32"}
EVENT_CODES = {name: code for code, name in enumerate(EVENT_TYPES, start=1)}
OTHER = len(EVENT_TYPES) + 1
"""Code of an event type that is not in the contract; 0 pads."""


class IntentGraph(tf.Module):  # type: ignore[misc]  # TensorFlow has no types
    """The chance that a session of strings buys, float32 [sessions].

    Skips padding. Events up to a purchase are left out: the question is whether another one follows.

    Args:
        network: Takes windows, see `boat.models.intent.IntentNetwork`; gives log-odds [sessions].
        window: How many events it looks back.
    """

    def __init__(self, network: keras.Model, window: int) -> None:
        super().__init__()
        self._odds, self._weights = untracked(network)
        self._window = window
        self._codes = tf.lookup.StaticHashTable(
            tf.lookup.KeyValueTensorInitializer(list(EVENT_CODES), list(EVENT_CODES.values()), value_dtype=tf.int32),
            OTHER,
        )

    @tf.function(  # type: ignore[untyped-decorator]
        input_signature=[tf.TensorSpec([None, None], kind, name) for name, kind in sessions.INPUTS.items()]
    )
    def serve(
        self, event_type: tf.Tensor, product_id: tf.Tensor, url: tf.Tensor, event_time: tf.Tensor
    ) -> Mapping[str, tf.Tensor]:
        """The signature `serving_default`."""
        bought = tf.cast(event_type == "purchase", tf.int32)
        there = (event_type != "") & (tf.cumsum(bought, axis=1, reverse=True) == 0)
        newest_first = tf.reverse(there, [1])
        # Only whether two products are the same matters, so a hash does.
        hashed = tf.strings.to_hash_bucket_fast(product_id, 2**62) + 1
        product = tf.where(product_id == "", tf.zeros_like(hashed), hashed)
        codes, products, seconds = (
            first(tf.reverse(values, [1]), newest_first, self._window)
            for values in (self._codes.lookup(event_type), product, event_time)
        )
        length = tf.reduce_sum(tf.cast(there, tf.int32), axis=1)
        return {"purchase": tf.sigmoid(self._odds((codes, products, seconds, length)))}
