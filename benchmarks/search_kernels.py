"""The kernels that one request runs, from a trace of the session."""

from __future__ import annotations

import collections
import re
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf.config_pb2 import CallableOptions, RunOptions

from tfpqn.export.loading.loaders import SessionLoader

SIGNATURE = "search_by_embedding"


def trace_kernels(model: SessionLoader, queries: np.ndarray) -> list[tuple[str, int]]:
    """Type of op and nanoseconds of each kernel that ran for one request."""
    definition = model.signature_definitions[SIGNATURE]
    feed, fetch = (
        [info.name for _, info in sorted(infos.items())]
        for infos in (definition.inputs, definition.outputs)
    )
    options = CallableOptions(feed=feed, fetch=fetch)
    options.run_options.trace_level = RunOptions.FULL_TRACE
    metadata = tf.compat.v1.RunMetadata()
    call = model._session._make_callable_from_options(options)
    call(queries)
    call(queries, run_metadata=metadata)
    kernels = []
    for device in metadata.step_stats.dev_stats:
        for node in device.node_stats:
            types = re.findall(r" = (\w+)\(", node.timeline_label)
            nanoseconds = node.op_end_rel_nanos - node.op_start_rel_nanos
            kernels.append((types[0] if types else "NoOp", nanoseconds))
    return kernels


def find_largest(kernels: list[tuple[str, int]]) -> dict[str, Any]:
    """The type of op that takes most of the kernels' time, and its share."""
    times: collections.Counter[str] = collections.Counter()
    for name, nanoseconds in kernels:
        # A call takes the time of the kernels in it.
        if not name.endswith("PartitionedCall"):
            times[name] += nanoseconds
    ((name, largest),) = times.most_common(1)
    return {"op": name, "share": largest / times.total()}
