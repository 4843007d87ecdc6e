"""One setting changed at a time, on Fashion-MNIST."""

from __future__ import annotations

from typing import Any

from research.table import Table
from tfpqn.training.recipes import Recipe
from tfpqn.training.settings.run_config import RunConfig

ALPHAS = (1, 2, 5, 10, 20, 40, 80)
SUBSPACES = (2, 3, 4, 6, 8, 12, 24)
BITS = (4, 12, 24, 48)
# Short, for there are many; of a length that every number of codebooks divides.
TRAINING: dict[str, Any] = {
    "protocol": "fashion-mnist",
    "epochs": 3,
    "embedding_dim": 480,
    "augment": True,
    "optimizer": "sgd",
    "learning_rate": 0.05,
    "warmup_epochs": 0.5,
    "weight_decay": 5e-3,
    "loss_scale": 2.0,
}
LOSSES: dict[str, tuple[str, dict[str, Any]]] = {
    "asymmetric": ("asymmetric triplets", {}),
    "symmetric": ("triplets of quantized items alone", {"loss_sides": "quantized"}),
    "cross-entropy": (
        "cross-entropy of quantized items",
        {"loss_weight": 0.0, "classification_weight": 1.0},
    ),
}

CLASSIFIER: dict[str, Any] = {"classification_weight": 1.0}
# Name -> title and what is added to asymmetric triplets.
ADDITIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "nothing": ("asymmetric triplets", {}),
    "own-lengths": ("codewords of their own length", {"unit_codewords": False}),
    "hard-triplets": ("hard triplets weigh more", {"loss_hardness": 1.0}),
    "classifier": ("classifier of quantized items", CLASSIFIER),
    "classifier-smooth": (
        "classifier of quantized items, smoothed labels",
        {**CLASSIFIER, "label_smoothing": 0.1},
    ),
    "classifier-both": (
        "classifier of embeddings and quantized items",
        {**CLASSIFIER, "classified": "both"},
    ),
    "all-of-these": (
        "classifier of both, smoothed labels, codewords of their own length",
        {**CLASSIFIER, "classified": "both", "label_smoothing": 0.1, "unit_codewords": False},
    ),
}
# As many codebooks at each length.
CODES: dict[str, Any] = {**TRAINING, "num_subspaces": 4}
# Another epoch from "nothing", as it was and with harder assignments: the schedule of alpha.
LONGER: dict[str, Any] = {**TRAINING, "epochs": 1, "learning_rate": 0.01, "warmup_epochs": 0.0}
STAGES: dict[str, tuple[str, dict[str, Any]]] = {
    "one-more-epoch": ("one epoch more", {}),
    "alpha-20-last": ("one epoch more, with alpha 20", {"alpha": 20.0}),
}


def _alphas() -> tuple[Recipe, ...]:
    return tuple(
        Recipe(f"alpha-{alpha}", "PQN, 24 bits", RunConfig.plain(alpha=alpha, **TRAINING))
        for alpha in ALPHAS
    )


def _codebooks() -> tuple[Recipe, ...]:
    return tuple(
        Recipe(
            f"codebooks-{number}",
            "PQN, 24 bits",
            RunConfig.plain(num_subspaces=number, **TRAINING),
        )
        for number in SUBSPACES
    )


def _losses() -> tuple[Recipe, ...]:
    trained = [
        Recipe(f"{name}-{bits}", title, RunConfig.plain(bits=bits, **CODES, **settings))
        for name, (title, settings) in LOSSES.items()
        for bits in BITS
    ]
    embedding = Recipe("embedding", None, RunConfig.plain(loss_sides="raw", **TRAINING))
    afterwards = [
        Recipe(
            f"embedding-pq-{bits}",
            "triplets of embeddings, then k-means PQ",
            RunConfig.plain(bits=bits, **{**CODES, "epochs": 0, "warmup_epochs": 0.0}),
            start="embedding",
        )
        for bits in BITS
    ]
    return (*trained, embedding, *afterwards)


def _additions() -> tuple[Recipe, ...]:
    added = [
        Recipe(name, title, RunConfig.plain(**TRAINING, **settings))
        for name, (title, settings) in ADDITIONS.items()
    ]
    stages = [
        Recipe(name, title, RunConfig.plain(**LONGER, **settings), start="nothing")
        for name, (title, settings) in STAGES.items()
    ]
    return (*added, *stages)


ABLATION_ALPHA = Table(
    "ablation-alpha",
    "Hardness of the soft assignment, Fashion-MNIST",
    "Training sees soft items, a search sees codes.\n",
    ("fashion-mnist",),
    _alphas(),
    axis="alpha",
    metrics=("codes", "soft", "symmetric"),
)
ABLATION_CODEBOOKS = Table(
    "ablation-codebooks",
    "Number of codebooks at 24 bits, Fashion-MNIST",
    "M codebooks have 2 ^ (24 / M) codewords each: few large ones cost memory and large lookup "
    "tables, many small ones cost more look-ups an item.\n",
    ("fashion-mnist",),
    _codebooks(),
    axis="num_subspaces",
    metrics=("codes", "soft", "symmetric"),
)
ABLATION_LOSSES = Table(
    "ablation-losses",
    "Losses, Fashion-MNIST",
    "The 3-conv net, 3 epochs a row, under different losses; all codewords are of unit length. "
    "Here joint training with triplets alone pays with short codes; from 24 bits on, k-means after "
    "the training finds as much or more.\n",
    ("fashion-mnist",),
    _losses(),
)
ABLATION_ADDITIONS = Table(
    "ablation-additions",
    "Additions to the paper, Fashion-MNIST",
    "The 3-conv net, 3 epochs a row, with what the line says. The recipes for CIFAR-10 took from "
    "here a classifier of both, smoothed labels and codewords of their own length. The last two "
    "lines go on from the first: compare them with each other. A rotation before splitting has no "
    "row: the embedding is a linear layer, which learns one.\n"
    "\n"
    "Tried in the same setting with one seed, without a record, and not kept:\n"
    "\n"
    "- Alpha that rises from 3 to 20 in training. A constant one of 10 does as well.\n"
    "- Smoothed labels of triplets, and codebooks by moving averages. Both were lower than "
    "without.\n"
    "- A memory of the quantized items of eight batches. A triplet loss of twice the weight, "
    "without the memory, found more.\n",
    ("fashion-mnist",),
    _additions(),
    metrics=("codes", "soft", "raw"),
)
