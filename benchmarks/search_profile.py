"""Where the time of one request with an image goes."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from search_collections import Settings, make_collection
from search_engines import export_collection
from search_figures import WARM_UPS, time_engines

STAGES = (
    "image decoding",
    "backbone and embedding",
    "tables and choice of lists",
    "scan of the lists",
    "top-k and ids",
)
# What is timed without a trace, and the input of each.
SIGNATURES = {"embed": "images", "search_by_embedding": "embeddings", "search": "images"}


class Node(NamedTuple):
    """An op that ran: its name, its type, and when in microseconds."""

    name: str
    type: str
    start: int
    end: int


def profile_request(num_items: int, folder: Path, settings: Settings) -> dict[str, Any]:
    """Shares of the stages of `search` with one image, and times of its parts."""
    collection = make_collection("clustered", num_items, settings)
    lists = settings.lists or "auto"
    export = export_collection(collection, folder / "1", lists, settings)
    if export.searcher.num_lists is None:
        raise ValueError(f"A profile needs lists; {num_items} items have none: give --lists")
    pixels = np.random.default_rng(settings.seed).integers(256, size=(32, 32, 3), dtype=np.uint8)
    image = np.array([tf.io.encode_jpeg(pixels).numpy()], object)
    inputs = {"images": image, "embeddings": collection.queries[:1]}
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        meta_graph = tf.compat.v1.saved_model.load(session, ["serve"], str(export.path))
        calls = {
            name: make_call(session, meta_graph.signature_def[name], inputs[input_name])
            for name, input_name in SIGNATURES.items()
        }
        times = time_engines(
            {name: ignore_queries(call) for name, call in calls.items()},
            collection.queries,
            1,
            settings.repeats,
        )
        traces = [trace(calls["search"]) for _ in range(WARM_UPS + settings.repeats)]
    stages = np.median([split_stages(nodes) for nodes in traces[WARM_UPS:]], axis=0)
    return {
        "items": num_items,
        "storage": export.figures["storage"],
        "stages_ms": dict(zip(STAGES, (stages / 1000).tolist(), strict=True)),
        "shares": dict(zip(STAGES, (stages / stages.sum()).tolist(), strict=True)),
        "signatures_ms": {name: own["quartiles_ms"] for name, own in times.items()},
    }


def make_call(session: Any, signature: Any, value: np.ndarray) -> Callable[..., Any]:
    """One run of a signature with one input; options are those of the session."""
    (info,) = signature.inputs.values()
    fetches = {name: output.name for name, output in signature.outputs.items()}
    return lambda **options: session.run(fetches, {info.name: value}, **options)


def ignore_queries(call: Callable[..., Any]) -> Callable[[np.ndarray], Any]:
    """An engine that makes one call, whatever the queries."""
    return lambda queries: call()


def trace(call: Callable[..., Any]) -> list[Node]:
    """The ops of one run in the order in which they began."""
    options = tf.compat.v1.RunOptions(trace_level=tf.compat.v1.RunOptions.FULL_TRACE)
    metadata = tf.compat.v1.RunMetadata()
    call(options=options, run_metadata=metadata)
    nodes = []
    for device in metadata.step_stats.dev_stats:
        for node in device.node_stats:
            types = re.findall(r" = (\w+)\(", node.timeline_label)
            start = node.all_start_micros
            end = start + node.op_end_rel_micros
            nodes.append(Node(node.node_name, types[0] if types else "", start, end))
    return sorted(nodes, key=lambda node: node.start)


def split_stages(nodes: list[Node]) -> list[int]:
    """Microseconds of each of `STAGES`, by the ops that begin or end one."""
    convolutions = [node.start for node in nodes if "Conv2D" in node.type]
    embedding = [node.end for node in nodes if re.search(r"/embedding(_\d+)?/", node.name)]
    gathers = [node.start for node in nodes if node.type == "RaggedRange"]
    scores = [node.end for node in nodes if node.type == "AddN"]
    if not (convolutions and embedding and gathers and scores):
        raise RuntimeError("The trace lacks an op that parts the stages")
    ends = [node.end for node in nodes]
    borders = [nodes[0].start, min(convolutions), max(embedding), min(gathers), min(scores)]
    return np.diff([*borders, max(ends)]).tolist()
