"""Collections of images and clips: protocols by name, folders, arrays, prepared data sets.

Each name is imported when it is first asked for: `make_plain` needs Pillow alone.
"""

import importlib as _importlib
from typing import TYPE_CHECKING as _TYPE_CHECKING
from typing import Any as _Any

if _TYPE_CHECKING:
    from tfpqn.datasets.clip_arrays import ClipArrays as ClipArrays
    from tfpqn.datasets.clip_folder import ClipFolder as ClipFolder
    from tfpqn.datasets.clip_folder import open_clips as open_clips
    from tfpqn.datasets.clip_set import ClipSet as ClipSet
    from tfpqn.datasets.clip_set import encode_frames as encode_frames
    from tfpqn.datasets.decoding import decode_image as decode_image
    from tfpqn.datasets.decoding import plain_sentence as plain_sentence
    from tfpqn.datasets.frame_sampling import sample_jittered as sample_jittered
    from tfpqn.datasets.frame_sampling import sample_uniformly as sample_uniformly
    from tfpqn.datasets.image_folder import ImageFolder as ImageFolder
    from tfpqn.datasets.image_set import ImageArrays as ImageArrays
    from tfpqn.datasets.image_set import ImageSet as ImageSet
    from tfpqn.datasets.plain_images import IMAGE_SUFFIXES as IMAGE_SUFFIXES
    from tfpqn.datasets.plain_images import MAX_PIXELS as MAX_PIXELS
    from tfpqn.datasets.plain_images import check_image_bytes as check_image_bytes
    from tfpqn.datasets.plain_images import make_plain as make_plain
    from tfpqn.datasets.protocols import Protocol as Protocol
    from tfpqn.datasets.protocols import load_protocol as load_protocol
    from tfpqn.datasets.protocols import protocol_names as protocol_names
    from tfpqn.datasets.splits import Splits as Splits
    from tfpqn.datasets.splits import sides_by_position as sides_by_position
    from tfpqn.datasets.splits import split_folder as split_folder
    from tfpqn.datasets.tfds_clips import TfdsClips as TfdsClips
    from tfpqn.datasets.training_batches import TrainingBatches as TrainingBatches
    from tfpqn.datasets.video import read_frames as read_frames

_MODULES = {
    "clip_arrays": ["ClipArrays"],
    "clip_folder": ["ClipFolder", "open_clips"],
    "clip_set": ["ClipSet", "encode_frames"],
    "decoding": ["decode_image", "plain_sentence"],
    "frame_sampling": ["sample_jittered", "sample_uniformly"],
    "image_folder": ["ImageFolder"],
    "image_set": ["ImageArrays", "ImageSet"],
    "plain_images": ["IMAGE_SUFFIXES", "MAX_PIXELS", "check_image_bytes", "make_plain"],
    "protocols": ["Protocol", "load_protocol", "protocol_names"],
    "splits": ["Splits", "sides_by_position", "split_folder"],
    "tfds_clips": ["TfdsClips"],
    "training_batches": ["TrainingBatches"],
    "video": ["read_frames"],
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}
__all__ = sorted(_MODULE_OF)


def __getattr__(name: str) -> _Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(_importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value
