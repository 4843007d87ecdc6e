"""Time segments of a clip: the average of the frames inside each."""

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
    """
    if mask is None:
        weights = segment_weights(ops.ones((1, ops.shape(frames)[1]), "bool"), num_segments)[0]
        return ops.einsum("sf,bfd->bsd", ops.cast(weights, frames.dtype), frames)
    # What padding holds must not count, not even NaN times zero.
    frames = ops.where(ops.cast(mask, "bool")[:, :, None], frames, ops.zeros_like(frames))
    weights = ops.cast(segment_weights(mask, num_segments), frames.dtype)
    return ops.einsum("bsf,bfd->bsd", weights, frames)
