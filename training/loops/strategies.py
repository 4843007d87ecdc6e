"""Strategies of `tf.distribute`, as the command line names them."""

from __future__ import annotations

import json
import os
from typing import Any

import keras

# Workers that share a training; TensorFlow knows one of them as the chief too.
JOBS = ("chief", "worker")


def open_strategy(name: str | None) -> Any:
    """A strategy: `mirrored`, over the GPUs of this machine, or `workers`, those of TF_CONFIG.

    To be called before TensorFlow computes anything; with `workers` it waits for all of them.

    Raises:
        ValueError: TF_CONFIG does not name workers and the number of this one, or Keras' backend is
            not TensorFlow.
    """
    if name is None:
        return None
    if keras.backend.backend() != "tensorflow":
        raise ValueError(
            "distribute needs Keras' backend to be TensorFlow. "
            f"Received: {name!r} with {keras.backend.backend()!r}"
        )
    import tensorflow as tf

    if name == "mirrored":
        return tf.distribute.MirroredStrategy()
    read_other_workers(os.environ.get("TF_CONFIG", ""))
    return tf.distribute.MultiWorkerMirroredStrategy()


def read_other_workers(config: str) -> list[str]:
    """The addresses of the other workers, from the text of TF_CONFIG.

    Raises:
        ValueError: It is not the JSON that TensorFlow wants of workers.
    """
    try:
        content = json.loads(config)
        job, index = content["task"]["type"], content["task"]["index"]
        jobs = {name: content["cluster"][name] for name in JOBS if name in content["cluster"]}
        own = jobs[job][index]
        is_valid = (
            type(index) is int and index >= 0 and all(map(_is_list_of_addresses, jobs.values()))
        )
    except (ValueError, TypeError, KeyError, IndexError, RecursionError):
        is_valid = False
    if not is_valid:
        raise ValueError(
            "distribute='workers' needs TF_CONFIG, JSON with the addresses of all workers and the "
            'number of this one, from 0 on: {"cluster": {"worker": ["HOST:PORT", ...]}, "task": '
            f'{{"type": "worker", "index": 0}}}}. Received: {config[:500] or "none"}'
        )
    return [address for name in jobs for address in jobs[name] if address != own]


def _is_list_of_addresses(addresses: Any) -> bool:
    if not isinstance(addresses, list):
        return False
    parts = [str(address).rpartition(":") for address in addresses]
    return all(host and port.isascii() and port.isdigit() for host, _, port in parts)
