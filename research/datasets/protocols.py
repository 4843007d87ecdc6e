"""Protocols on clips that only tables of results use: importing this module makes them known."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from research.datasets.tfds_clips import TfdsClips
from tfpqn.datasets.clips.arrays import ClipArrays
from tfpqn.datasets.protocols import protocol
from tfpqn.datasets.splits import Splits
from tfpqn.files.npz import read_npz

MSR_ACTION3D_FILE = "msr_action3d_depth64.npz"
VIDEO_SHAPE = (112, 112, 3)


@protocol("msr-action3d", (32, 32, 1), 16)
def _load_msr_action3d(data_dir: Path | None, num_frames: int) -> Splits:
    """MSR-Action3D, 20 actions as depth clips brought to 32x32, cross-subject: subjects 1, 3, 5, 7,
    9 are training set and database, subjects 2, 4, 6, 8, 10 search."""
    folder = Path.cwd() if data_dir is None else data_dir
    path = folder / MSR_ACTION3D_FILE
    if not path.is_file():
        raise FileNotFoundError(
            f"MSR-Action3D must lie in the data directory as {MSR_ACTION3D_FILE}, with the arrays "
            "frames, offsets, label, subject and class_names. Name its folder by `--data-dir DIR`. "
            f"Received: {folder!s}, which does not hold it"
        )
    clips = ClipArrays.from_npz(path, num_frames, mirrors_alike=False)
    subject = read_npz(path, ("subject",))["subject"]
    if subject.shape != clips.labels.shape or not np.issubdtype(subject.dtype, np.integer):
        raise ValueError(
            f"{path} must hold an integer subject for each of {len(clips)} clips. "
            f"Received: {subject.dtype} {subject.shape}"
        )
    clips.frames = _halve(clips.frames, path)
    clips.image_shape = clips.frames.shape[1:]
    database = clips.subset(np.flatnonzero(subject % 2 == 1))
    return Splits(database, database, clips.subset(np.flatnonzero(subject % 2 == 0)))


def _halve(frames: np.ndarray, path: Path) -> np.ndarray:
    """Frames of half the height and width, each pixel the mean of four."""
    total, height, width, channels = frames.shape
    if height % 2 or width % 2:
        raise ValueError(
            f"{path} must have frames of even height and width, which are halved. "
            f"Received: {height} x {width}"
        )
    blocks = frames.reshape(total, height // 2, 2, width // 2, 2, channels)
    return ((blocks.sum(axis=(2, 4), dtype=np.uint16) + 2) // 4).astype(np.uint8)


@protocol("ucf101-1", VIDEO_SHAPE, 16)
def _load_ucf101(data_dir: Path | None, num_frames: int) -> Splits:
    """UCF-101, 101 actions, split 1: the training clips are training set and database, the test
    clips search."""
    return _load_prepared("ucf101/ucf101_1_256", data_dir, num_frames)


@protocol("hmdb51-1", VIDEO_SHAPE, 16)
def _load_hmdb51(data_dir: Path | None, num_frames: int) -> Splits:
    """HMDB-51, 51 actions, split 1: the training clips are training set and database, the test
    clips search."""
    # The builder makes itself known to tensorflow-datasets by being imported.
    import research.datasets.hmdb51  # noqa: F401

    return _load_prepared("hmdb51/split_1", data_dir, num_frames)


def _load_prepared(name: str, data_dir: Path | None, num_frames: int) -> Splits:
    train = TfdsClips(name, "train", VIDEO_SHAPE, num_frames, data_dir=data_dir)
    test = TfdsClips(name, "test", VIDEO_SHAPE, num_frames, data_dir=data_dir, first_id=len(train))
    return Splits(train=train, database=train, query=test)
