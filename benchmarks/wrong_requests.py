"""Bytes that are no requests, and requests that are none of the model's."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import serving_tools as tools
import tensorflow as tf

BIG_BYTES = 100 * 10**6


def make_garbage() -> list[bytes]:
    rng = random.Random(0)
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + rng.randbytes(508)
    endless = b"GET /v1/models HTTP/1.1\r\nX: " + 10**6 * b"a"
    random_ones = [rng.randbytes(2**size) for size in range(0, 20, 2) for _ in range(3)]
    return [
        *random_ones,
        preface + rng.randbytes(5000),
        hello,
        endless,
        b"\0" * 70_000,
        b"\r\n" * 9,
    ]


def make_big_posts() -> list[bytes]:
    """A body with a length, and one in chunks."""
    head = f"POST {tools.PREDICT_PATH} HTTP/1.1\r\nHost: localhost\r\n"
    head += "Transfer-Encoding: chunked\r\n\r\n"
    chunk = b"%x\r\n" % 10**6 + bytes(10**6) + b"\r\n"
    chunks = BIG_BYTES // 10**6 * chunk + b"0\r\n\r\n"
    return [tools.make_post(bytes(BIG_BYTES)), head.encode() + chunks]


def make_wrong_requests() -> list[Any]:
    width = tools.EMBEDDING_DIM
    row = np.zeros([1, width], np.float32)
    inputs: list[tuple[str, dict[str, Any]]] = [
        ("search_by_embedding", {"embeddings": row.astype(np.int32)}),
        ("search_by_embedding", {"embeddings": row.astype(np.float64)}),
        ("search_by_embedding", {"embeddings": row.astype(np.float16)}),
        ("search_by_embedding", {"embeddings": row > 0}),
        ("search_by_embedding", {"embeddings": np.full([1, width], b"0", object)}),
        ("search_by_embedding", {"embeddings": row[0]}),
        ("search_by_embedding", {"embeddings": row[:, 1:]}),
        ("search_by_embedding", {"embeddings": row[:0]}),
        ("search_by_embedding", {"embeddings": np.full_like(row, np.nan)}),
        ("search_by_embedding", {"images": np.array([b""], object)}),
        ("search_by_embedding", {"embeddings": row, "more": row}),
        ("search_by_embedding", {}),
        ("search", {"images": row}),
        ("search", {"images": np.array([[b"\x89PNG"]], object)}),
        ("search", {"images": np.array([b"", b"no image"], object)}),
        ("decode", {"codes": np.full([1, tools.CODE_LENGTH], 256, np.int32)}),
        ("decode", {"codes": np.zeros([1, tools.CODE_LENGTH], np.int64)}),
    ]
    requests = []
    for signature, values in inputs:
        request = tools.make_request(signature)
        for name, value in values.items():
            request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
        requests.append(request)
    # A tensor that promises more values than it has, and one with a negative size.
    for size in (2**40, -1):
        request = tools.make_request("search_by_embedding")
        request.inputs["embeddings"].CopyFrom(tf.make_tensor_proto(row))
        request.inputs["embeddings"].tensor_shape.dim[0].size = size
        requests.append(request)
    return requests


def make_wrong_bodies() -> list[Any]:
    width = tools.EMBEDDING_DIM
    values: list[Any] = [
        [["0"] * width],
        [[True] * width],
        [[None] * width],
        [[{"b64": "AAAA"}] * width],
        [[0.0] * (width - 1)],
        [[0.0] * width, [0.0]],
        [0.0] * width,
        [],
        0,
        "text",
        {"embeddings": [[1e300] * width]},
        {"images": ["text"]},
        {},
        [[float("nan")] * width],
    ]
    bodies = [{"signature_name": "search_by_embedding", "inputs": value} for value in values]
    images = [[1.5], [{"b64": "*"}], [{"b64": "AAAA"}], ["text"], [[{"b64": "AAAA"}]], [{}]]
    return bodies + [{"signature_name": "search", "inputs": value} for value in images]
