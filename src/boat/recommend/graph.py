"""The exported recommendation model: events in, product ids out, without code on the caller's side."""

from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from boat.models import sessions
from boat.models.graphs import EventReader, first
from boat.models.pages import ACTIONS
from boat.recommend.scores import PageScores, Scores, codes_of, relative

RECOMMENDED = 20
OUTPUTS = {"product_id": "string", "score": "float32"}

_ITEM_EVENTS = ("detail", "click", "add", "purchase")  # event types of marts.recommend_examples
_REPEATS = 4  # repeated views of a product must not push older products out of the window


class RecommendGraph(tf.Module):  # type: ignore[misc]  # TensorFlow has no types
    """Recommends products for sessions of events.

    `boat.models.graphs` reads event types and product ids. Padding, unknown products and other event types are skipped.
    A product without views counts as the most similar viewed product. Without `repeats`, repeats in a row are one
    product, and the last product of the session is never recommended. If a session has no known product, products are
    ranked by its page, if the model knows it, then by popularity. `score` falls along the list: the score of the
    model, or the share of a popular product. The list has min(20, products - 1) products. The page is the newest URL of
    any event, or the newest cart action or purchase: see `boat.models.pages`.

    Args:
        scores: Scores of all products after windows of codes, and on a page.
        names: Product ids in the order of their codes: most popular first, products without views last.
        shares: Share of all events of each viewed product, float32 [viewed products].
        window: Number of products that `scores` reads.
        repeats: Whether a product may follow itself.
        most_similar: Code of the most similar viewed product for each unviewed one, int32 [unviewed products].
    """

    def __init__(
        self,
        scores: Scores,
        names: np.ndarray,
        shares: np.ndarray,
        window: int,
        repeats: bool = False,
        most_similar: np.ndarray | None = None,
    ) -> None:
        super().__init__()
        self._scores, self._window, self._repeats = scores, window, repeats
        self._pages = next((part for part in scores.submodules if isinstance(part, PageScores)), None)
        self._ranks = min(RECOMMENDED, len(names) - 1)
        self._read = EventReader()
        self._codes = codes_of(names)
        self._names = tf.Variable(names.tolist(), trainable=False, dtype=tf.string)
        self._unviewed = len(names) - len(shares)
        popular = np.pad(shares, (0, self._unviewed))[: self._ranks + 1]
        self._shares = tf.Variable(popular, trainable=False, dtype=tf.float32)
        similar_codes = np.empty(0, np.int32) if most_similar is None else most_similar
        self._counts_as = tf.constant(np.concatenate([np.arange(len(shares) + 1), similar_codes]), tf.int32)

    @tf.function(  # type: ignore[untyped-decorator]
        input_signature=[tf.TensorSpec([None, None], kind, name) for name, kind in sessions.INPUTS.items()]
    )
    def serve(
        self, event_type: tf.Tensor, product_id: tf.Tensor, url: tf.Tensor, event_time: tf.Tensor
    ) -> Mapping[str, tf.Tensor]:
        """Answer a request; this is the signature `serving_default`."""
        event_type, product_id = self._read(event_type, product_id)
        recent, current = self.windows(event_type, product_id)
        page, is_known = self.page(event_type, product_id, url), recent[:, :1] > 0
        scores = self._scores(recent, page)
        if self._pages is not None:
            page_scores = tf.pad(relative(self._pages(recent, page)), [[0, 0], [0, self._unviewed]])
            scores = tf.where(is_known, scores, page_scores)  # equal scores are listed by popularity
            is_known |= tf.reduce_any(page_scores > 0, axis=1, keepdims=True)
        scores, indices = tf.math.top_k(scores, self._ranks + 1)
        scores = tf.where(is_known, scores, self._shares)
        indices = tf.where(is_known, indices, tf.range(self._ranks + 1))
        # Leave the current product out: from its rank on, each rank has the next product.
        excluded = 0 if self._repeats else current
        shift = tf.cumsum(tf.cast(indices == excluded - 1, tf.int32), axis=1)[:, : self._ranks]
        ranks = tf.range(self._ranks) + shift
        listed = tf.gather(indices, ranks, batch_dims=1)
        return {"product_id": tf.gather(self._names, listed), "score": tf.gather(scores, ranks, batch_dims=1)}

    def windows(self, event_type: tf.Tensor, product_id: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return codes of the last products, newest first [sessions, window], and of the last one [sessions, 1]."""
        item = tf.reduce_any(event_type[:, :, None] == tf.constant(_ITEM_EVENTS), axis=2) & (product_id != "")
        codes = tf.reverse(tf.where(item, self._codes.lookup(product_id), 0), [1])
        current = first(codes, tf.reverse(item, [1]), 1)
        recent = tf.gather(self._counts_as, first(codes, codes > 0, _REPEATS * self._window))
        newer = tf.pad(recent[:, :-1], [[0, 0], [1, 0]])
        return first(recent, (recent > 0) & (self._repeats | (recent != newer)), self._window), current

    def page(self, event_type: tf.Tensor, product_id: tf.Tensor, url: tf.Tensor) -> tf.Tensor:
        """Return the newest URL or action of each session, string [sessions]; empty if there is none."""
        is_action = tf.reduce_any(event_type[:, :, None] == tf.constant(ACTIONS), axis=2) & (product_id != "")
        page = tf.where(is_action, tf.strings.join([event_type, product_id], ":"), url)
        has_page = (event_type != "") & (page != "")
        return first(tf.reverse(page, [1]), tf.reverse(has_page, [1]), 1)[:, 0]
