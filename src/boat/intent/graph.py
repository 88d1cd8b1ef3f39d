"""The purchase-intent model as it is exported: events in, the chance of a purchase in this session out."""

from collections.abc import Mapping

import tensorflow as tf

from boat.intent.features import EVENT_CODES, OTHER, Window
from boat.intent.odds import Odds
from boat.models import sessions
from boat.models.graphs import EventReader, first, seconds

OUTPUTS = {"purchase": "float32"}


class IntentGraph(tf.Module):  # type: ignore[misc]  # TensorFlow has no types
    """The chance that a session of strings buys, float32 [sessions].

    Reads event types, product ids and times as `boat.models.graphs` does. Skips padding, refunds and types that are not
    used. Events up to a purchase are left out: the question is whether another one follows.

    Args:
        odds: Log-odds of windows.
        window: How many events it looks back.
    """

    def __init__(self, odds: Odds, window: int) -> None:
        super().__init__()
        self._odds = odds
        self._window = window
        self._read = EventReader()
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
        types, products = self._read(event_type, product_id)
        return {"purchase": tf.sigmoid(self._odds(self.window(types, products, url, seconds(event_time))))}

    def window(self, event_type: tf.Tensor, product_id: tf.Tensor, url: tf.Tensor, event_time: tf.Tensor) -> Window:
        """Return what the model looks at of sessions in the words of the contract."""
        bought = tf.cast(event_type == "purchase", tf.int32)
        there = (event_type != "") & (tf.cumsum(bought, axis=1, reverse=True) == 0)
        newest_first = tf.reverse(there, [1])
        columns = (self._codes.lookup(event_type), _numbers(product_id), _numbers(url), event_time)
        codes, products, pages, times = (
            first(tf.reverse(values, [1]), newest_first, self._window) for values in columns
        )
        return Window(codes, products, pages, times, tf.reduce_sum(tf.cast(there, tf.int32), axis=1))


def _numbers(strings: tf.Tensor) -> tf.Tensor:
    """Only whether two are the same matters, so a hash does; 0 for the empty string."""
    hashed = tf.strings.to_hash_bucket_fast(strings, 2**62) + 1
    return tf.where(strings == "", tf.zeros_like(hashed), hashed)
