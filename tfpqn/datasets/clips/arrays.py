"""Clips held in memory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tfpqn.datasets.clips.clip_set import ClipSet
from tfpqn.datasets.clips.frame_sampling import check_num_frames, choose_frames
from tfpqn.datasets.image_set import number_items, number_names
from tfpqn.files.npz import read_npz


class ClipArrays(ClipSet):
    """Clips held in memory, all frames of all clips one after another.

    Args:
        frames: uint8 `[total_frames, height, width, channels]`, or without the last axis if there
            is one channel.
        offsets: Integers `[num_clips + 1]`: clip i is `frames[offsets[i]:offsets[i + 1]]`.
        labels: One per clip: integers, multi-hot rows, or names, which are numbered.
        ids: One per clip; 0, 1, 2, .. by default.
        label_names: Name of each label value; of labels that are names the sorted names.
        num_frames: Frames that are sampled from each clip.
        mirrors_alike: Whether a mirrored clip keeps its label.

    Raises:
        ValueError: Shapes or dtypes are off, the offsets do not cut up the frames, or lengths
            differ.
    """

    in_memory = True
    fields = ("starts", "lengths", "labels", "ids")

    def __init__(
        self,
        frames: np.ndarray,
        offsets: np.ndarray,
        labels: np.ndarray,
        ids: np.ndarray | None = None,
        label_names: Sequence[str] = (),
        *,
        num_frames: int,
        mirrors_alike: bool = True,
    ) -> None:
        check_num_frames(num_frames)
        self.frames = _check_frames(np.asarray(frames))
        offsets = _check_offsets(np.asarray(offsets), len(self.frames))
        self.starts, self.lengths = offsets[:-1], np.diff(offsets)
        self.labels, self.label_names = number_names(labels, label_names)
        self.ids = number_items(ids, self.labels, len(self.starts), "clip")
        self.image_shape = self.frames.shape[1:]
        self.num_frames = num_frames
        self.mirrors_alike = mirrors_alike
        self.skipped = {}

    @classmethod
    def from_npz(
        cls, path: str | Path, num_frames: int, *, mirrors_alike: bool = True
    ) -> ClipArrays:
        """From a file with arrays `frames`, `offsets`, `label` and, if wished, `class_names`, `id`.

        Raises:
            FileNotFoundError: The file does not exist.
            ValueError: The file is no `.npz` of plain arrays, or lacks one of these; or what
                `ClipArrays` refuses.
        """
        needed = ("frames", "offsets", "label")
        arrays = read_npz(path, needed, ("class_names", "id"))
        names = arrays.get("class_names", np.array([])).astype(str).tolist()
        frames, offsets, labels = (arrays[name] for name in needed)
        options = {"num_frames": num_frames, "mirrors_alike": mirrors_alike}
        return cls(frames, offsets, labels, arrays.get("id"), names, **options)  # type: ignore[arg-type]

    def read_item(self, position: int, seed: int | None = None) -> np.ndarray:
        chosen = choose_frames(int(self.lengths[position]), self.num_frames, seed)
        return self.frames[self.starts[position] + chosen]


def _check_frames(frames: np.ndarray) -> np.ndarray:
    if frames.ndim not in (3, 4) or frames.dtype != np.uint8:
        raise ValueError(
            "frames must be uint8 [total_frames, height, width, channels]. "
            f"Received: {frames.dtype} {frames.shape}"
        )
    return frames[..., np.newaxis] if frames.ndim == 3 else frames


def _check_offsets(offsets: np.ndarray, total_frames: int) -> np.ndarray:
    is_list = offsets.ndim == 1 and len(offsets) and np.issubdtype(offsets.dtype, np.integer)
    if not is_list:
        raise ValueError(
            f"offsets must be integers [num_clips + 1]. Received: {offsets.dtype} {offsets.shape}"
        )
    offsets = offsets.astype(np.int64)
    if offsets[0] != 0 or offsets[-1] != total_frames or (np.diff(offsets) < 0).any():
        raise ValueError(
            f"offsets must begin at 0, never fall, and end at {total_frames}, the number of "
            f"frames. Received: {offsets[0]} .. {offsets[-1]}, smallest step "
            f"{np.diff(offsets).min(initial=total_frames)}"
        )
    return offsets
