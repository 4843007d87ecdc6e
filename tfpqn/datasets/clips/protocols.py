"""The protocols on clips: from the data directory and a number of frames to the splits."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tfpqn.datasets.clips.arrays import ClipArrays
from tfpqn.datasets.clips.moving_digits import make_moving_digits
from tfpqn.datasets.clips.tfds_clips import TfdsClips
from tfpqn.datasets.splits import SPLIT_SEED, Splits
from tfpqn.files.npz import read_npz

MSR_ACTION3D_FILE = "msr_action3d_depth64.npz"
VIDEO_SHAPE = (112, 112, 3)


def load_moving_digits(data_dir: Path | None, num_frames: int) -> Splits:
    """scikit-learn's handwritten digits in motion: no data directory needed."""
    from sklearn.datasets import load_digits

    digits = np.clip(load_digits().images * 16, 0, 255).astype(np.uint8)
    order = np.random.default_rng(SPLIT_SEED).permutation(len(digits))
    query, rest = digits[order[:300]], digits[order[300:]]
    database = make_moving_digits(rest, 1440, num_frames, SPLIT_SEED)
    queries = make_moving_digits(query, 360, num_frames, SPLIT_SEED + 1, first_id=1440)
    return Splits(train=database, database=database, query=queries)


def load_msr_action3d(data_dir: Path | None, num_frames: int) -> Splits:
    """MSR-Action3D, cross-subject: odd subjects are the database, even subjects search."""
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
    height, width, _ = clips.image_shape
    if height % 2 or width % 2:
        raise ValueError(
            f"{path} must have frames of even height and width, which are halved. "
            f"Received: {height} x {width}"
        )
    clips = _halve(clips)
    database = clips.subset(np.flatnonzero(subject % 2 == 1))
    return Splits(database, database, clips.subset(np.flatnonzero(subject % 2 == 0)))


def _halve(clips: ClipArrays) -> ClipArrays:
    """The clips with frames of half the height and width, each pixel the mean of four."""
    total, height, width, channels = clips.frames.shape
    blocks = clips.frames.reshape(total, height // 2, 2, width // 2, 2, channels)
    sums = blocks.sum(axis=(2, 4), dtype=np.uint16)
    clips.frames = ((sums + 2) // 4).astype(np.uint8)
    clips.image_shape = clips.frames.shape[1:]
    return clips


def load_ucf101(data_dir: Path | None, num_frames: int) -> Splits:
    """UCF-101, split 1."""
    return _load_prepared("ucf101/ucf101_1_256", data_dir, num_frames)


def load_hmdb51(data_dir: Path | None, num_frames: int) -> Splits:
    """HMDB-51, split 1."""
    # The builder makes itself known to tensorflow-datasets by being imported.
    import tfpqn.datasets.clips.hmdb51  # noqa: F401

    return _load_prepared("hmdb51/split_1", data_dir, num_frames)


def _load_prepared(name: str, data_dir: Path | None, num_frames: int) -> Splits:
    train = TfdsClips(name, "train", VIDEO_SHAPE, num_frames, data_dir=data_dir)
    test = TfdsClips(name, "test", VIDEO_SHAPE, num_frames, data_dir=data_dir, first_id=len(train))
    return Splits(train=train, database=train, query=test)
