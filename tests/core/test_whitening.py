"""Laws of whitening by neighbours."""

import numpy as np
import pytest

from tfpqn.codebooks.whitening import NEIGHBOURS, fit_whitening


def share_same(vectors, labels):
    """Share of same labels among as many nearest by cosine as there are of each label."""
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    nearest = np.argsort(-units @ units.T, axis=1)[:, : np.bincount(labels)[0]]
    return np.mean(labels[nearest] == labels[:, None])


def test_what_neighbours_differ_in_counts_less(rng):
    labels = np.arange(400) % 4
    vectors = rng.normal(size=(400, 8))
    # Two features tell the labels apart; a third one varies more, and says nothing.
    vectors[:, :2] += 3 * np.array([(1, 1), (1, -1), (-1, 1), (-1, -1)])[labels]
    vectors[:, 2] *= 6
    kernel, bias = fit_whitening(vectors, 4, rng)
    whitened = vectors @ kernel + bias
    assert (kernel.dtype, kernel.shape, bias.shape) == (np.float32, (8, 4), (4,))
    assert share_same(whitened, labels) > share_same(vectors, labels) + 0.1
    np.testing.assert_allclose(whitened.mean(axis=0), 0, atol=1e-4)


def test_too_few_vectors_or_features_are_refused(rng):
    for shape in ((NEIGHBOURS, 8), (50, 3)):
        with pytest.raises(ValueError, match=f"of 4 features or more.*Received: {shape[0]} of"):
            fit_whitening(rng.normal(size=shape), 4, rng)
