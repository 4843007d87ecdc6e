"""A folder of videos with one subfolder per label."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tfpqn.datasets.clips.arrays import ClipArrays
from tfpqn.datasets.clips.clip_set import ClipSet
from tfpqn.datasets.clips.frame_sampling import check_num_frames
from tfpqn.datasets.clips.video import VIDEO_SUFFIXES, import_av, read_frames
from tfpqn.datasets.image_set import ImageShape
from tfpqn.datasets.images.decoding import fit_frame
from tfpqn.datasets.labelled_files import find_labelled_files


class ClipFolder(ClipSet):
    """Video files below a folder, one subfolder per label, read and decoded in parallel.

    The id of a clip is its path relative to the folder, with forward slashes. A video without a
    frame that can be decoded is skipped and noted in `skipped`; files of other kinds are counted in
    `passed_over`. `find_labelled_files` says what becomes of hidden files and of links. Reading
    needs PyAV: `pip install 'tfpqn[video]'`.

    Args:
        folder: The folder. If videos lie in it directly they get the label -1 ("unlabelled").
        image_shape: `(height, width, channels)` to which frames are brought.
        num_frames: Frames that are sampled from each video.
        resize: What becomes of frames of another aspect, see `decode_image`.

    Raises:
        FileNotFoundError: The folder does not exist, or holds no video.
        ImportError: PyAV is not installed.
        ValueError: `num_frames` is below one.
    """

    fields = ("files", "labels", "ids")

    def __init__(
        self,
        folder: str | Path,
        image_shape: ImageShape,
        num_frames: int,
        resize: str = "stretch",
    ) -> None:
        check_num_frames(num_frames)
        import_av()  # or it would be missed in the middle of the first batch
        self.folder = Path(folder)
        found = find_labelled_files(self.folder, "video", VIDEO_SUFFIXES)
        self.files, self.ids, self.labels, self.label_names, self.passed_over = found
        self.image_shape, self.resize = image_shape, resize
        self.num_frames = num_frames
        self.skipped = {}

    def read_item(self, position: int, seed: int | None = None) -> np.ndarray:
        frames = read_frames(self.files[position], self.num_frames, seed)
        return np.stack(
            [fit_frame(frame, self.image_shape, self.resize).numpy() for frame in frames]
        )


def open_clips(
    path: str | Path, image_shape: ImageShape, num_frames: int, resize: str = "stretch"
) -> ClipSet:
    """A folder of videos, or an `.npz` set of clips whose frames have the size already.

    Args:
        path: What `ClipFolder` takes, or a file for `ClipArrays.from_npz`.
        image_shape: `(height, width, channels)` for a folder; an `.npz` set keeps its own.
        num_frames: Frames that are sampled from each clip.
        resize: As of `ClipFolder`.

    Raises:
        FileNotFoundError: There is no such folder or file.
        ValueError: What the two refuse.
    """
    if Path(path).suffix == ".npz":
        return ClipArrays.from_npz(path, num_frames)
    return ClipFolder(path, image_shape, num_frames, resize)
