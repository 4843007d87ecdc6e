"""Image collections: protocols by name, and folders of images."""

from tfpqn.datasets.decoding import decode_image as decode_image
from tfpqn.datasets.decoding import plain_sentence as plain_sentence
from tfpqn.datasets.image_folder import ImageFolder as ImageFolder
from tfpqn.datasets.image_set import ImageArrays as ImageArrays
from tfpqn.datasets.image_set import ImageSet as ImageSet
from tfpqn.datasets.protocols import Protocol as Protocol
from tfpqn.datasets.protocols import Splits as Splits
from tfpqn.datasets.protocols import load_protocol as load_protocol
from tfpqn.datasets.protocols import protocol_names as protocol_names
from tfpqn.datasets.protocols import split_folder as split_folder
from tfpqn.datasets.training_batches import TrainingBatches as TrainingBatches

__all__ = [
    "ImageArrays",
    "ImageFolder",
    "ImageSet",
    "Protocol",
    "Splits",
    "TrainingBatches",
    "decode_image",
    "load_protocol",
    "plain_sentence",
    "protocol_names",
    "split_folder",
]
