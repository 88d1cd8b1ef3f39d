"""The next-item model as it is exported: product ids in, product ids out, nothing left to the caller."""

from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from boat.models import sessions
from boat.models.graphs import EventReader, first
from boat.models.pages import DEEDS
from boat.recommend.scores import PageScores, Scores, codes_of, relative

RECOMMENDED = 20
OUTPUTS = {"product_id": "string", "score": "float32"}

_ITEM_EVENTS = ("detail", "click", "add", "purchase")  # what marts.recommend_examples is made of
_REPEATS = 4  # looking at the same product again must not push older ones out of the window


class RecommendGraph(tf.Module):  # type: ignore[misc]  # TensorFlow has no types
    """Recommends for sessions of strings.

    Reads event types and product ids as `boat.models.graphs` does. Skips padding, unknown products, and events of other
    types. A product that nobody has viewed is looked at as the
    viewed one it is most like. Unless `repeats` are wanted, takes those in a row as one
    and never recommends the session's last product. A session without a known product gets what comes after the page
    it is on, where a model counts that and knows the page, and then the most popular ones.
    `score` falls along the list: what the model scores by, or shares of the popular products. There are
    min(20, products - 1) places. The page that the shopper is on is the newest URL of any event, or what was then put
    into the cart, taken out or bought: see `boat.models.pages`.

    Args:
        scores: The model: scores of all products after windows of codes, and on a page.
        names: Product ids in the order of their codes: most popular first, those that nobody has viewed last.
        shares: How much of all events each viewed product has, float32 [viewed products].
        window: How many products back `scores` looks.
        repeats: Whether a product may follow itself.
        likest: Code of the viewed product that each of the others is most like, int32 [unviewed products].
    """

    def __init__(
        self,
        scores: Scores,
        names: np.ndarray,
        shares: np.ndarray,
        window: int,
        repeats: bool = False,
        likest: np.ndarray | None = None,
    ) -> None:
        super().__init__()
        self._scores, self._window, self._repeats = scores, window, repeats
        self._pages = next((part for part in scores.submodules if isinstance(part, PageScores)), None)
        self._places = min(RECOMMENDED, len(names) - 1)
        self._read = EventReader()
        self._codes = codes_of(names)
        self._names = tf.Variable(names.tolist(), trainable=False, dtype=tf.string)
        self._unviewed = len(names) - len(shares)
        popular = np.pad(shares, (0, self._unviewed))[: self._places + 1]
        self._shares = tf.Variable(popular, trainable=False, dtype=tf.float32)
        others = np.empty(0, np.int32) if likest is None else likest
        self._looked_at_as = tf.constant(np.concatenate([np.arange(len(shares) + 1), others]), tf.int32)

    @tf.function(  # type: ignore[untyped-decorator]
        input_signature=[tf.TensorSpec([None, None], kind, name) for name, kind in sessions.INPUTS.items()]
    )
    def serve(
        self, event_type: tf.Tensor, product_id: tf.Tensor, url: tf.Tensor, event_time: tf.Tensor
    ) -> Mapping[str, tf.Tensor]:
        """The signature `serving_default`."""
        event_type, product_id = self._read(event_type, product_id)
        recent, current = self.windows(event_type, product_id)
        page, known = self.page(event_type, product_id, url), recent[:, :1] > 0
        scores = self._scores(recent, page)
        if self._pages is not None:
            led_to = tf.pad(relative(self._pages(recent, page)), [[0, 0], [0, self._unviewed]])
            scores = tf.where(known, scores, led_to)  # of equals, the most popular are listed first
            known |= tf.reduce_any(led_to > 0, axis=1, keepdims=True)
        scores, indices = tf.math.top_k(scores, self._places + 1)
        scores = tf.where(known, scores, self._shares)
        indices = tf.where(known, indices, tf.range(self._places + 1))
        # Leaves the current product out: from its place on, each place takes the next one's product.
        left_out = 0 if self._repeats else current
        passed = tf.cumsum(tf.cast(indices == left_out - 1, tf.int32), axis=1)[:, : self._places]
        places = tf.range(self._places) + passed
        listed = tf.gather(indices, places, batch_dims=1)
        return {"product_id": tf.gather(self._names, listed), "score": tf.gather(scores, places, batch_dims=1)}

    def windows(self, event_type: tf.Tensor, product_id: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Codes of the last viewed products, newest first [sessions, window], and of the last product [sessions, 1]."""
        item = tf.reduce_any(event_type[:, :, None] == tf.constant(_ITEM_EVENTS), axis=2) & (product_id != "")
        codes = tf.reverse(tf.where(item, self._codes.lookup(product_id), 0), [1])
        current = first(codes, tf.reverse(item, [1]), 1)
        recent = tf.gather(self._looked_at_as, first(codes, codes > 0, _REPEATS * self._window))
        newer = tf.pad(recent[:, :-1], [[0, 0], [1, 0]])
        return first(recent, (recent > 0) & (self._repeats | (recent != newer)), self._window), current

    def page(self, event_type: tf.Tensor, product_id: tf.Tensor, url: tf.Tensor) -> tf.Tensor:
        """The newest URL or deed of each session, string [sessions]; empty where there is none."""
        deed = tf.reduce_any(event_type[:, :, None] == tf.constant(DEEDS), axis=2) & (product_id != "")
        place = tf.where(deed, tf.strings.join([event_type, product_id], ":"), url)
        there = (event_type != "") & (place != "")
        return first(tf.reverse(place, [1]), tf.reverse(there, [1]), 1)[:, 0]
