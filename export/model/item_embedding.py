"""From encoded images, clips or vectors to embeddings, in the graph."""

from __future__ import annotations

import tensorflow as tf

from tfpqn.datasets import decode_image
from tfpqn.protocols import NetworkLike

from ..search.input_checks import check_embeddings, require
from .image_checks import check_frames, check_images, check_pixels, check_whole_clips


def items_spec(network: NetworkLike) -> tf.TensorSpec:
    """The input of a network's items.

    It is `images` `[batch]`, `frames` `[batch, num_frames]` or `embeddings` `[batch, dim]`.
    """
    items = network.items
    shape = [None] * items.encoded_rank if items.has_pixels else [None, *network.image_shape]
    return tf.TensorSpec(shape, items.encoded_dtype, name=items.input_name)


def embed_items(network: NetworkLike, items: tf.Tensor, max_pixels: int) -> tf.Tensor:
    """Check, decode and embed items: float32 `[batch, embedding_dim]`.

    Images are string `[batch]`, clips frames string `[batch, num_frames]` among which empty strings
    are no frames; vectors float32 `[batch, dim]`. What has more than `max_pixels` is refused
    undecoded.
    """
    return _EMBED[network.items.input_name](network, items, max_pixels)


def _embed_images(network: NetworkLike, images: tf.Tensor, max_pixels: int) -> tf.Tensor:
    return network.embed(_decode(network, check_images(images), max_pixels), training=False)


def _embed_clips(network: NetworkLike, frames: tf.Tensor, max_pixels: int) -> tf.Tensor:
    frames = check_frames(frames)
    image_shape = network.image_shape
    shape = tf.cast(tf.concat([tf.shape(frames), image_shape], axis=0), tf.int64)
    if not network.folds_frames:
        frames = check_whole_clips(frames, network.num_frames)
        clips = tf.reshape(_decode(network, tf.reshape(frames, [-1]), max_pixels), shape)
        clips = tf.ensure_shape(clips, [None, network.num_frames, *image_shape])
        return network.embed(clips, training=False)
    is_frame = tf.not_equal(frames, "")
    pixels = _decode(network, tf.boolean_mask(frames, is_frame), max_pixels)
    clips = tf.scatter_nd(tf.where(is_frame), pixels, shape)
    clips = tf.ensure_shape(clips, [None, None, *image_shape])
    return network.embed({"frames": clips, "mask": is_frame}, training=False)


def _embed_vectors(network: NetworkLike, vectors: tf.Tensor, max_pixels: int) -> tf.Tensor:
    vectors = check_embeddings(vectors)
    if network.quantizer.similarity == "cosine":
        is_zero = tf.reduce_all(tf.equal(vectors, 0.0), axis=1)
        message = "embeddings: expected vectors with a direction. Received zeros; rows concerned:"
        vectors = require(vectors, ~tf.reduce_any(is_zero), message, tf.where(is_zero)[:, 0])
    return network.embed(vectors, training=False)


def _decode(network: NetworkLike, images: tf.Tensor, max_pixels: int) -> tf.Tensor:
    # The decoder's own errors name the input by the node that fails.
    name = items_spec(network).name
    return tf.map_fn(
        lambda data: decode_image(
            check_pixels(data, max_pixels, name), network.image_shape, network.resize
        ),
        images,
        fn_output_signature=tf.TensorSpec(network.image_shape, tf.uint8),
        name=name,
    )


_EMBED = {"images": _embed_images, "frames": _embed_clips, "embeddings": _embed_vectors}
