"""Clips: the temporal network on motion images, and on frames one by one."""

from __future__ import annotations

from typing import Any

import research.datasets.protocols  # noqa: F401
from research.recipes.fine_tuning import FINE_TUNING
from research.table import Table
from tfpqn.training.recipes import Recipe
from tfpqn.training.settings.run_config import RunConfig

BITS = (12, 24, 48)
# What `tfpqn train` takes unless told, but for smaller batches, larger steps and fewer epochs.
MOTION: dict[str, Any] = {
    "motion": 8,
    "num_segments": (1,),
    "augment": True,
    "batch_size": 32,
    "embedding_dim": 512,
    "unit_codewords": False,
    "loss_scale": 2.0,
    "classification_weight": 1.0,
    "classified": "both",
    "label_smoothing": 0.1,
    "learning_rate": 2e-3,
    "weight_decay": 5e-3,
    "warmup_epochs": 0.5,
}
# The net sees each frame by itself; four times as many images and more.
FRAMES: dict[str, Any] = {
    "num_segments": (4,),
    "augment": True,
    "batch_size": 32,
    "embedding_dim": 128,
}
CLASSIFIED: dict[str, Any] = {
    "classification_weight": 1.0,
    "classified": "both",
    "label_smoothing": 0.1,
    "unit_codewords": False,
}
LARGE: dict[str, Any] = {
    **FINE_TUNING,
    "num_segments": (4,),
    "backbone": "ResNet50",
    "weights": "imagenet",
    "image_size": 112,
    "batch_size": 16,
    "epochs": 20,
}


def _rows(
    protocol: str, name: str, group: str, settings: dict[str, Any], seeds: tuple[int, ...] = (0,)
) -> tuple[Recipe, ...]:
    """One network at each code length."""
    return tuple(
        Recipe(
            f"{name}-{bits}",
            group,
            RunConfig.plain(model="tpqn", protocol=protocol, bits=bits, **settings),
            seeds=seeds,
        )
        for bits in BITS
    )


def _small(
    name: str,
    title: str,
    text: str,
    epochs: int,
    frames: dict[str, Any],
    seeds: tuple[int, ...] = (0,),
) -> Table:
    """Clips of few pixels, from random weights."""
    motion = {**MOTION, "epochs": epochs}
    rows = (
        *_rows(name, "motion", "TPQN, motion images", motion, (0, 1, 2)),
        *_rows(name, "tpqn", "TPQN, 4 segments of frames", {**FRAMES, **frames}, seeds),
    )
    return Table(name, title, text, (name,), rows)


def _large(name: str, title: str) -> Table:
    rows = _rows(name, "tpqn", "TPQN, 4 segments of frames", LARGE)
    return Table(name, title, "From a backbone trained on ImageNet.\n", (name,), rows)


MOTION_TEXT = """\
A motion image has as channels the mean frame and the mean change of each of 8 stretches of a clip.
The 3-conv net sees a clip once. These rows take the defaults of `tfpqn train`, but batches of 32,
a larger learning rate and fewer epochs. Their minutes are those of a machine that was busy with
other work. In the other rows the frames pass the net one by one, and their features are averaged in
4 segments. Those rows have an older recipe, so the difference is not of motion alone.
"""
CLIPS = (
    _small(
        "moving-digits",
        "Clips of moving digits",
        "Twelve motions of digits. 360 clips of other digits search the 1,440 to learn from.\n"
        f"{MOTION_TEXT}Here the older recipe has no classifier.\n",
        5,
        {"epochs": 8},
    ),
    _small(
        "msr-action3d",
        "MSR-Action3D",
        "Depth clips of 20 actions. Clips of other people search the 283 to learn from.\n"
        f"{MOTION_TEXT}"
        "All rows have a classifier beside the triplet loss.\n",
        20,
        {**CLASSIFIED, "epochs": 25},
        (0, 1),
    ),
    _large("ucf101-1", "UCF-101, split 1"),
    _large("hmdb51-1", "HMDB-51, split 1"),
)
