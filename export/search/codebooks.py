"""Codebooks in the graph: lookup tables of queries, and what codes stand for."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import tensorflow as tf


class Distance(NamedTuple):
    """How scores go by distance.

    The score of a query q and a reconstruction x is `constant - weight * ||q - x||^2`, where
    `||x||^2` may be rounded, or another length.

    Attributes:
        weight: Factor of the squared distance.
        constant: Score at distance 0.
        offsets: float32 `[code_length, num_codewords]`, of `-weight * ||x||^2` what each position
            of a code adds; a position beyond those of the codebooks adds nothing else.
    """

    weight: float
    constant: float
    offsets: np.ndarray


class Codebooks(tf.Module):
    """What codes decode to, as constants of the graph.

    An embedding is cut into slices, and a code has one position for each level and slice, level by
    level. Slices may share codebooks, as the stretches of a clip can: then the codebooks of a level
    stand for the slices again and again.

    Args:
        values: Variable `[num_levels, num_codebooks, num_codewords, slice_dim]`, or of one level
            without the first axis.
        embedding_dim: Length of the embeddings.
        distance: How scores go by distance; None for those that are inner products.
    """

    def __init__(
        self, values: tf.Variable, embedding_dim: int, distance: Distance | None = None
    ) -> None:
        super().__init__(name="codebooks")
        self.values = values
        self.distance = distance
        self.embedding_dim = embedding_dim
        self.num_codebooks, self.num_codewords, self.slice_dim = values.shape[-3:]
        self.num_levels = values.shape[0] if len(values.shape) == 4 else 1
        self.num_slices = embedding_dim // self.slice_dim
        # Kernels add a product in an order that depends on the number of queries, and on the
        # processor. In float64 it shows in float32 about once in 10^8 products.
        shape = (self.num_levels, self.num_codebooks, self.num_codewords, self.slice_dim)
        columns = values.numpy().reshape(shape).astype(np.float64)
        columns = columns[:, np.arange(self.num_slices) % self.num_codebooks]
        columns = columns.transpose(1, 3, 0, 2).reshape(self.num_slices, self.slice_dim, -1)
        self.columns = tf.Variable(columns, trainable=False, name="columns")

    @property
    def code_length(self) -> int:
        """Number of positions of a code."""
        own = self.num_levels * self.num_slices
        return own if self.distance is None else len(self.distance.offsets)

    def make_tables(self, embeddings: tf.Tensor, dtype: tf.DType = tf.float64) -> tf.Tensor:
        """What each codeword adds to scores: inner products, or parts of distances.

        A query's tables are the same whatever queries come with it.

        Args:
            embeddings: float32 `[queries, embedding_dim]`, in the form that search compares.
            dtype: Of the products, before they are rounded. LiteRT multiplies float32 alone.

        Returns:
            float32 `[code_length, queries, num_codewords]`.
        """
        shape = [-1, self.num_slices, self.slice_dim]
        embeddings = tf.cast(embeddings, dtype)
        slices = tf.transpose(tf.reshape(embeddings, shape), [1, 0, 2])
        products = tf.cast(tf.matmul(slices, tf.cast(self.columns, dtype)), tf.float32)
        if self.num_levels > 1:
            shape = [self.num_slices, -1, self.num_levels, self.num_codewords]
            products = tf.transpose(tf.reshape(products, shape), [2, 0, 1, 3])
            shape = [self.num_levels * self.num_slices, -1, self.num_codewords]
            products = tf.reshape(products, shape)
        if self.distance is None:
            return products
        weight, constant, offsets = self.distance
        extra = len(offsets) - products.shape[0]
        tables = 2.0 * weight * tf.pad(products, [[0, extra], [0, 0], [0, 0]])
        # What all scores of a query have in common stands at the first position.
        squares = tf.cast(tf.reduce_sum(tf.square(embeddings), axis=1), tf.float32)
        common = constant - weight * squares
        first = tf.one_hot([0], len(offsets), axis=0)
        return tables + offsets[:, np.newaxis] + (first * common)[:, :, tf.newaxis]

    def decode(self, codes: tf.Tensor) -> tf.Tensor:
        """Reconstructions `[batch, embedding_dim]` of int32 codes `[batch, code_length]`."""
        firsts = tf.range(self.num_slices) % self.num_codebooks * self.num_codewords
        sums = []
        for level, values in enumerate(self._levels()):
            own = codes[:, level * self.num_slices : (level + 1) * self.num_slices]
            codewords = tf.reshape(values, [-1, self.slice_dim])
            sums.append(tf.reshape(tf.gather(codewords, own + firsts), [-1, self.embedding_dim]))
        return sums[0] if len(sums) == 1 else tf.add_n(sums)

    def vectors(self) -> np.ndarray:
        """What each codeword adds, float32 `[code_length, num_codewords, embedding_dim]`."""
        shape = (self.num_levels, self.num_slices, self.num_codewords, self.num_slices)
        vectors = np.zeros((*shape, self.slice_dim), np.float32)
        for level, values in enumerate(self._levels()):
            for number in range(self.num_slices):
                vectors[level, number, :, number] = values[number % self.num_codebooks]
        vectors = vectors.reshape(-1, self.num_codewords, self.embedding_dim)
        extra = self.code_length - len(vectors)
        return np.pad(vectors, ((0, extra), (0, 0), (0, 0)))

    def _levels(self) -> list[tf.Tensor]:
        """`[num_codebooks, num_codewords, slice_dim]` of each level."""
        values = tf.convert_to_tensor(self.values)
        return tf.unstack(values) if len(values.shape) == 4 else [values]


def unit_slices(embeddings: tf.Tensor, num_slices: int) -> tf.Tensor:
    """Embeddings `[batch, embedding_dim]` with slices of unit length; a slice of zeros stays so.

    As `tfpqn.ops.intra_normalize`, with a third of its ops: squares of float32 neither overflow nor
    vanish in float64, and nothing takes gradients here.
    """
    slices = tf.reshape(
        tf.cast(embeddings, tf.float64), [-1, num_slices, embeddings.shape[1] // num_slices]
    )
    squared_lengths = tf.reduce_sum(tf.square(slices), axis=2, keepdims=True)
    # Zero times infinity is zero.
    units = tf.raw_ops.MulNoNan(x=tf.math.rsqrt(squared_lengths), y=slices)
    return tf.reshape(tf.cast(units, tf.float32), [-1, embeddings.shape[1]])
