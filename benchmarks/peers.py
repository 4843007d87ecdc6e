"""Peers that `peer_server.py` runs in an environment of their own."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np

# Packages of this process are not to meet those of the peer.
NOT_INHERITED = ("PYTHONPATH", "VIRTUAL_ENV")


class Peer:
    """An engine in a process of its own.

    Attributes:
        about: Its versions, its bytes per item and what building it took.

    Args:
        python: The interpreter of an environment that holds the engine.
        engine: `"scann"`, `"usearch"` or `"turbovec"`.
        embeddings: A file of float32 `[num_items, dim]`.
        top_k: Items to find.
        threads: Of its searches.
        **settings: `metric` ("dot_product" or "squared_l2"), `bytes` of a code and `lists` (0: all
            items are scored), for ScaNN.

    Raises:
        RuntimeError: The engine is not there, or its process ended.
    """

    def __init__(
        self, python: Path, engine: str, embeddings: Path, top_k: int, threads: int, **settings: Any
    ) -> None:
        self._top_k = top_k
        own = {"engine": engine, "embeddings": str(embeddings), "top_k": top_k, "threads": threads}
        command = [str(python), str(Path(__file__).with_name("peer_server.py"))]
        environment = {name: text for name, text in os.environ.items() if name not in NOT_INHERITED}
        self._process = subprocess.Popen(
            [*command, json.dumps(own | settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
        )
        line = self._process.stdout.readline() if self._process.stdout else b""
        self.about: dict[str, Any] = json.loads(line or b'{"error": "its process ended"}')
        if "error" in self.about:
            self.close()
            raise RuntimeError(self.about["error"])

    def close(self) -> None:
        # The end of its input ends it.
        self._process.communicate()

    def search(self, queries: np.ndarray, effort: int = 1) -> dict[str, np.ndarray]:
        """`ids` and `scores`, each `[queries, top_k]`, best first.

        Args:
            queries: float32 `[queries, dim]`.
            effort: Lists that are looked at, or the length of the list that a graph keeps.
        """
        requests, answers = self._process.stdin, self._process.stdout
        if requests is None or answers is None:
            raise RuntimeError("A peer's process must have pipes")
        header = np.array([effort, len(queries)], np.int32)
        requests.write(header.tobytes() + queries.astype(np.float32).tobytes())
        requests.flush()
        shape = (len(queries), self._top_k)
        size = 4 * shape[0] * shape[1]
        ids, scores = answers.read(size), answers.read(size)
        if len(scores) < size:
            raise RuntimeError("A peer's process must answer; it ended instead")
        return {
            "ids": np.frombuffer(ids, np.int32).reshape(shape),
            "scores": np.frombuffer(scores, np.float32).reshape(shape),
        }
