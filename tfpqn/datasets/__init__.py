"""Collections of images and clips: protocols by name, folders, arrays, prepared data sets."""

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

__all__ = [
    "IMAGE_SUFFIXES",
    "MAX_PIXELS",
    "ClipArrays",
    "ClipFolder",
    "ClipSet",
    "ImageArrays",
    "ImageFolder",
    "ImageSet",
    "Protocol",
    "Splits",
    "TfdsClips",
    "TrainingBatches",
    "check_image_bytes",
    "decode_image",
    "encode_frames",
    "load_protocol",
    "make_plain",
    "open_clips",
    "plain_sentence",
    "protocol_names",
    "read_frames",
    "sample_jittered",
    "sample_uniformly",
    "sides_by_position",
    "split_folder",
]
