"""Laws of the asymmetric triplet loss: the loop over all triplets is the truth."""

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import reference
from tests.core.backend import (
    assert_close,
    compiled,
    few_examples,
    gradients,
    numeric_gradient,
    only_jax,
    to_numpy,
)
from tfpqn.losses import AsymmetricTripletLoss, asymmetric_triplet_loss
from tfpqn.losses.asymmetric_triplet_loss import POSITIVES_PER_BLOCK

FORMS = ("sigmoid", "softplus", "hinge")
EMBEDDING_DIM = 4


def draw_pairs(rng, batch):
    """Raw and quantized embeddings `[batch, 2, embedding_dim]` of the lengths they have in use."""
    return reference.unit(rng.normal(size=(batch, 2, EMBEDDING_DIM))).astype("float32")


def relevance_of(labels):
    return np.equal.outer(np.array(labels), np.array(labels))


def loop(labels, pairs, **options):
    pairs = pairs.astype("float64")
    relevance = relevance_of(labels)
    return reference.asymmetric_triplet_loss(relevance, pairs[:, 0], pairs[:, 1], **options)


@few_examples
@given(
    st.lists(st.integers(0, 2), min_size=2, max_size=6),
    st.sampled_from(FORMS),
    st.floats(0.1, 12.0),
    st.floats(-1.0, 1.0),
    st.sampled_from([0.0, 0.5, 8.0]),
    st.integers(0, 2**32 - 1),
)
def test_each_anchor_has_the_weighted_mean_over_its_triplets(
    labels, form, scale, margin, hardness, seed
):
    pairs = draw_pairs(np.random.default_rng(seed), len(labels))
    options = {"form": form, "scale": scale, "margin": margin, "hardness": hardness}
    losses = asymmetric_triplet_loss(relevance_of(labels), pairs[:, 0], pairs[:, 1], **options)
    assert_close(losses, loop(labels, pairs, **options))


@pytest.mark.parametrize(
    ("form", "more", "hardness"),
    [("softplus", -1, 3.0), ("sigmoid", 0, 3.0), ("hinge", 1, 0.0), ("softplus", 9, 0.0)],
)
def test_any_number_of_positives_matches_the_loop_in_value_and_gradient(rng, form, more, hardness):
    """An anchor of the second class has one; the blocks of the first are cut across for it."""
    labels = rng.permutation([0] * (POSITIVES_PER_BLOCK + more + 1) + [1, 1, 2])
    pairs = draw_pairs(rng, len(labels))
    options = {"form": form, "scale": 3.0, "margin": 0.2, "hardness": hardness}
    loss = AsymmetricTripletLoss(**options)
    assert_close(loss(labels, pairs), loop(labels, pairs, **options).mean())
    (found,) = gradients(lambda x: loss(labels, x), pairs)
    # Weights by hardness are constants to the gradient.
    options["weighing"] = pairs[:, 0].astype("float64") @ pairs[:, 1].T
    expected = numeric_gradient(lambda x: loop(labels, x, **options).mean(), pairs)
    assert_close(found, expected, 1e-4)


@pytest.mark.parametrize(
    "labels", [[7], [0] * 9, list(range(9))], ids=["one item", "one class", "all different"]
)
def test_a_batch_without_a_triplet_gives_exactly_zero(rng, labels):
    loss = AsymmetricTripletLoss(margin=0.5)
    pairs = draw_pairs(rng, len(labels))
    assert float(loss(np.array(labels), pairs)) == 0.0
    (gradient,) = gradients(lambda x: loss(np.array(labels), x), pairs)
    np.testing.assert_array_equal(gradient, 0.0)


def test_hardness_beyond_all_floats_takes_the_hardest_triplet(rng):
    labels, pairs = np.array([0, 0, 1, 1, 1]), draw_pairs(rng, 5)
    losses = to_numpy(AsymmetricTripletLoss(hardness=1e6, reduction=None)(labels, pairs))
    scores = pairs[:, 0] @ pairs[:, 1].T
    for anchor, label in enumerate(labels):
        near = [scores[anchor, j] for j in range(5) if labels[j] == label and j != anchor]
        far = [scores[anchor, j] for j in range(5) if labels[j] != label]
        hardest = reference.FORMS["softplus"](2.0 * (max(far) - min(near)))
        assert losses[anchor] == pytest.approx(hardest, rel=1e-4)


def test_sides_choose_which_forms_are_compared(rng):
    labels, pairs = rng.integers(0, 3, size=9), draw_pairs(rng, 9)
    raw, quantized = pairs[:, 0], pairs[:, 1]
    for sides, anchors, items in (
        ("asymmetric", raw, quantized),
        ("quantized", quantized, quantized),
        ("raw", raw, raw),
    ):
        losses = AsymmetricTripletLoss(sides=sides, reduction=None)(labels, pairs)
        assert_close(losses, asymmetric_triplet_loss(relevance_of(labels), anchors, items))


@pytest.mark.parametrize("hardness", [0.0, 3.0])
def test_some_anchors_among_all_items_have_the_losses_that_they_have_among_all(rng, hardness):
    labels, pairs = rng.integers(0, 3, size=13), draw_pairs(rng, 13)
    options = {"hardness": hardness, "margin": 0.1}
    everything = asymmetric_triplet_loss(relevance_of(labels), pairs[:, 0], pairs[:, 1], **options)
    for first, last in ((0, 4), (4, 13), (6, 6)):
        losses = asymmetric_triplet_loss(
            relevance_of(labels)[first:last],
            pairs[first:last, 0],
            pairs[:, 1],
            first_item=first,
            **options,
        )
        assert_close(losses, everything[first:last])


