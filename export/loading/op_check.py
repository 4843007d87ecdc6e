"""Refuse a graph that the stock TensorFlow Serving binary could not run.

The check reads `saved_model.pb` alone and loads no graph, so unknown ops are no hindrance.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from google.protobuf.message import DecodeError
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

SAVED_MODEL_FILE = "saved_model.pb"
# Set by `jit_compile=True` and by `jit_scope`; both fail where XLA is disabled.
XLA_MARKS = ("_XlaMustCompile", "_XlaCompile")
PYTHON_OPS = frozenset({"EagerPyFunc", "PyFunc", "PyFuncStateless"})
SERVING_OPS_FILE = Path(__file__).with_name("serving_ops.txt")
# A longer message helps nobody.
MAX_FAULTS = 10

Folder: TypeAlias = "str | os.PathLike[str]"


class _Node(NamedTuple):
    """A node or function of a graph: where it is, its proto, and its op; functions have none."""

    name: str
    proto: Any
    op: str | None


def list_ops(model: SavedModel) -> list[str]:
    """The ops of all graphs and library functions, sorted; calls of library functions are none."""
    return sorted({node.op for node in _walk(model) if node.op is not None})


def check_ops(model: Folder | SavedModel) -> None:
    """Accept only graphs that the stock server runs.

    Args:
        model: Folder of a SavedModel, or the proto.

    Raises:
        ValueError: The graph holds an op outside the stock server's set, an op that calls Python,
            or a must-compile (XLA) mark, each named with its node and function; or
            `saved_model.pb` cannot be parsed.
        FileNotFoundError: The folder holds no `saved_model.pb`.
    """
    proto = model if isinstance(model, SavedModel) else read_saved_model(model)
    # Each op is named at the first node that has it.
    faults: dict[str, str] = {}
    for node in _walk(proto):
        if node.op in PYTHON_OPS:
            faults.setdefault(node.op, f"op {node.op!r}, which calls Python, in {node.name}")
        elif node.op is not None and node.op not in serving_ops():
            faults.setdefault(node.op, f"op {node.op!r}, which the server lacks, in {node.name}")
        for mark in XLA_MARKS:
            if mark in node.proto.attr and node.proto.attr[mark].b:
                faults[mark + node.name] = f"mark {mark!r} on {node.name}"
    if not faults:
        return
    more = [f"and {len(faults) - MAX_FAULTS} more"] if len(faults) > MAX_FAULTS else []
    raise ValueError(
        "The graph cannot be served by the stock TensorFlow Serving binary. "
        "Expected TensorFlow's own ops, none that calls Python, and no must-compile (XLA) mark. "
        f"Received: {'; '.join([*faults.values()][:MAX_FAULTS] + more)}."
    )


def read_saved_model(folder: Folder) -> SavedModel:
    """Parse a folder's `saved_model.pb`; FileNotFoundError if there is none."""
    path = Path(folder) / SAVED_MODEL_FILE
    if not path.is_file():
        raise FileNotFoundError(
            f"The SavedModel is missing. Expected a folder with the file {SAVED_MODEL_FILE}. "
            f"Received: folder={os.fspath(folder)!r}"
        )
    try:
        proto = SavedModel.FromString(path.read_bytes())
    except DecodeError as error:
        raise ValueError(
            f"{SAVED_MODEL_FILE} cannot be parsed. Expected a SavedModel proto. "
            f"Received: {str(path)!r} ({error})"
        ) from error
    if not proto.meta_graphs:
        raise ValueError(
            f"{SAVED_MODEL_FILE} holds no graph. Expected at least one meta graph. "
            f"Received: {str(path)!r}"
        )
    return proto


@lru_cache(maxsize=1)
def serving_ops() -> frozenset[str]:
    """The ops of the stock server, as `serving_ops.txt` lists them."""
    lines = SERVING_OPS_FILE.read_text(encoding="utf-8").splitlines()
    return frozenset(line for line in lines if line and not line.startswith("#"))


def _walk(model: SavedModel) -> Iterator[_Node]:
    """Yield the nodes of all graphs and functions, and the functions themselves."""
    for graph in (meta_graph.graph_def for meta_graph in model.meta_graphs):
        functions = {function.signature.name for function in graph.library.function}
        for node in graph.node:
            yield _Node(f"node {node.name!r}", node, None if node.op in functions else node.op)
        for function in graph.library.function:
            own = f"function {function.signature.name!r}"
            yield _Node(own, function, None)
            for node in function.node_def:
                op = None if node.op in functions else node.op
                yield _Node(f"node {node.name!r} of {own}", node, op)
