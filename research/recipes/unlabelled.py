"""CIFAR-10 without its labels: views of one image belong together."""

from __future__ import annotations

from typing import Any

from research.recipes.fine_tuning import PRETRAINED, WEIGHTS_TEXT
from research.table import Table
from tfpqn.training.recipes import Recipe
from tfpqn.training.recipes.small_images import embedding_row, tuned_rows
from tfpqn.training.settings.run_config import RunConfig

PROTOCOL = "cifar10-10kq"
BITS = (16, 32, 64)
SEEDS = {"whitened": (0, 1, 2), "plain": (0,)}
SIZES: dict[int, dict[str, Any]] = {16: {"num_subspaces": 4}}
SETTINGS: dict[str, Any] = {
    "protocol": PROTOCOL,
    "views": 2,
    "batch_size": 256,
    "max_shift": 0,
    "min_area": 0.2,
    "color_jitter": 0.5,
    "classification_weight": 0.0,
    "label_smoothing": 0.0,
    "loss_hardness": 1.0,
}
# An epoch sees each image twice.
EMBEDDING = embedding_row("conv3-", {**SETTINGS, "backbone": "conv3", "epochs": 12})
TUNING: dict[str, Any] = {"epochs": 1, "learning_rate": 0.02}


def _fitted_rows() -> tuple[Recipe, ...]:
    """Codebooks of pretrained features, whitened, and once as they are."""
    settings = {"protocol": PROTOCOL, "similarity": "cosine", "epochs": 0, **PRETRAINED}
    settings["image_size"] = 224
    title = "PQ of EfficientNet-Lite0's features"
    return tuple(
        Recipe(
            f"lite0-{name}-{bits}",
            f"{title}, {name}",
            RunConfig.of(bits=bits, whiten=name == "whitened", **settings),
            seeds=SEEDS[name],
        )
        for name, lengths in (("whitened", BITS), ("plain", BITS[1:2]))
        for bits in lengths
    )


TEXT = f"""\
Reported at 16, 32 and 64 bits: MeCoQ (Wang et al., AAAI 2022) .688, .702, .702, with a VGG
pretrained on ImageNet. Its mAP is of the best 1,000 items alone, as its public scripts have it. The
rows of the 3-conv net start from random weights. They learn that two random crops of one image, in
other colours, belong together, and no other two. EfficientNet-Lite0 with ImageNet weights sees the
images at 224 x 224 pixels, and nothing is trained. At 128 x 128 pixels the row of 32 bits had .688
among the best 1,000. Codebooks of 256 codewords are fitted to its features, as they are or
[whitened](training.md#without-labels). The constants of the whitening were chosen on photos and on
Fashion-MNIST.
{WEIGHTS_TEXT}"""
CIFAR10_UNLABELLED = Table(
    "cifar10-unlabelled",
    "CIFAR-10 without labels, 50,000 images to learn from and to search, 10,000 queries",
    TEXT,
    (PROTOCOL,),
    (
        EMBEDDING,
        *tuned_rows(EMBEDDING, "PQN, 3-conv net", BITS, TUNING, sizes=SIZES),
        *_fitted_rows(),
    ),
    metrics=("codes", "codes-1000", "soft", "raw"),
)
