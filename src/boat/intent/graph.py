"""The exported intent model: its input is events, its output the chance of a purchase in the session."""

from collections.abc import Mapping

import tensorflow as tf

from boat.intent.features import EVENT_CODES, OTHER, Window
from boat.intent.odds import Odds
from boat.models import sessions
from boat.models.graphs import EventReader, first, seconds

OUTPUTS = {"purchase": "float32"}


class IntentGraph(tf.Module):  # type: ignore[misc]  # TensorFlow has no types
    """Graph that computes the chance that each session buys, float32 [sessions], from arrays of strings.

    It reads event types, product ids and times as `boat.models.graphs` does, and skips padding, refunds and unused
    types. Events up to a purchase are left out, because the model predicts whether another purchase follows.

    Args:
        odds: Model that computes the log-odds of windows.
        window: Number of newest events that the model uses.
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
        """Return the chance of a purchase. This is the signature `serving_default`."""
        types, products = self._read(event_type, product_id)
        return {"purchase": tf.sigmoid(self._odds(self.window(types, products, url, seconds(event_time))))}

    def window(self, event_type: tf.Tensor, product_id: tf.Tensor, url: tf.Tensor, event_time: tf.Tensor) -> Window:
        """Return the input of the model for sessions in the format of the contract."""
        bought = tf.cast(event_type == "purchase", tf.int32)
        is_used = (event_type != "") & (tf.cumsum(bought, axis=1, reverse=True) == 0)
        newest_first = tf.reverse(is_used, [1])
        columns = (self._codes.lookup(event_type), _numbers(product_id), _numbers(url), event_time)
        codes, products, pages, times = (
            first(tf.reverse(values, [1]), newest_first, self._window) for values in columns
        )
        return Window(codes, products, pages, times, tf.reduce_sum(tf.cast(is_used, tf.int32), axis=1))


def _numbers(strings: tf.Tensor) -> tf.Tensor:
    """Hash strings to numbers, 0 for the empty string. The models only compare ids for equality."""
    hashed = tf.strings.to_hash_bucket_fast(strings, 2**62) + 1
    return tf.where(strings == "", tf.zeros_like(hashed), hashed)
