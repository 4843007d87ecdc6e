"""LiteRT models beside the SavedModels of the same collections: equal ids, bytes and time.

    python benchmarks/litert_models.py

Networks with random weights and 10^5 random codes of 8 bytes, 1,000 digits as queries. The
SavedModel gets PNG files, and LiteRT the pixels that `tfpqn.datasets.decode_image` makes of them.
Times are the fastest of 200 searches of one query, which a busy machine disturbs least; both have
two threads. Writes benchmarks/results/litert.json.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from environment import describe_machine

import tfpqn
from tfpqn.datasets import decode_image
from tfpqn.export import Searcher, load_searcher, save_litert, save_searcher
from tfpqn.index import CodeIndex, network_layout

OUTPUT = Path(__file__).parent / "results" / "litert.json"
THREADS, TOP_K, REPEATS = 2, 10, 200
BACKBONES = (("conv3", (8, 8, 1)), ("efficientnet_lite0", (96, 96, 3)))
Inputs = dict[str, np.ndarray]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    arguments = parser.parse_args()
    tf.config.threading.set_intra_op_parallelism_threads(THREADS)
    tf.config.threading.set_inter_op_parallelism_threads(THREADS)
    content = {
        "command": f"python benchmarks/litert_models.py --items {arguments.items}",
        **describe_machine(("tensorflow", "keras", "numpy")),
        "threads": THREADS,
        "rows": [],
    }
    for name, image_shape in BACKBONES:
        with tempfile.TemporaryDirectory() as folder:
            row = measure(name, image_shape, arguments, Path(folder))
        content["rows"].append(row)
        print(json.dumps(row), flush=True)
        arguments.output.write_text(json.dumps(content, indent=1) + "\n")


def measure(name: str, image_shape: Any, arguments: Any, folder: Path) -> dict[str, Any]:
    network, index = make_collection(name, image_shape, arguments.items)
    save_searcher(Searcher(network, index, top_k=TOP_K), folder / "model" / "1")
    start = time.perf_counter()
    file = save_litert(network, index, folder / "model.tflite", top_k=TOP_K)
    seconds = time.perf_counter() - start
    served, device = load_searcher(folder / "model" / "1"), open_litert(file)
    digits = tfpqn.datasets.load_protocol("digits").load().train
    files = [digits.encoded_image(number) for number in range(arguments.queries)]
    pixels = [np.asarray(decode_image(data, image_shape))[np.newaxis] for data in files]
    expected = served(files)
    found = [device("search", {"images": image}) for image in pixels]
    ids = np.concatenate([one["ids"] for one in found])
    scores = np.concatenate([one["scores"] for one in found])
    embeddings = device("embed", {"images": pixels[0]})
    return {
        "backbone": name,
        "image_shape": image_shape,
        "items": len(index),
        "queries": len(files),
        "same_id_in_place": float(np.mean(ids == expected.ids)),
        "largest_score_difference_where_ids_differ": float(
            np.abs(scores - expected.scores)[ids != expected.ids].max(initial=0.0)
        ),
        "largest_score_difference": float(np.abs(scores - expected.scores).max()),
        "saved_model_bytes": count_bytes(folder / "model" / "1"),
        "litert_bytes": file.stat().st_size,
        "conversion_seconds": round(seconds, 1),
        "saved_model_search_ms": fastest(lambda: served(files[:1])),
        "litert_search_ms": fastest(lambda: device("search", {"images": pixels[0]})),
        "saved_model_search_by_embedding_ms": fastest(
            lambda: served.search_by_embedding(embeddings["embeddings"])
        ),
        "litert_search_by_embedding_ms": fastest(lambda: device("search_by_embedding", embeddings)),
    }


def make_collection(name: str, image_shape: Any, num_items: int) -> tuple[Any, CodeIndex]:
    keras.utils.set_random_seed(0)
    backbone = tfpqn.models.build_backbone(name, image_shape)
    quantizer = tfpqn.layers.ProductQuantization(8, 256)
    network = tfpqn.models.ProductQuantizationNetwork(backbone, quantizer, 128)
    codes = np.random.default_rng(0).integers(0, 256, (num_items, 8)).astype(np.uint8)
    ids = np.arange(num_items) * 3 + 1
    return network, CodeIndex(network_layout(network), codes, ids)


def open_litert(file: Path) -> Callable[[str, Inputs], dict[str, np.ndarray]]:
    with warnings.catch_warnings():
        # TensorFlow says that its interpreter moves to LiteRT's own package.
        warnings.simplefilter("ignore", UserWarning)
        interpreter = tf.lite.Interpreter(str(file), num_threads=THREADS)
    names = ("embed", "search", "search_by_embedding")
    runners = {name: interpreter.get_signature_runner(name) for name in names}
    return lambda name, inputs: runners[name](**inputs)


def count_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def fastest(run: Callable[[], Any]) -> float:
    """Milliseconds."""
    seconds = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return round(1000 * min(seconds), 3)


if __name__ == "__main__":
    main()