def test_zero_embeddings_and_huge_scales_stay_finite(rng):
    labels, pairs = np.array([0, 0, 1, 1]), draw_pairs(rng, 4)
    pairs[0] = 0.0
    for form in FORMS:
        loss = AsymmetricTripletLoss(form=form, scale=1e4)
        assert np.isfinite(float(loss(labels, pairs)))
        (gradient,) = gradients(lambda x, loss=loss: loss(labels, x), pairs)
        assert np.isfinite(gradient).all()


def test_sample_weights_weigh_anchors_alone(rng):
    labels, pairs = rng.integers(0, 3, size=10), draw_pairs(rng, 10)
    weights = rng.uniform(size=10).astype("float32")
    weights[:3] = 0.0
    losses = AsymmetricTripletLoss(reduction=None)(labels, pairs, weights)
    # Items of weight zero are no anchors, but positives and negatives of the others still.
    assert_close(losses, weights * loop(labels, pairs))


def test_labels_may_be_large_a_column_or_multi_hot(rng):
    """As float32, ids beyond 2**24 would merge; JAX would cut them to 32 bits."""
    labels, pairs = np.array([0, 1, 0, 1, 0]), draw_pairs(rng, 5)
    expected = loop(labels, pairs).mean()
    assert expected > 0
    for same in (2**40 + labels, 2**32 * labels, labels[:, None], np.eye(2, dtype=int)[labels]):
        assert float(AsymmetricTripletLoss()(same, pairs)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("labels", "pairs", "message"),
    [
        ((4,), (5, 2, 3), r"one label for each item .* shape \(4,\) for a batch of 5"),
        ((5, 2, 2), (5, 2, 3), r"integers \[batch\] or multi-hot"),
        ((5,), (5, 3), r"\[batch, 2, embedding_dim\].* Received: \(5, 3\)"),
        ((5,), (5, 3, 3), r"\[batch, 2, embedding_dim\].* Received: \(5, 3, 3\)"),
    ],
)
def test_labels_and_predictions_of_the_wrong_shape_are_refused(labels, pairs, message):
    with pytest.raises(ValueError, match=message):
        AsymmetricTripletLoss()(np.zeros(labels, "int32"), np.zeros(pairs, "float32"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"form": "triplet"}, r"form must be one of \['hinge', 'sigmoid', 'softplus'\].*'triplet'"),
        ({"scale": 0.0}, "scale must be positive and finite. Received: scale=0.0"),
        ({"margin": float("nan")}, "margin must be finite. Received: margin=nan"),
        ({"hardness": -1.0}, "hardness must be finite and at least 0. Received: hardness=-1.0"),
        ({"sides": "hard"}, r"sides must be one of \['asymmetric', 'quantized', 'raw'\].*'hard'"),
    ],
)
def test_bad_arguments_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        AsymmetricTripletLoss(**options)


def test_the_configuration_comes_back(rng):
    options = {"hardness": 2.0, "sides": "quantized", "reduction": "sum"}
    loss = AsymmetricTripletLoss("softplus", 4.0, 0.3, **options, name="triplets")
    again = keras.losses.deserialize(keras.losses.serialize(loss))
    assert isinstance(again, AsymmetricTripletLoss)
    assert again.get_config() == loss.get_config()
    labels, pairs = rng.integers(0, 3, size=6), draw_pairs(rng, 6)
    assert float(again(labels, pairs)) == float(loss(labels, pairs))


def test_it_compiles_for_any_batch_with_the_same_values_and_gradients(rng):
    loss = AsymmetricTripletLoss(form="softplus", scale=4.0)
    labels, pairs = rng.integers(0, 3, size=11).astype("int32"), draw_pairs(rng, 11)
    function = compiled(loss, labels, pairs)
    for batch in (11, POSITIVES_PER_BLOCK, 1):
        expected = loss(labels[:batch], pairs[:batch])
        assert_close(function(labels[:batch], pairs[:batch]), expected, 1e-6)
    (expected,) = gradients(lambda x: loss(labels, x), pairs)
    (found,) = gradients(lambda x: function(labels, x), pairs)
    assert_close(found, expected, 1e-6)


@only_jax
def test_nothing_larger_than_a_block_of_triplets_is_held():
    """Read from the traced computation of loss and gradient: no [batch, batch, batch] anywhere."""
    import jax

    batch = 100
    labels, pairs = np.arange(batch) % 10, np.zeros((batch, 2, EMBEDDING_DIM), "float32")
    traced = jax.make_jaxpr(jax.grad(lambda x: AsymmetricTripletLoss()(labels, x)))(pairs)

    def sizes(jaxpr):
        for equation in jaxpr.eqns:
            yield from (variable.aval.size for variable in equation.outvars)
            for value in equation.params.values():
                for inner in value if isinstance(value, (tuple, list)) else (value,):
                    inner = getattr(inner, "jaxpr", inner)
                    if hasattr(inner, "eqns"):
                        yield from sizes(inner)

    assert batch**2 < max(sizes(traced.jaxpr)) <= POSITIVES_PER_BLOCK * batch**2
