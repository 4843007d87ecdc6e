"""What the benchmarks of serving share: a model with known answers, and a server in a process.

Codes and weights are random: what a search costs does not depend on them.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import keras
import numpy as np
from PIL import Image
from tensorflow_serving.apis.predict_pb2 import PredictRequest, PredictResponse

import tfpqn
from tfpqn.export import Searcher, load_searcher, save_searcher
from tfpqn.index import CodeIndex, network_layout

NAME = "images"
IMAGE_SHAPE = (32, 32, 3)
EMBEDDING_DIM = 128
CODE_LENGTH = 8
NUM_CODEWORDS = 256
TOP_K = 10
# Ids beyond int32; versions differ in theirs, so that an answer tells which version gave it.
FIRST_ID = 2**32
IDS_PER_VERSION = 2**40
# Merged requests are summed in another order; items whose scores are as near may change places.
TIE = 1e-4
SERVE = [sys.executable, "-m", "tfpqn", "serve"]
PREDICT_PATH = f"/v1/models/{NAME}:predict"
PREDICT = "/tensorflow.serving.PredictionService/Predict"
LIBRARIES = ("tensorflow", "keras", "numpy", "grpcio", "starlette", "uvicorn")
START_SECONDS = 120
# For one answer.
WAIT_SECONDS = 60
# What a broken connection raises; Python 3.10 has two errors of the name TimeoutError.
BROKEN = (OSError, EOFError, asyncio.TimeoutError)


class Found(NamedTuple):
    """One answer: ids and scores, best first."""

    ids: list[int]
    scores: list[float]


class Query(NamedTuple):
    """One request of one row, in both protocols, and the answer of each version by its number."""

    signature: str
    item: Any
    grpc_body: bytes
    rest_body: bytes
    expected: dict[int, Found]


def build_network(seed: int = 0) -> Any:
    """A network with random codebooks; the same for the same seed."""
    keras.utils.set_random_seed(seed)
    quantizer = tfpqn.layers.ProductQuantization(CODE_LENGTH, NUM_CODEWORDS)
    backbone = tfpqn.models.build_backbone("conv3", IMAGE_SHAPE)
    network = tfpqn.models.ProductQuantizationNetwork(backbone, quantizer, EMBEDDING_DIM)
    rng = np.random.default_rng(seed)
    quantizer.codebooks.assign(rng.normal(size=quantizer.codebooks.shape))
    return network


def make_index(network: Any, num_items: int, version: int = 1) -> CodeIndex:
    """Random codes; each version has other items."""
    rng = np.random.default_rng(version)
    codes = rng.integers(NUM_CODEWORDS, size=(num_items, CODE_LENGTH), dtype=np.uint8)
    ids = np.arange(num_items) + (FIRST_ID + version * IDS_PER_VERSION)
    return CodeIndex(network_layout(network), codes, ids)


def make_version(folder: Path, network: Any, num_items: int, version: int) -> Path:
    """The version folder `folder/version`, written unless it is there from another run."""
    path = folder / str(version)
    if not path.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        save_searcher(Searcher(network, make_index(network, num_items, version), top_k=TOP_K), path)
    return path


def make_queries(versions: dict[int, Path], count: int, seed: int = 0) -> list[Query]:
    """`count` requests for `search` and as many for `search_by_embedding`."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (count, *IMAGE_SHAPE), dtype=np.uint8)
    images = [encode_image(one, ("PNG", "JPEG")[row % 2]) for row, one in enumerate(pixels)]
    embeddings = rng.normal(size=(count, EMBEDDING_DIM)).astype(np.float32)
    found: dict[tuple[str, int], dict[int, Found]] = {}
    for version, path in versions.items():
        searcher = load_searcher(path)
        for row in range(count):
            answers = {
                "search": searcher([images[row]]),
                "search_by_embedding": searcher.search_by_embedding(embeddings[row : row + 1]),
            }
            for signature, answer in answers.items():
                one = Found(answer.ids[0].tolist(), answer.scores[0].tolist())
                found.setdefault((signature, row), {})[version] = one
    return [
        *(make_image_query(images[row], found["search", row]) for row in range(count)),
        *(
            make_embedding_query(embeddings[row], found["search_by_embedding", row])
            for row in range(count)
        ),
    ]


def encode_image(pixels: np.ndarray, file_format: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, file_format)
    return buffer.getvalue()


def make_image_query(image: bytes, expected: dict[int, Found]) -> Query:
    request = make_request("search")
    request.inputs["images"].dtype = 7  # DT_STRING
    request.inputs["images"].tensor_shape.dim.add(size=1)
    request.inputs["images"].string_val.append(image)
    text = base64.b64encode(image).decode()
    body = {"signature_name": "search", "inputs": {"images": [{"b64": text}]}}
    return Query("search", image, request.SerializeToString(), json.dumps(body).encode(), expected)


