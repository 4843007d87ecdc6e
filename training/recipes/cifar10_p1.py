"""CIFAR-10 with the 3-conv net, trained on all training images."""

from __future__ import annotations

from typing import Any

from ..settings.run_config import RunConfig
from .recipe import Recipe, Table
from .small_images import embedding_row, rows_coded_afterwards, tuned_rows

PROTOCOL = "cifar10-full"
BITS = (12, 24, 36, 48)
PQN_PUBLISHED = {12: 0.741, 24: 0.782, 36: 0.787, 48: 0.786}
TEXT = """\
The 3-conv net has the published layer sizes, and batch normalisation; shifted, mirrored and cut
images, SGD, weight decay, a classifier of embeddings and quantized items beside the triplet loss,
and codewords of their own length are ours. "The paper's net and loss" has mirrored images of them
and nothing else, and is trained by us for 20 epochs: how the paper trained is not known. All others
start from an embedding, a network of theirs trained without a quantizer, and are tuned for an
eighth to a fifth as long: PQN and RPQN with their quantizer, `embedding-tuned` without one.
"Embedding, then k-means PQ" is the latter, coded afterwards. All but the paper's net compute in
bfloat16, or in float32 where a line says so.
`cifar10-full` is the protocol of the paper as far as it is known; the other two are what others
took for it: `cifar10-test` ranks the test images against themselves, `cifar10-train` searches the
training set. PQN and k-means PQ have 2 codebooks of 64 codewords at 12 bits and 4 of 64, 512 and
4,096 at the other lengths; the paper's net has 4 at 12 bits too. RPQN has 2, 3, 4 and 4 levels of
one codebook, of 64, 256, 512 and 4,096: at 24 bits it has fewer, larger codebooks than PQN. Alpha
is 3 at 12 bits, with PQN and RPQN, and else 5; and at 12 bits RPQN encodes by a beam of 16, which
is slow for larger codebooks.
"""
# Backbone -> settings of the embedding, and in which its tuning differs.
SCHEDULES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "conv3": (
        {"epochs": 100, "cutout": 8, "precision": "mixed_bfloat16"},
        {"epochs": 12, "learning_rate": 0.02},
    ),
    "resnet9": (
        {"epochs": 15, "cutout": 8, "precision": "mixed_bfloat16"},
        {"epochs": 3, "learning_rate": 0.02},
    ),
}
# Two larger codebooks lose less at the shortest code.
PQ_SIZES: dict[int, dict[str, Any]] = {12: {"num_subspaces": 2}}
# Fewer codewords in all share the images between them more softly.
PQN_SIZES: dict[int, dict[str, Any]] = {12: {**PQ_SIZES[12], "alpha": 3.0}}
RESIDUAL: dict[str, Any] = {"model": "rpqn", "residuals": "reconstructions", "num_subspaces": 1}
# As many as leave each level some hundred codewords, and a search no more positions than PQN's.
RPQN_SIZES: dict[int, dict[str, Any]] = {
    12: {"num_levels": 2, "alpha": 3.0, "beam_size": 16},
    24: {"num_levels": 3},
    36: {"num_levels": 4},
    48: {"num_levels": 4},
}
# As far as the paper and the net that it took are known: no classifier, centring or sharpening.
PUBLISHED: dict[str, Any] = {
    "protocol": PROTOCOL,
    "embedding_dim": 500,
    "normalization": "local_response",
    "center_embeddings": False,
    "loss_form": "sigmoid",
    "loss_scale": 1.0,
    "augment": True,
    "max_shift": 0,
    "learning_rate": 1e-3,
    "epochs": 20,
}


def _rows(backbone: str, title: str, prefix: str = "") -> tuple[Recipe, ...]:
    schedule, tuning = SCHEDULES[backbone]
    published = PQN_PUBLISHED if backbone == "conv3" else None
    start = embedding_row(prefix, {"protocol": PROTOCOL, "backbone": backbone, **schedule})
    residual = {**tuning, **RESIDUAL}
    return (
        start,
        *tuned_rows(start, f"PQN, {title}", BITS, tuning, sizes=PQN_SIZES, published=published),
        *tuned_rows(start, f"RPQN, {title}", BITS, residual, sizes=RPQN_SIZES),
        *rows_coded_afterwards(
            start, f"embedding, then k-means PQ, {title}", BITS, tuning, sizes=PQ_SIZES
        ),
    )


def _published_rows() -> tuple[Recipe, ...]:
    return tuple(
        Recipe(
            f"published-{bits}",
            "PQN, the paper's net and loss, trained by us",
            RunConfig.plain(bits=bits, **PUBLISHED),
        )
        for bits in BITS
    )


CIFAR10_P1 = Table(
    "cifar10-p1",
    "CIFAR-10, all training images",
    TEXT,
    (PROTOCOL, "cifar10-test", "cifar10-train"),
    (
        *_rows("conv3", "3-conv net"),
        *_published_rows(),
        *_rows("resnet9", "ResNet-9", "resnet9-"),
    ),
)
