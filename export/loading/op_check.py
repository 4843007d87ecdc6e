"""Refuse a graph that the stock TensorFlow Serving binary could not run.

The check reads `saved_model.pb` alone and loads no graph, so unknown ops are no hindrance.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import TypeAlias

from google.protobuf.message import DecodeError, Message
from tensorflow.core.framework import graph_pb2, node_def_pb2
from tensorflow.core.protobuf import saved_model_pb2

__all__ = [
    "SAVED_MODEL_FILE",
    "check_ops",
    "find_saved_model",
    "list_ops",
    "read_saved_model",
    "serving_ops",
]

SAVED_MODEL_FILE = "saved_model.pb"
# Set by `jit_compile=True` and by `jit_scope`; both fail where XLA is disabled.
XLA_MARKS = ("_XlaMustCompile", "_XlaCompile")
PYTHON_OPS = frozenset({"EagerPyFunc", "PyFunc", "PyFuncStateless"})
SERVING_OPS_FILE = Path(__file__).with_name("serving_ops.txt")
# A message with more places than this helps nobody.
MAX_FAULTS = 10

Folder: TypeAlias = "str | os.PathLike[str]"
Graph: TypeAlias = "saved_model_pb2.SavedModel | graph_pb2.GraphDef"


def list_ops(graph: Graph) -> list[str]:
    """List the ops of a graph, of every meta graph and of all library functions.

    Calls of library functions by their name are not ops and are left out.

    Args:
        graph: SavedModel or GraphDef proto.

    Returns:
        Sorted op names, each once.

    Raises:
        TypeError: `graph` is neither proto.
    """
    return sorted({node.op for _, node in _walk_ops(graph)})


def check_ops(graph: Folder | Graph, allow_xla: bool = False) -> None:
    """Accept only graphs that the stock server runs.

    Args:
        graph: folder of a SavedModel, or a SavedModel or GraphDef proto.
        allow_xla: accept what XLA must compile, for a server that has it enabled.

    Raises:
        ValueError: the graph holds an op outside the stock server's set, an op that calls Python,
            or a must-compile (XLA) mark, each named with its node and function; or
            `saved_model.pb` cannot be parsed.
        FileNotFoundError: the folder holds no `saved_model.pb`.
    """
    proto = read_saved_model(graph) if isinstance(graph, (str, os.PathLike)) else graph
    faults = _find_foreign_ops(proto)
    if not allow_xla:
        faults += _find_xla_marks(proto)
    if not faults:
        return
    more = [f"and {len(faults) - MAX_FAULTS} more"] if len(faults) > MAX_FAULTS else []
    raise ValueError(
        "The graph cannot be served by the stock TensorFlow Serving binary. "
        "Expected TensorFlow's own ops, none that calls Python, and no must-compile (XLA) mark. "
        f"Received: {'; '.join(faults[:MAX_FAULTS] + more)}."
    )


def find_saved_model(folder: Folder) -> Path:
    """Return the path of a SavedModel's `saved_model.pb`.

    Raises:
        FileNotFoundError: there is no such file.
    """
    path = Path(folder) / SAVED_MODEL_FILE
    if not path.is_file():
        raise FileNotFoundError(
            f"The SavedModel is missing. Expected a folder with the file {SAVED_MODEL_FILE}. "
            f"Received: folder={os.fspath(folder)!r}"
        )
    return path


@lru_cache(maxsize=1)
def serving_ops() -> frozenset[str]:
    """Return the ops of the stock server, as `serving_ops.txt` lists them."""
    lines = SERVING_OPS_FILE.read_text(encoding="utf-8").splitlines()
    return frozenset(line for line in lines if line and not line.startswith("#"))


def read_saved_model(folder: Folder) -> saved_model_pb2.SavedModel:
    """Parse a folder's `saved_model.pb`."""
    path = find_saved_model(folder)
    try:
        proto = saved_model_pb2.SavedModel.FromString(path.read_bytes())
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


def _graphs(graph: Graph) -> list[graph_pb2.GraphDef]:
    """Return the graph itself or the graph of each meta graph."""
    if isinstance(graph, saved_model_pb2.SavedModel):
        return [meta_graph.graph_def for meta_graph in graph.meta_graphs]
    if isinstance(graph, graph_pb2.GraphDef):
        return [graph]
    raise TypeError(
        "`graph` is of an unknown kind. Expected a SavedModel or GraphDef proto. "
        f"Received: graph of type {type(graph).__name__}"
    )


def _walk(graph: Graph) -> Iterator[tuple[str, node_def_pb2.NodeDef, frozenset[str]]]:
    """Yield (place, node, names of library functions) for each node, of functions as well."""
    for graph_def in _graphs(graph):
        functions = frozenset(function.signature.name for function in graph_def.library.function)
        for node in graph_def.node:
            yield f"node {node.name!r}", node, functions
        for function in graph_def.library.function:
            for node in function.node_def:
                yield f"node {node.name!r} of function {function.signature.name!r}", node, functions


def _walk_ops(graph: Graph) -> Iterator[tuple[str, node_def_pb2.NodeDef]]:
    """Yield (place, node) for each node that does not call a library function by its name."""
    for place, node, functions in _walk(graph):
        if node.op not in functions:
            yield place, node


def _find_foreign_ops(graph: Graph) -> list[str]:
    """Describe each op that the stock server lacks, once, at the first place that holds it."""
    faults: dict[str, str] = {}
    for place, node in _walk_ops(graph):
        if node.op in PYTHON_OPS:
            faults.setdefault(node.op, f"op {node.op!r}, which calls Python, in {place}")
        elif node.op not in serving_ops():
            faults.setdefault(node.op, f"op {node.op!r}, which the server lacks, in {place}")
    return list(faults.values())


def _find_xla_marks(graph: Graph) -> list[str]:
    """Describe each node and function that XLA must compile."""
    owners: list[tuple[str, Message]] = [(place, node) for place, node, _ in _walk(graph)]
    for graph_def in _graphs(graph):
        functions = graph_def.library.function
        owners.extend((f"function {function.signature.name!r}", function) for function in functions)
    return [
        f"mark {mark!r} on {place}"
        for place, owner in owners
        for mark in XLA_MARKS
        if mark in owner.attr and owner.attr[mark].b
    ]