def make_embedding_query(embedding: np.ndarray, expected: dict[int, Found]) -> Query:
    name = "search_by_embedding"
    request = make_request(name)
    request.inputs["embeddings"].dtype = 1  # DT_FLOAT
    for size in (1, len(embedding)):
        request.inputs["embeddings"].tensor_shape.dim.add(size=size)
    request.inputs["embeddings"].tensor_content = embedding.tobytes()
    body = {"signature_name": name, "inputs": {"embeddings": [embedding.tolist()]}}
    return Query(name, embedding, request.SerializeToString(), json.dumps(body).encode(), expected)


def make_request(signature: str) -> Any:
    request = PredictRequest()
    request.model_spec.name = NAME
    request.model_spec.signature_name = signature
    return request


def read_grpc_answer(data: bytes) -> Found:
    outputs = PredictResponse.FromString(data).outputs
    ids, scores = outputs["ids"], outputs["scores"]
    return Found(
        list(ids.int64_val) or np.frombuffer(ids.tensor_content, np.int64).tolist(),
        list(scores.float_val) or np.frombuffer(scores.tensor_content, np.float32).tolist(),
    )


def read_rest_answer(data: bytes) -> Found:
    outputs = json.loads(data)["outputs"]
    return Found(outputs["ids"][0], outputs["scores"][0])


def make_post(body: bytes, path: str = PREDICT_PATH) -> bytes:
    """A whole HTTP request."""
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\n"
    return head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body


async def read_response(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Status and body of a response with a content length."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = int(head.split(b"content-length:")[1].split(b"\r\n")[0])
    return int(head.split(b" ", 2)[1]), await reader.readexactly(length)


def find_version(found: Found, query: Query) -> int | None:
    """The number of the version whose answer this is; None for a wrong answer."""
    for version, expected in query.expected.items():
        if is_same(found, expected):
            return version
    return None


def is_same(found: Found, expected: Found) -> bool:
    """Whether scores agree, and items too but for such as tie."""
    if len(found.ids) != len(expected.ids) or len(found.scores) != len(expected.scores):
        return False
    known = dict(zip(expected.ids, expected.scores, strict=True))
    return len(set(found.ids)) == len(found.ids) and all(
        abs(score - wanted) <= TIE and abs(score - known.get(id_, expected.scores[-1])) <= TIE
        for id_, score, wanted in zip(found.ids, found.scores, expected.scores, strict=True)
    )


class Server:
    """`tfpqn serve` in a process of its own; a context manager that ends it.

    Args:
        base_path: The model's folder.
        batching_file: Parameters of batching; None for no batching.
        log: Where the server's output goes.

    Attributes:
        port: Port of gRPC.
        rest_port: Port of REST.
    """

    def __init__(self, base_path: Path, batching_file: Path | None, log: Path) -> None:
        self.port, self.rest_port = find_free_ports(2)
        self._log = log
        self._command = [*SERVE, "--model-base-path", str(base_path)]
        self._command += ["--port", str(self.port), "--rest-api-port", str(self.rest_port)]
        self._command += ["--file-system-poll-wait-seconds", "0.5"]
        if batching_file:
            self._command += ["--enable-batching", "--batching-parameters-file", str(batching_file)]
        self._process: Any = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        return self._process.pid

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self.kill()

    def start(self) -> None:
        """Start the process and wait until a version is available."""
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, env=environment, stdout=log, stderr=subprocess.STDOUT
            )
        deadline = time.monotonic() + START_SECONDS
        while "AVAILABLE" not in self.states().values():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self._process.kill()
                raise RuntimeError(f"The server did not start: {self._log.read_text()[-3000:]}")
            time.sleep(0.1)

    def kill(self) -> None:
        """SIGKILL."""
        self._process.kill()
        self._process.wait()

    def states(self) -> dict[int, str]:
        """The state of each version by its number; empty while nobody answers."""
        url = f"http://127.0.0.1:{self.rest_port}/v1/models/{NAME}"
        with contextlib.suppress(urllib.error.URLError, OSError, ValueError):
            with urllib.request.urlopen(url, timeout=10) as response:
                statuses = json.load(response)["model_version_status"]
            return {int(status["version"]): status["state"] for status in statuses}
        return {}

    def memory_mb(self) -> float:
        """Resident memory of the process in MB; 0 while there is none."""
        with contextlib.suppress(OSError, StopIteration):
            lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
            return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1024
        return 0.0


def find_free_ports(count: int) -> list[int]:
    """Ports of the loopback address that nobody uses at this moment."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


@contextlib.contextmanager
def work_folder(path: Path | None) -> Iterator[Path]:
    """The folder given, kept; or one that is removed afterwards."""
    if path is None:
        import tempfile

        with tempfile.TemporaryDirectory(prefix="tfpqn-") as name:
            yield Path(name)
    else:
        path.mkdir(parents=True, exist_ok=True)
        yield path.resolve()
