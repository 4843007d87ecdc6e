"""Collections of images, clips and vectors: protocols by name, folders, arrays, prepared data sets.

Each name is imported when it is first asked for: `make_plain` needs Pillow alone.
"""

import importlib as _importlib
from typing import TYPE_CHECKING as _TYPE_CHECKING
from typing import Any as _Any

if _TYPE_CHECKING:
    from tfpqn.datasets.clips.arrays import ClipArrays as ClipArrays
    from tfpqn.datasets.clips.clip_set import ClipSet as ClipSet
    from tfpqn.datasets.clips.clip_set import encode_frames as encode_frames
    from tfpqn.datasets.clips.folder import ClipFolder as ClipFolder
    from tfpqn.datasets.clips.folder import open_clips as open_clips
    from tfpqn.datasets.clips.video import read_frames as read_frames
    from tfpqn.datasets.image_set import ImageSet as ImageSet
    from tfpqn.datasets.images.arrays import ImageArrays as ImageArrays
    from tfpqn.datasets.images.decoding import decode_image as decode_image
    from tfpqn.datasets.images.decoding import plain_sentence as plain_sentence
    from tfpqn.datasets.images.folder import ImageFolder as ImageFolder
    from tfpqn.datasets.labels.labels_file import LabelsFile as LabelsFile
    from tfpqn.datasets.labels.read_labels import read_labels as read_labels
    from tfpqn.datasets.plain_images import IMAGE_SUFFIXES as IMAGE_SUFFIXES
    from tfpqn.datasets.plain_images import MAX_PIXELS as MAX_PIXELS
    from tfpqn.datasets.plain_images import make_plain as make_plain
    from tfpqn.datasets.protocols import Protocol as Protocol
    from tfpqn.datasets.protocols import load_protocol as load_protocol
    from tfpqn.datasets.protocols import protocol_names as protocol_names
    from tfpqn.datasets.splits import Splits as Splits
    from tfpqn.datasets.splits import split_folder as split_folder
    from tfpqn.datasets.training.training_batches import TrainingBatches as TrainingBatches
    from tfpqn.datasets.vectors.files import open_vectors as open_vectors
    from tfpqn.datasets.vectors.vector_set import VectorSet as VectorSet

_MODULES = {
    "clips.arrays": ["ClipArrays"],
    "clips.clip_set": ["ClipSet", "encode_frames"],
    "clips.folder": ["ClipFolder", "open_clips"],
    "clips.video": ["read_frames"],
    "image_set": ["ImageSet"],
    "images.arrays": ["ImageArrays"],
    "images.decoding": ["decode_image", "plain_sentence"],
    "images.folder": ["ImageFolder"],
    "labels.labels_file": ["LabelsFile"],
    "labels.read_labels": ["read_labels"],
    "plain_images": ["IMAGE_SUFFIXES", "MAX_PIXELS", "make_plain"],
    "protocols": ["Protocol", "load_protocol", "protocol_names"],
    "splits": ["Splits", "split_folder"],
    "training.training_batches": ["TrainingBatches"],
    "vectors.files": ["open_vectors"],
    "vectors.vector_set": ["VectorSet"],
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}
__all__ = sorted(_MODULE_OF)


def __getattr__(name: str) -> _Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(_importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value
