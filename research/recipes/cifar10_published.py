"""CIFAR-10 with the paper's own net and loss, and what ours has otherwise."""

from __future__ import annotations

import dataclasses
from typing import Any

from research.table import Table
from tfpqn.training.recipes import Recipe
from tfpqn.training.recipes.cifar10_p1 import BITS, PQN_PUBLISHED, PROTOCOL
from tfpqn.training.recipes.small_images import mirrored_row
from tfpqn.training.settings.run_config import RunConfig

Settings = dict[str, Any]

TEXT = """\
The net has three convolutions with local response normalisation and an embedding of 500, without
batch normalisation and centring. Its loss is the sigmoid of triplets with a scale of 1, alone.
Codes have 4 codebooks of unit codewords, and alpha is 5. All this is the paper's, as far as it is
known.

The paper does not say how it trained, so the training is ours. The net is first trained as a
classifier of its embeddings for 45 epochs. The row of 24 bits goes on from there with the paper's
loss, for 16 epochs. The rows of 12, 36 and 48 bits go on from the row of 24 bits for 4 epochs, with
codebooks of their own. Images are shifted by up to 4 pixels and mirrored.

The classifier's embeddings are normalised as the search compares them. Their codes have .688 to
.703 without any triplet, and the paper's loss adds .034 to .045 to that. The start matters: from
random weights the same net and loss had .512 at 24 bits, in a run without a record. It took Adam
for 20 epochs, images that were mirrored but not shifted, and a far weaker response normalisation.
The share of each was not measured.

The paper's .782 is .046 above the mean of three seeds. The net knows the classes: with seed 0 its
start classifies .844 of the test images. But images of a class do not lie close enough together.
With seed 0 the embeddings alone reach .735, and items as training sees them, softly quantized,
.762; codes lose .023 of that. With mirror images too, the network of seed 1 has .757, .020 more.

The paper does not say the loss's scale, the classes of a batch and the weight decay. We tried other
values from the classifier of seed 1, for 4 epochs. A scale of 2, with half the learning rate, gives
.004 more than a scale of 1. A scale of 4 with a quarter of it gives .002 less. Batches of 8 or 4
classes, in place of 128 images at random, give .003 to .004 less. A weight decay of 1e-3 or 2e-2,
in place of 5e-3, gives .003 and .008 less. The gap is .046, and seeds alone differ by .006: none of
these explains it. Tried and not kept, with seed 0 and without records:

- 32 further epochs of the row of 24 bits (48 in all, the learning rate falling to 0 again): .745,
  for three times the time. 8 epochs from there have .695 at 12 bits and .740 at 36.
- From the classifier, a learning rate of .1 (.635 after 5 of 20 epochs) and one of .4 (.649 after
  2 epochs).
- One further epoch of the row of 24 bits with an alpha of 10 or 20: .728.

The lines at the end start from random weights and take 2 epochs. Between the first, the paper's
net, and the last, which has all four changes towards ours, each has one of them.
"""
# What is known of the paper's net, loss and quantizer; then how they are trained here.
PUBLISHED: Settings = {
    "protocol": PROTOCOL,
    "embedding_dim": 500,
    "num_subspaces": 4,
    "normalization": "local_response",
    "center_embeddings": False,
    "loss_form": "sigmoid",
    "loss_scale": 1.0,
    "augment": True,
    "max_shift": 4,
    "optimizer": "sgd",
    "learning_rate": 0.04,
    "weight_decay": 5e-3,
    "warmup_epochs": 0.5,
    "epochs": 16,
}
# The paper's "initial CNN". It classifies embeddings in the form that search compares.
CLASSIFIER: Settings = {
    "loss_sides": "raw",
    "loss_weight": 0.0,
    "classification_weight": 1.0,
    "learning_rate": 0.1,
    "epochs": 45,
}
FIRST_BITS = 24
SHORT: Settings = {"epochs": 4, "learning_rate": 0.02}
# What the paper leaves open, from the classifier and for a quarter of the epochs.
SWEEP: dict[str, tuple[str, Settings]] = {
    "short": ("4 epochs", {}),
    # The steps stay as large.
    "short-scale-2": ("scale 2", {"loss_scale": 2.0, "learning_rate": 0.02}),
    "short-scale-4": ("scale 4", {"loss_scale": 4.0, "learning_rate": 0.01}),
    "short-16-of-8": ("16 images of 8 classes a batch", {"samples_per_class": 16}),
    "short-32-of-4": ("32 images of 4 classes a batch", {"samples_per_class": 32}),
    "short-decay-1e-3": ("weight decay 1e-3", {"weight_decay": 1e-3}),
    "short-decay-2e-2": ("weight decay 2e-2", {"weight_decay": 2e-2}),
}
SWEEP_SEEDS = (1,)
FROM_NOTHING: Settings = {"epochs": 2, "learning_rate": 0.1}
# Name -> title and what it has otherwise.
CHANGES: dict[str, tuple[str, Settings]] = {
    "batch-norm": ("batch normalisation", {"normalization": "batch"}),
    "centred": ("centred embeddings", {"center_embeddings": True}),
    "softplus": ("softplus, scale 2", {"loss_form": "softplus", "loss_scale": 2.0}),
    "beside": ("classifier of both", {"classification_weight": 1.0, "classified": "both"}),
}


def _recipe(
    name: str,
    group: str | None,
    start: str | None = None,
    seeds: tuple[int, ...] = (0,),
    **settings: Any,
) -> Recipe:
    bits = settings.get("bits", FIRST_BITS)
    published = PQN_PUBLISHED[bits] if name == f"published-{bits}" else None
    config = RunConfig.plain(**{**PUBLISHED, **settings})
    return Recipe(name, group, config, seeds, start, published)


def _published_rows() -> list[Recipe]:
    title = "PQN, the paper's net and loss"
    start = _recipe("published-classifier", None, **CLASSIFIER)
    first = _recipe(f"published-{FIRST_BITS}", title, start.name)
    others = [
        _recipe(f"published-{bits}", title, first.name, bits=bits, **SHORT)
        for bits in BITS
        if bits != FIRST_BITS
    ]
    mirrored = dataclasses.replace(mirrored_row(first), seeds=SWEEP_SEEDS)
    return [start, first, mirrored, *others]


def _sweep_rows() -> list[Recipe]:
    return [
        _recipe(
            name,
            f"from the classifier, {title}",
            "published-classifier",
            SWEEP_SEEDS,
            epochs=4,
            **settings,
        )
        for name, (title, settings) in SWEEP.items()
    ]


def _changed_rows() -> list[Recipe]:
    every: Settings = {}
    for _, settings in CHANGES.values():
        every |= settings
    rows = {"nothing": ("no change", {}), **CHANGES, "all": ("all four", every)}
    return [
        _recipe(name, f"from random weights, {title}", **{**FROM_NOTHING, **settings})
        for name, (title, settings) in rows.items()
    ]


CIFAR10_PUBLISHED = Table(
    "cifar10-published",
    "CIFAR-10, the paper's own net and loss",
    TEXT,
    (PROTOCOL,),
    (*_published_rows(), *_sweep_rows(), *_changed_rows()),
)
