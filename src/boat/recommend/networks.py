"""Networks that map the last products of a session to a direction; the nearest products are likely to come next."""

from typing import NamedTuple

import keras
import tensorflow as tf

from boat.recommend.parameters import RecommendParameters

_TURN_PENALTY = 0.01  # keeps the turn small for sessions without an order
_LAYERS, _HEADS = 2, 2  # a small transformer, as BERT4Rec uses for short sessions
_MASKED = 0.2  # share of masked products of a window in training
_REACH = 5  # steps back in which the skip-gram uses a product as context


class Questions(NamedTuple):
    """Questions of a training step.

    Attributes:
        directions: Unit vectors, float32 [questions, dimensions].
        targets: Codes of the target products, int32 [questions].
        viewed: Codes of products that the session has viewed, newest first, int32 [questions, window]; 0 if empty.
    """

    directions: tf.Tensor
    targets: tf.Tensor
    viewed: tf.Tensor


class SessionNetwork(keras.Model):  # type: ignore[misc]  # keras has no types
    """Base of all networks: a unit vector for each product, which is compared with the direction of a session.

    Args:
        products: Number of products; codes run from 1, and 0 pads a window.
        parameters: Sizes and dropout.

    Attributes:
        embedding: A vector for each product, [products + 1, dimensions] by codes.
        tables: Names of the weights that have a row for each product.
    """

    def __init__(self, products: int, parameters: RecommendParameters) -> None:
        super().__init__()
        self.size, self.window = parameters.dimensions, parameters.window
        self.tables: tuple[str, ...] = ()
        self.embedding = self.table("embedding", products)
        self.dropout = keras.layers.Dropout(parameters.dropout)

    def table(self, name: str, products: int) -> keras.Variable:
        """Create a vector for each product, [products + 1, dimensions] by codes."""
        self.tables = (*self.tables, name)
        small = keras.initializers.RandomNormal(stddev=0.05)
        return self.add_weight(name=name, shape=(products + 1, self.size), initializer=small)

    def call(self, recent: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Map windows, int32 [sessions, window], newest first, to unit vectors [sessions, dimensions].

        The result for an empty window has no meaning.
        """
        raise NotImplementedError

    def items(self, recent: tf.Tensor, training: bool) -> tf.Tensor:
        """Return embeddings of windows, [sessions, window, dimensions], with dropout in training."""
        return self.dropout(tf.gather(self.embedding, recent), training=training)

    def products(self, codes: tf.Tensor | None = None) -> tf.Tensor:
        """Return unit vectors of some or all products, [products, dimensions]."""
        chosen = self.embedding[1:] if codes is None else tf.gather(self.embedding, codes)
        return tf.math.l2_normalize(chosen, axis=1)

    def answers(self, codes: tf.Tensor) -> tf.Tensor:
        """Return unit vectors that directions are compared with in training, [products, dimensions]."""
        return self.products(codes)

    def questions(self, recent: tf.Tensor, target: tf.Tensor) -> Questions:
        """Return the questions of a training step; by default the same as in use."""
        return Questions(self(recent, training=True), target, recent)

    def penalty(self) -> tf.Tensor:
        """Return a term that is added to the loss."""
        return tf.constant(0.0)


class AttentionNetwork(SessionNetwork):
    """The last product plus an attention-weighted mean of the last few, in the embedding space of the products."""

    def __init__(self, products: int, parameters: RecommendParameters) -> None:
        super().__init__(products, parameters)
        self.position = self.add_weight(name="position", shape=(self.window, self.size), initializer="zeros")
        self.recency = self.add_weight(name="recency", shape=(self.window,), initializer="zeros")
        self.key = keras.layers.Dense(self.size, name="key")
        self.query = keras.layers.Dense(self.size, use_bias=False, name="query")
        self.energy = keras.layers.Dense(1, use_bias=False, name="energy")
        # Without it, products before and after a product would be equally near.
        self.turn = keras.layers.Dense(self.size, use_bias=False, kernel_initializer="zeros", name="turn")

    def call(self, recent: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Implement `SessionNetwork`."""
        items = self.items(recent, training)
        last = items[:, 0]
        energy = self.energy(tf.tanh(self.key(items + self.position) + self.query(last)[:, None]))[:, :, 0]
        weights = tf.nn.softmax(tf.where(recent > 0, energy + self.recency, -1e9))
        pooled = tf.einsum("sw,swd->sd", weights, items)
        return tf.math.l2_normalize(last + pooled + self.turn(tf.concat([last, pooled], axis=1)), axis=1)

    def penalty(self) -> tf.Tensor:
        """Implement `SessionNetwork`."""
        return _TURN_PENALTY * tf.reduce_sum(tf.square(self.turn.kernel))


class RecurrentNetwork(SessionNetwork):
    """An LSTM that reads the window from its oldest product."""

    def __init__(self, products: int, parameters: RecommendParameters) -> None:
        super().__init__(products, parameters)
        # Unrolled: a window is short, and TensorFlow's loop costs more than its steps.
        self.lstm = keras.layers.LSTM(self.size, unroll=True, name="lstm")
        self.out = keras.layers.Dense(self.size, name="out")

    def call(self, recent: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Implement `SessionNetwork`."""
        items, is_filled = self.items(recent, training), recent > 0
        state = self.lstm(tf.reverse(items, [1]), mask=tf.reverse(is_filled, [1]))
        return tf.math.l2_normalize(items[:, 0] + self.out(self.dropout(state, training=training)), axis=1)


class MaskedNetwork(SessionNetwork):
    """A small transformer that learns by guessing masked products, as BERT4Rec (Sun et al., CIKM 2019).

    The next product is one more masked product in front of the window.
    """

    def __init__(self, products: int, parameters: RecommendParameters) -> None:
        super().__init__(products, parameters)
        small = keras.initializers.RandomNormal(stddev=0.05)
        self.mask = self.add_weight(name="mask", shape=(self.size,), initializer=small)
        self.position = self.add_weight(name="position", shape=(self.window + 1, self.size), initializer=small)
        self.layers_ = [TransformerLayer(self.size, parameters.dropout) for _ in range(_LAYERS)]

    def call(self, recent: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Implement `SessionNetwork`."""
        return self._read(recent, tf.zeros_like(recent, tf.bool), training)[:, 0]

    def questions(self, recent: tf.Tensor, target: tf.Tensor) -> Questions:
        """Ask for the target, and for masked products of the window."""
        masked = (recent > 0) & (tf.random.uniform(tf.shape(recent)) < _MASKED)
        directions = self._read(recent, masked, training=True)
        targets = tf.concat([target[:, None], tf.where(masked, recent, 0)], axis=1)
        where = tf.where(targets > 0)
        row, position = where[:, 0], where[:, 1:]
        viewed = tf.where(position == 0, tf.gather(tf.where(masked, 0, recent), row), 0)
        return Questions(tf.gather_nd(directions, where), tf.gather_nd(targets, where), viewed)

    def _read(self, recent: tf.Tensor, masked: tf.Tensor, training: bool) -> tf.Tensor:
        items = tf.where(masked[:, :, None], self.mask, self.items(recent, training))
        front = tf.broadcast_to(self.mask, [tf.shape(recent)[0], 1, self.size])
        is_filled = tf.pad(recent > 0, [[0, 0], [1, 0]], constant_values=True)
        values = tf.concat([front, items], axis=1) + self.position
        for layer in self.layers_:
            values = layer(values, is_filled=is_filled, training=training)
        return tf.math.l2_normalize(values, axis=2)


class TransformerLayer(keras.layers.Layer):  # type: ignore[misc]
    """Attention, then a layer for each position; inputs are normalised first."""

    def __init__(self, size: int, dropout: float) -> None:
        super().__init__()
        self.attention = keras.layers.MultiHeadAttention(_HEADS, max(1, size // _HEADS), dropout=dropout / 2)
        self.wide = keras.layers.Dense(2 * size, activation="gelu")
        self.narrow = keras.layers.Dense(size)
        self.before, self.between = keras.layers.LayerNormalization(), keras.layers.LayerNormalization()

    def call(self, values: tf.Tensor, is_filled: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Transform values [sessions, positions, size]; `is_filled` [sessions, positions] masks empty positions."""
        normal = self.before(values)
        values += self.attention(normal, normal, attention_mask=is_filled[:, None, :], training=training)
        return values + self.narrow(self.wide(self.between(values)))


class SkipGramNetwork(SessionNetwork):
    """Prod2Vec: vectors of products from neighbouring products; a session is the mean of its products' vectors.

    The skip-gram of Grbovic et al. (KDD 2015), with a sampled softmax over cosines.
    """

    def __init__(self, products: int, parameters: RecommendParameters) -> None:
        super().__init__(products, parameters)
        self.context = self.table("context", products)

    def call(self, recent: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Implement `SessionNetwork`."""
        vectors = tf.math.l2_normalize(tf.gather(self.embedding, recent), axis=2)
        is_filled = tf.cast(recent > 0, tf.float32)[:, :, None]
        return tf.math.l2_normalize(tf.reduce_sum(vectors * is_filled, axis=1), axis=1)

    def answers(self, codes: tf.Tensor) -> tf.Tensor:
        """Implement `SessionNetwork`."""
        return tf.math.l2_normalize(tf.gather(self.context, codes), axis=1)

    def questions(self, recent: tf.Tensor, target: tf.Tensor) -> Questions:
        """Ask each of the newest products for the target, and the target for each of them."""
        near = recent[:, :_REACH]
        targets = tf.broadcast_to(target[:, None], tf.shape(near))
        contexts = tf.reshape(tf.concat([near, targets], axis=1), [-1])
        answers = tf.reshape(tf.concat([targets, near], axis=1), [-1])
        where = tf.where((contexts > 0) & (answers > 0))
        contexts, answers = tf.gather_nd(contexts, where), tf.gather_nd(answers, where)
        vectors = self.dropout(tf.gather(self.embedding, contexts), training=True)
        return Questions(tf.math.l2_normalize(vectors, axis=1), answers, contexts[:, None])
