"""CIFAR-10 with all training images: the recipes, and what they are compared with."""

from __future__ import annotations

from typing import Any

from research.table import Table
from tfpqn.training.recipes import RECIPES, Recipe
from tfpqn.training.recipes.cifar10_p1 import BITS, PQ_SIZES, SCHEDULES
from tfpqn.training.recipes.small_images import settings_of
from tfpqn.training.settings.run_config import RunConfig

TEXT = """\
The 3-conv net has the published layer sizes. Batch normalisation is ours, and so are SGD with
weight decay, codewords of their own length, and shifted, mirrored and cut images. A classifier of
embeddings and quantized items beside the triplet loss is ours too. The next table has the paper's
own net and loss. All rows start from an embedding, a network of theirs trained without a quantizer.
They are tuned for an eighth to a fifth as long: PQN and RPQN with their quantizer,
`embedding-tuned` without one.
"Embedding, then k-means PQ" is the latter, coded afterwards. All compute in bfloat16, or in float32
where a line says so.
`cifar10-full` is the protocol of the paper as far as it is known; the other two are what others
took for it: `cifar10-test` ranks the test images against themselves, `cifar10-train` searches the
training set. PQN and k-means PQ have 2 codebooks of 64 codewords at 12 bits and 4 of 64, 512 and
4,096 at the other lengths. RPQN has 2, 3, 4 and 4 levels of one codebook, of 64, 256, 512 and
4,096: at 24 bits it has fewer, larger codebooks than PQN. Alpha is 3 at 12 bits, with PQN and RPQN,
and else 5. At 12 bits RPQN encodes by a beam of 16, which is slow for larger codebooks.
"""


def _coded_afterwards(start: Recipe, title: str, tuning: dict[str, Any]) -> list[Recipe]:
    """Rows without a quantizer in training: the start tuned as PQN is, then k-means."""
    settings = {**settings_of(start), **tuning}
    tuned = Recipe(f"{start.name}-tuned", None, RunConfig.plain(**settings), start=start.name)
    settings.update(epochs=0, warmup_epochs=0.0, unit_codewords=False, loss_sides="asymmetric")
    group = f"embedding, then k-means PQ, {title}"
    coded = [
        Recipe(
            f"{start.name}-pq-{bits}",
            group,
            RunConfig.plain(bits=bits, **settings, **PQ_SIZES.get(bits, {})),
            start=tuned.name,
        )
        for bits in BITS
    ]
    return [tuned, *coded]


def _cifar10_rows() -> tuple[Recipe, ...]:
    """The recipes, and after those of each net what they are compared with."""
    recipes = RECIPES["cifar10-p1"]
    starts = [row for row in recipes if row.start is None]
    compared = [
        _coded_afterwards(start, title, SCHEDULES[start.config.model.backbone][1])
        for start, title in zip(starts, ("3-conv net", "ResNet-9"), strict=True)
    ]
    second = recipes.index(starts[1])
    return (
        *(*recipes[:second], *compared[0]),
        *(*recipes[second:], *compared[1]),
    )


CIFAR10_P1 = Table(
    "cifar10-p1",
    "CIFAR-10, all training images",
    TEXT,
    ("cifar10-full", "cifar10-test", "cifar10-train"),
    _cifar10_rows(),
)
