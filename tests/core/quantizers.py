"""Quantizers, built and given their codebooks in a line."""

import numpy as np

from tfpqn.layers import (
    ProductQuantization,
    ResidualProductQuantization,
    TemporalProductQuantization,
)


def product(num_subspaces, num_codewords, embedding_dim, **options):
    layer = ProductQuantization(num_subspaces, num_codewords, **options)
    layer.build((None, embedding_dim))
    return layer


def residual(num_levels, num_subspaces, num_codewords, embedding_dim, **options):
    layer = ResidualProductQuantization(num_levels, num_subspaces, num_codewords, **options)
    layer.build((None, embedding_dim))
    return layer


def temporal(num_segments, num_subspaces, num_codewords, frame_dim, **options):
    layer = TemporalProductQuantization(num_segments, num_subspaces, num_codewords, **options)
    layer.build((None, None, frame_dim))
    return layer


def with_codebooks(codebooks, **options):
    """One of codebooks `[num_subspaces, num_codewords, subvector_dim]`, or with levels before."""
    *levels, num_subspaces, num_codewords, subvector_dim = np.shape(codebooks)
    make = residual if levels else product
    layer = make(*levels, num_subspaces, num_codewords, num_subspaces * subvector_dim, **options)
    layer.codebooks.assign(np.array(codebooks, "float32"))
    return layer


def levels_of_vectors(num_levels, similarity="l2"):
    """Levels of whole vectors, not built yet."""
    options = {"unit_codewords": False, "similarity": similarity, "beam_size": 4}
    return ResidualProductQuantization(num_levels, 2, 8, **options)


def draw(rng, *shape):
    return rng.normal(size=shape).astype("float32")


def first_vectors(vectors, num_clusters):
    """A way to cluster."""
    return vectors[:num_clusters]
