"""Networks that turn a session's last products into a direction; products near it are the ones to come."""

from typing import NamedTuple

import keras
import tensorflow as tf

from boat.recommend.parameters import RecommendParameters

_TURN_PENALTY = 0.01  # sessions without a direction in them do better with little of it
_LAYERS, _HEADS = 2, 2  # of the transformer: small, as BERT4Rec is for short sessions
_MASKED = 0.2  # share of a window's products that the transformer has to guess while it learns
_REACH = 5  # how many steps back the skip-gram takes a product as context


class Asked(NamedTuple):
    """What a network answers in a step of its training.

    Attributes:
        directions: Unit vectors, float32 [questions, dimensions].
        wanted: Codes of the right products, int32 [questions].
        seen: Codes of products that the session has seen, newest first, int32 [questions, window]; 0 for none.
    """

    directions: tf.Tensor
    wanted: tf.Tensor
    seen: tf.Tensor


class SessionNetwork(keras.Model):  # type: ignore[misc]  # keras has no types
    """What all of them share: a unit vector for each product, which a session's direction is held against.

    Args:
        products: How many there are; codes run from 1, and 0 pads a window.
        parameters: Sizes and dropout.
    """

    def __init__(self, products: int, parameters: RecommendParameters) -> None:
        super().__init__()
        self.size, self.window = parameters.dimensions, parameters.window
        self.embedding = self.table("embedding", products)
        self.dropout = keras.layers.Dropout(parameters.dropout)

    def table(self, name: str, products: int) -> keras.Variable:
        """A vector for each product, [products + 1, dimensions] by codes."""
        small = keras.initializers.RandomNormal(stddev=0.05)
        return self.add_weight(name=name, shape=(products + 1, self.size), initializer=small)

    def call(self, recent: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Windows, int32 [sessions, window], newest first, to unit vectors [sessions, dimensions].

        What comes out for an empty window has no meaning.
        """
        raise NotImplementedError

    def items(self, recent: tf.Tensor, training: bool) -> tf.Tensor:
        """Embeddings of windows, [sessions, window, dimensions]; some of their values are dropped in training."""
        return self.dropout(tf.gather(self.embedding, recent), training=training)

    def products(self, codes: tf.Tensor | None = None) -> tf.Tensor:
        """Unit vectors of some or all products, [products, dimensions]."""
        chosen = self.embedding[1:] if codes is None else tf.gather(self.embedding, codes)
        return tf.math.l2_normalize(chosen, axis=1)

    def answers(self, codes: tf.Tensor) -> tf.Tensor:
        """Unit vectors that directions are held against in training, [products, dimensions]."""
        return self.products(codes)

    def ask(self, recent: tf.Tensor, target: tf.Tensor) -> Asked:
        """The questions of a step: as the network is asked later, unless it learns in another way."""
        return Asked(self(recent, training=True), target, recent)

    def penalty(self) -> tf.Tensor:
        """Added to the loss."""
        return tf.constant(0.0)


class AttentionNetwork(SessionNetwork):
    """The last product plus an attention-weighted mean of the last few, in the space of the products themselves."""

    def __init__(self, products: int, parameters: RecommendParameters) -> None:
        super().__init__(products, parameters)
        self.position = self.add_weight(name="position", shape=(self.window, self.size), initializer="zeros")
        self.recency = self.add_weight(name="recency", shape=(self.window,), initializer="zeros")
        self.key = keras.layers.Dense(self.size, name="key")
        self.query = keras.layers.Dense(self.size, use_bias=False, name="query")
        self.energy = keras.layers.Dense(1, use_bias=False, name="energy")
        # Without it, what follows a product and what leads to it would be equally near.
        self.turn = keras.layers.Dense(self.size, use_bias=False, kernel_initializer="zeros", name="turn")

    def call(self, recent: tf.Tensor, training: bool = False) -> tf.Tensor:
        """See `SessionNetwork`."""
        items = self.items(recent, training)
        last = items[:, 0]
        energy = self.energy(tf.tanh(self.key(items + self.position) + self.query(last)[:, None]))[:, :, 0]
        weights = tf.nn.softmax(tf.where(recent > 0, energy + self.recency, -1e9))
        pooled = tf.einsum("sw,swd->sd", weights, items)
        return tf.math.l2_normalize(last + pooled + self.turn(tf.concat([last, pooled], axis=1)), axis=1)

    def penalty(self) -> tf.Tensor:
        """See `SessionNetwork`."""
        return _TURN_PENALTY * tf.reduce_sum(tf.square(self.turn.kernel))


class RecurrentNetwork(SessionNetwork):
    """An LSTM that reads the window from its oldest product on."""

    def __init__(self, products: int, parameters: RecommendParameters) -> None:
        super().__init__(products, parameters)
        # Unrolled: a window is short, and the loop of TensorFlow costs more than the products in it.
        self.lstm = keras.layers.LSTM(self.size, unroll=True, name="lstm")
        self.out = keras.layers.Dense(self.size, name="out")

    def call(self, recent: tf.Tensor, training: bool = False) -> tf.Tensor:
        """See `SessionNetwork`."""
        items, there = self.items(recent, training), recent > 0
        state = self.lstm(tf.reverse(items, [1]), mask=tf.reverse(there, [1]))
        return tf.math.l2_normalize(items[:, 0] + self.out(self.dropout(state, training=training)), axis=1)


class MaskedNetwork(SessionNetwork):
    """A small transformer that learns by guessing masked products, as BERT4Rec (Sun et al., CIKM 2019).

    What comes next is one more masked product in front of the window.
    """

    def __init__(self, products: int, parameters: RecommendParameters) -> None:
        super().__init__(products, parameters)
        small = keras.initializers.RandomNormal(stddev=0.05)
        self.mask = self.add_weight(name="mask", shape=(self.size,), initializer=small)
        self.position = self.add_weight(name="position", shape=(self.window + 1, self.size), initializer=small)
        self.layers_ = [TransformerLayer(self.size, parameters.dropout) for _ in range(_LAYERS)]

    def call(self, recent: tf.Tensor, training: bool = False) -> tf.Tensor:
        """See `SessionNetwork`."""
        return self._read(recent, tf.zeros_like(recent, tf.bool), training)[:, 0]

    def ask(self, recent: tf.Tensor, target: tf.Tensor) -> Asked:
        """Asks for the target, and for products of the window that are masked."""
        masked = (recent > 0) & (tf.random.uniform(tf.shape(recent)) < _MASKED)
        directions = self._read(recent, masked, training=True)
        wanted = tf.concat([target[:, None], tf.where(masked, recent, 0)], axis=1)
        questions = tf.where(wanted > 0)
        row, place = questions[:, 0], questions[:, 1:]
        seen = tf.where(place == 0, tf.gather(tf.where(masked, 0, recent), row), 0)
        return Asked(tf.gather_nd(directions, questions), tf.gather_nd(wanted, questions), seen)

    def _read(self, recent: tf.Tensor, masked: tf.Tensor, training: bool) -> tf.Tensor:
        items = tf.where(masked[:, :, None], self.mask, self.items(recent, training))
        front = tf.broadcast_to(self.mask, [tf.shape(recent)[0], 1, self.size])
        there = tf.pad(recent > 0, [[0, 0], [1, 0]], constant_values=True)
        values = tf.concat([front, items], axis=1) + self.position
        for layer in self.layers_:
            values = layer(values, there=there, training=training)
        return tf.math.l2_normalize(values, axis=2)


class TransformerLayer(keras.layers.Layer):  # type: ignore[misc]
    """Attention, then a layer for each place on its own; what comes in is normalised first."""

    def __init__(self, size: int, dropout: float) -> None:
        super().__init__()
        self.attention = keras.layers.MultiHeadAttention(_HEADS, max(1, size // _HEADS), dropout=dropout / 2)
        self.wide = keras.layers.Dense(2 * size, activation="gelu")
        self.narrow = keras.layers.Dense(size)
        self.before, self.between = keras.layers.LayerNormalization(), keras.layers.LayerNormalization()

    def call(self, values: tf.Tensor, there: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Values [sessions, places, size], and which of the places [sessions, places] hold something."""
        normal = self.before(values)
        values += self.attention(normal, normal, attention_mask=there[:, None, :], training=training)
        return values + self.narrow(self.wide(self.between(values)))


class SkipGramNetwork(SessionNetwork):
    """Prod2Vec: vectors of products from those around them; a session is the mean of its products' vectors.

    The skip-gram of Grbovic et al. (KDD 2015), with a sampled softmax over cosines.
    """

    def __init__(self, products: int, parameters: RecommendParameters) -> None:
        super().__init__(products, parameters)
        self.context = self.table("context", products)

    def call(self, recent: tf.Tensor, training: bool = False) -> tf.Tensor:
        """See `SessionNetwork`."""
        vectors = tf.math.l2_normalize(tf.gather(self.embedding, recent), axis=2)
        there = tf.cast(recent > 0, tf.float32)[:, :, None]
        return tf.math.l2_normalize(tf.reduce_sum(vectors * there, axis=1), axis=1)

    def answers(self, codes: tf.Tensor) -> tf.Tensor:
        """See `SessionNetwork`."""
        return tf.math.l2_normalize(tf.gather(self.context, codes), axis=1)

    def ask(self, recent: tf.Tensor, target: tf.Tensor) -> Asked:
        """Asks each of the newest products for the target, and the target for each of them."""
        near = recent[:, :_REACH]
        targets = tf.broadcast_to(target[:, None], tf.shape(near))
        given = tf.reshape(tf.concat([near, targets], axis=1), [-1])
        wanted = tf.reshape(tf.concat([targets, near], axis=1), [-1])
        questions = tf.where((given > 0) & (wanted > 0))
        given, wanted = tf.gather_nd(given, questions), tf.gather_nd(wanted, questions)
        vectors = self.dropout(tf.gather(self.embedding, given), training=True)
        return Asked(tf.math.l2_normalize(vectors, axis=1), wanted, given[:, None])
