"""Runs with tiny networks, and collections for them on disk."""

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tests.datasets.videos import encode_frames
from tests.training.tiny import IMAGE_SHAPE, make_images, make_network_with
from tfpqn.layers import ProductQuantization, TemporalProductQuantization
from tfpqn.models import ProductQuantizationNetwork, build_backbone
from tfpqn.training import Run, RunConfig

DIM = 12


def make_run(folder, config, network):
    """A run as if its training had ended."""
    run = Run.start(folder, config)
    network.save(run.folder / "network.keras")
    return run


def make_image_run(folder):
    network = make_network_with(ProductQuantization(4, 16))
    network.build((None, *IMAGE_SHAPE))
    return make_run(folder, RunConfig.of(bits=16), network)


def make_vector_run(folder):
    network = ProductQuantizationNetwork(None, ProductQuantization(2, 8))
    network.build((None, DIM))
    return make_run(folder, RunConfig.of(vectors="none.npy", bits=16), network)


def make_clip_run(folder):
    backbone = build_backbone("conv3", (8, 8, 3))
    network = ProductQuantizationNetwork(backbone, TemporalProductQuantization(2, 2, 8), 8)
    network.build((None, 4, 8, 8, 3))
    return make_run(folder, RunConfig.of(model="tpqn", videos="none", bits=12), network)


def write_photos(folder, number=60, broken=()):
    """Images in folders of four labels, some of them no images; those that are there stay."""
    images = make_images(number)
    for position in range(number):
        path = folder / images.label_names[images.labels[position]] / f"{position:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            continue
        is_broken = position in broken
        path.write_bytes(b"\x89PNG broken" if is_broken else images.encoded_image(position))
    return folder


def write_videos(folder):
    for number in range(5):
        rng = np.random.default_rng(number)
        frames = list(rng.integers(0, 256, (6, 32, 32, 3), np.uint8))
        # The broken one has a name of an old disk, which is no UTF-8.
        name = os.fsdecode(b"\xe9.mkv") if number == 2 else f"{number}.mkv"
        path = folder / ("run", "walk")[number % 2] / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"no video" if number == 2 else encode_frames(frames, "mkv"))
    return folder


def write_vectors(path, number=50):
    """A Parquet file of vectors with ids, names as labels and a column of text."""
    vectors = np.random.default_rng(0).normal(size=(number, DIM)).astype(np.float32)
    names = [f"item {row}" for row in range(number)]
    kinds = [("ant", "bee")[row % 2] for row in range(number)]
    notes = [("note", None)[row % 2] for row in range(number)]
    table = {"id": names, "vector": list(vectors), "label": kinds, "note": notes}
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(table), path, row_group_size=13)
    return path


def write_records(folder, places):
    """TFRecord files of tiny images: file name -> `{feature: value}` of each example."""
    import tensorflow as tf

    def feature(value):
        if isinstance(value, bytes):
            return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
        return tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))

    folder.mkdir(parents=True, exist_ok=True)
    for name, examples in places.items():
        with tf.io.TFRecordWriter(str(folder / name)) as writer:
            for example in examples:
                features = {name: feature(value) for name, value in example.items()}
                writer.write(
                    tf.train.Example(
                        features=tf.train.Features(feature=features)
                    ).SerializeToString()
                )
    return folder


def parts_in(folder: Path):
    """Name -> bytes of the Parquet parts of a folder."""
    return {path.name: path.read_bytes() for path in sorted(folder.glob("[pu]*.parquet"))}
