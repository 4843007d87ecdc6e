"""What the items of a collection are: the one place that tells images, clips and vectors apart.

Networks, indexes, exported models and clients ask an item spec for what differs. Nothing here needs
Keras or TensorFlow, so that a client may ask too.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Sequence
from typing import Any, ClassVar

import numpy as np

# 33 million: decoded and resized, such an image takes half a gigabyte for a moment.
MAX_PIXELS = 2**25
# What becomes of images of another aspect.
RESIZES = ("stretch", "crop", "pad")


@dataclasses.dataclass(frozen=True)
class ItemSpec(ABC):
    """One kind of items; there is one object of each, such as `IMAGES`.

    Attributes:
        kind: Word for many of them, "images", "clips" or "vectors".
        input_name: Name of the input that takes them, encoded, in an exported model.
        encoded_dtype: Dtype of that input.
        source: Setting and option that name a folder or file of them.
        encoded_rank: Rank of a batch of encoded items.
        batch_axes: Axes of a batch of decoded items.
        has_pixels: Whether items are made of pixels, which can be augmented.
        has_frames: Whether items are made of frames, of which one may have more than another.
        server_batch: Items that a server merges at most unless told.
        example: Name of a file that holds one.
    """

    kind: ClassVar[str]
    input_name: ClassVar[str]
    encoded_dtype: ClassVar[str] = "string"
    source: ClassVar[str]
    encoded_rank: ClassVar[int]
    batch_axes: ClassVar[tuple[str, ...]]
    has_pixels: ClassVar[bool] = True
    has_frames: ClassVar[bool] = False
    server_batch: ClassVar[int]
    example: ClassVar[str]

    @property
    def batch_rank(self) -> int:
        """Rank of a batch of decoded items."""
        return len(self.batch_axes)

    @abstractmethod
    def pack(self, items: Sequence[Any]) -> np.ndarray:
        """Encoded items as an array of rank `encoded_rank`: objects of bytes, or float32.

        Raises:
            TypeError: `items` is a single string, or an item is of the wrong kind.
            ValueError: Vectors differ in width, or are not finite.
        """


class _Images(ItemSpec):
    """Photos; each is the bytes of an image file."""

    kind = input_name = source = "images"
    encoded_rank = 1
    batch_axes = ("batch", "height", "width", "channels")
    server_batch = 32
    example = "query.jpg"

    def pack(self, items: Sequence[Any]) -> np.ndarray:
        images = _to_list(items, "images must be a sequence of the bytes of image files")
        for image in images:
            _require_bytes("An image", image)
        return np.array(images, dtype=object)


class _Clips(ItemSpec):
    """Clips; each is a sequence of frames, and a frame is the bytes of an image file.

    Clips of different lengths are filled up with empty strings, which the graph takes for no frame.
    """

    kind = "clips"
    input_name = "frames"
    source = "videos"
    encoded_rank = 2
    batch_axes = ("batch", "num_frames", "height", "width", "channels")
    has_frames = True
    server_batch = 8
    example = "clip.mp4"

    def pack(self, items: Sequence[Any]) -> np.ndarray:
        items = _to_list(items, "clips must be a sequence of clips")
        clips = [_to_frames(item) for item in items]
        length = max(map(len, clips), default=0)
        packed = np.full((len(clips), length), b"", dtype=object)
        for row, clip in zip(packed, clips, strict=True):
            row[: len(clip)] = clip
        return packed


class _Vectors(ItemSpec):
    """Vectors of another model; each is a row of numbers, and served as it is."""

    kind = source = "vectors"
    input_name = "embeddings"
    encoded_dtype = "float32"
    encoded_rank = 2
    batch_axes = ("batch", "dim")
    has_pixels = False
    server_batch = 256
    example = "query.npy"

    def pack(self, items: Sequence[Any]) -> np.ndarray:
        return to_vectors(items, "vectors")


IMAGES: ItemSpec = _Images()
CLIPS: ItemSpec = _Clips()
VECTORS: ItemSpec = _Vectors()
SPECS = (IMAGES, CLIPS, VECTORS)


def to_vectors(values: Any, name: str) -> np.ndarray:
    """Numbers of any real dtype and order in memory as float32 `[num_vectors, dim]`.

    Raises:
        TypeError: They are not numbers.
        ValueError: They have another rank or differ in width, or one is not finite as float32.
    """
    try:
        array = np.asarray(values)
    except ValueError:
        array = np.empty(0, object)
    if array.dtype.kind not in "iuf":
        # Rows of different widths are an array of objects, too.
        raise TypeError(
            f"{name} must be real numbers [num_vectors, dim]. Received: dtype {array.dtype}"
        )
    if array.ndim != 2 or not array.shape[1]:
        raise ValueError(
            f"{name} must have shape [num_vectors, dim]. Received: {list(array.shape)}"
        )
    with np.errstate(over="ignore"):
        array = np.ascontiguousarray(array, np.float32)
    is_finite = np.isfinite(array).all(axis=1)
    if not is_finite.all():
        raise ValueError(
            f"{name} must be finite. Received NaN, infinity or more than float32 can hold in "
            f"{np.count_nonzero(~is_finite)} of {len(array)} rows, the first at row "
            f"{np.argmin(is_finite)}"
        )
    return array


def items_of_kind(kind: str) -> ItemSpec:
    """The spec of a kind of items, as a manifest names it.

    Raises:
        ValueError: There is no such kind.
    """
    for spec in SPECS:
        if spec.kind == kind:
            return spec
    kinds = [spec.kind for spec in SPECS]
    raise ValueError(f"The kind of items must be one of {kinds}. Received: {kind!r}")


def items_of_inputs(names: Collection[str]) -> ItemSpec:
    """The spec of what a signature with these inputs takes.

    Raises:
        ValueError: It takes no items.
    """
    for spec in SPECS:
        if spec.input_name in names:
            return spec
    expected = [spec.input_name for spec in SPECS]
    raise ValueError(
        f"A signature that takes items must have one of the inputs {expected}. "
        f"Received: {sorted(names)}"
    )


def _to_frames(clip: Any) -> list[bytes]:
    frames = _to_list(
        clip, "A clip must be a sequence of the bytes of image files, one for each frame"
    )
    for frame in frames:
        _require_bytes("A frame", frame)
    return frames


def _to_list(value: Any, sentence: str) -> list[Any]:
    """The value as a list; a single string counts as one thing, not as a sequence."""
    if isinstance(value, (str, bytes)):
        raise TypeError(f"{sentence}. Received: one {type(value).__name__}; put it into a list")
    if not isinstance(value, Iterable):
        raise TypeError(f"{sentence}. Received: {type(value).__name__}")
    return list(value)


def _require_bytes(name: str, value: Any) -> None:
    if not isinstance(value, bytes):
        raise TypeError(
            f"{name} must be the bytes of an image file. Received: {type(value).__name__}"
        )
