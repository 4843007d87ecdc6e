"""CIFAR-10 with all training images: the recipes, and what they are compared with."""

from __future__ import annotations

from typing import Any

from research.table import Table
from tfpqn.training.recipes import Recipe
from tfpqn.training.recipes.cifar10_p1 import BITS, EMBEDDING, RESNET9, TUNING
from tfpqn.training.recipes.cifar10_p1 import CIFAR10_P1 as ROWS
from tfpqn.training.recipes.small_images import settings_of
from tfpqn.training.settings.run_config import RunConfig

TEXT = """\
The 3-conv net has the published layer sizes. These are ours: batch normalisation, SGD with weight
decay, codewords of their own length, shifted, mirrored and cut images, and a classifier of
embeddings and quantized items beside the triplet loss. The next table has the paper's own net and
loss.

We first train each net without a quantizer (`embedding`), the 3-conv net for 100 epochs and
ResNet-9 for 15. Each row starts from such a network. The 3-conv net trains on for 12 epochs and
ResNet-9 for 3: PQN and RPQN with their quantizer, `embedding-tuned` without one. "Embedding, then
k-means PQ" codes the latter afterwards. "Mirror images too" averages the features of an image and
of its mirror image, with a row's network and codebooks as they are. `pqn-12` and `rpqn-12` started
from another `embedding` in float32, which has no record.

All three protocols train on the 50,000 training images. `cifar10-full` is that of PQN's paper as
far as it is known: 1,000 test images are queries, the other 9,000 are searched. The other two are
what others took for it: in `cifar10-test` the 10,000 test images search each other, and each finds
itself too; in `cifar10-train` they search the training images.

| bits | 12 | 24 | 36 | 48 |
|---|---|---|---|---|
| codebooks x codewords, PQN and k-means PQ | 2 x 64 | 4 x 64 | 4 x 512 | 4 x 4,096 |
| levels x codewords, RPQN | 2 x 64 | 3 x 256 | 4 x 512 | 4 x 4,096 |
| alpha | 3 (k-means PQ 5) | 5 | 5 | 5 |
| beam of RPQN | 16 | 1 | 1 | 1 |
"""


def _coded_afterwards(start: Recipe, title: str, tuning: dict[str, Any]) -> tuple[Recipe, ...]:
    """Rows without a quantizer in training: the start tuned as PQN is, then k-means."""
    settings = {**settings_of(start), **tuning}
    tuned = Recipe(f"{start.name}-tuned", None, RunConfig.plain(**settings), start=start.name)
    settings.update(epochs=0, warmup_epochs=0.0, unit_codewords=False, loss_sides="asymmetric")
    coded = (
        Recipe(
            f"{start.name}-pq-{bits}",
            f"embedding, then k-means PQ, {title}",
            RunConfig.plain(bits=bits, **settings),
            start=tuned.name,
        )
        for bits in BITS
    )
    return (tuned, *coded)


OTHER_NET = ROWS.index(RESNET9)
CIFAR10_P1 = Table(
    "cifar10-p1",
    "CIFAR-10, all training images",
    TEXT,
    ("cifar10-full", "cifar10-test", "cifar10-train"),
    (*ROWS[:OTHER_NET], *_coded_afterwards(EMBEDDING, "3-conv net", TUNING), *ROWS[OTHER_NET:]),
)
