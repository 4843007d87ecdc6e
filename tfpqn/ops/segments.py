"""Time segments of a clip: the average of the frames inside each, and of what they change."""

from __future__ import annotations

from typing import Any

from keras import ops

Tensor = Any


def segment_weights(mask: Tensor, num_segments: int) -> Tensor:
    """How much each frame counts in each of `num_segments` equal stretches of its clip.

    The frames that the mask keeps share the clip's time evenly. A frame that lies across the border
    of two segments counts in both, in proportion to its overlap, so that any number of frames fits
    any number of segments.

    Args:
        mask: Boolean `[batch, num_frames]`, True where there is a frame.
        num_segments: Number of segments.

    Returns:
        float32 `[batch, num_segments, num_frames]`. The weights of a segment sum to 1, or to 0 in a
        clip without frames.
    """
    kept = ops.cast(mask, "float32")
    num_kept = ops.sum(kept, axis=1)[:, None, None]
    # In units of 1 / (num_kept * num_segments) of a clip, all borders are whole numbers.
    frame_start = ((ops.cumsum(kept, axis=1) - kept) * num_segments)[:, None, :]
    segment_start = ops.arange(num_segments, dtype="float32")[None, :, None] * num_kept
    overlap = ops.minimum(frame_start + num_segments, segment_start + num_kept) - ops.maximum(
        frame_start, segment_start
    )
    return ops.maximum(overlap, 0.0) * kept[:, None, :] / ops.maximum(num_kept, 1.0)


def average_segments(frames: Tensor, num_segments: int, mask: Tensor | None = None) -> Tensor:
    """Average of the frames in each of `num_segments` equal stretches of each clip.

    Args:
        frames: Float tensor `[batch, num_frames, dim]`.
        num_segments: Number of segments; 1 averages over the whole clip.
        mask: Boolean `[batch, num_frames]`, True where there is a frame; None where all are.

    Returns:
        Tensor `[batch, num_segments, dim]`, zero for a clip without frames.

    Raises:
        ValueError: The mask has another shape than the clips.
    """
    if mask is None:
        weights = segment_weights(ops.ones((1, ops.shape(frames)[1]), "bool"), num_segments)[0]
        return ops.einsum("sf,bfd->bsd", ops.cast(weights, frames.dtype), frames)
    mask = _checked_mask(mask, frames)
    # What padding holds must not count, not even NaN times zero.
    frames = ops.where(mask[:, :, None], frames, ops.zeros_like(frames))
    weights = ops.cast(segment_weights(mask, num_segments), frames.dtype)
    return ops.einsum("bsf,bfd->bsd", weights, frames)


def motion_images(
    frames: Tensor, num_images: int, num_stretches: int, mask: Tensor | None = None
) -> Tensor:
    """Images that show a clip's motion: mean frames and mean changes, as channels.

    The clip's time is cut into `num_images` equal segments, and each of these into `num_stretches`.
    A change is the absolute difference of a frame from the one before; the first frame has none.

    Args:
        frames: `[batch, num_frames, height, width, channels]`.
        num_images: Number of images.
        num_stretches: Stretches of time that each image shows.
        mask: Boolean `[batch, num_frames]`, True where there is a frame; None where all are.

    Returns:
        float32 `[batch, num_images, height, width, num_stretches * 2 * channels]`: stretch by
        stretch the mean frame, then the mean change; zero for a clip without frames.

    Raises:
        ValueError: The mask has another shape than the clips.

    Reference:
        Mean changes of depth frames: Yang, Zhang, Tian: "Recognizing Actions Using Depth Motion
        Maps-based Histograms of Oriented Gradients", ACM Multimedia 2012. Bobick, Davis: "The
        Recognition of Human Movement Using Temporal Templates", PAMI 2001.
    """
    frames = ops.cast(frames, "float32")
    if mask is not None:
        frames, mask = _without_gaps(frames, mask)
    changes = ops.abs(frames[:, 1:] - frames[:, :-1])
    changes = ops.concatenate([ops.zeros_like(frames[:, :1]), changes], axis=1)
    both = ops.concatenate([frames, changes], axis=-1)
    height, width, channels = both.shape[2:]
    both = ops.reshape(both, (-1, ops.shape(both)[1], height * width * channels))
    means = average_segments(both, num_images * num_stretches, mask)
    means = ops.reshape(means, (-1, num_images, num_stretches, height, width, channels))
    means = ops.transpose(means, (0, 1, 3, 4, 2, 5))
    return ops.reshape(means, (-1, num_images, height, width, num_stretches * channels))


def _without_gaps(frames: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Clips whose frames come before all padding, in their order, and their mask."""
    mask, num_frames = _checked_mask(mask, frames), ops.shape(frames)[1]
    places = ops.arange(num_frames)[None, :]
    order = ops.argsort(ops.where(mask, places, places + num_frames), axis=1)
    return (
        ops.take_along_axis(frames, order[:, :, None, None, None], axis=1),
        ops.take_along_axis(mask, order, axis=1),
    )


def _checked_mask(mask: Tensor, frames: Tensor) -> Tensor:
    """The mask as booleans."""
    mask = ops.cast(mask, "bool")
    sizes = zip(mask.shape, frames.shape[:2], strict=False)
    if len(mask.shape) != 2 or any(None not in pair and pair[0] != pair[1] for pair in sizes):
        raise ValueError(
            "mask must be [batch, num_frames], like the clips. Received: a mask of shape "
            f"{tuple(mask.shape)} for clips of shape {tuple(frames.shape)}"
        )
    return mask
