"""Strategies of `tf.distribute`, as the command line names them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import keras

# Workers that share a training; TensorFlow knows one of them as the chief too.
JOBS = ("chief", "worker")


def open_strategy(name: str | None, report: Callable[[str], object]) -> Any:
    """A strategy: `mirrored`, over the GPUs of this machine, or `workers`, those of TF_CONFIG.

    To be called before TensorFlow computes anything; with `workers` it waits for all of them, in
    the main thread.

    Args:
        name: None for no strategy.
        report: Is given a line before the wait.

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
    others = read_other_workers(os.environ.get("TF_CONFIG", ""))
    with _signals_of_the_system():
        if others:
            report(f"Waiting for the other workers of TF_CONFIG: {', '.join(others)}")
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


@contextlib.contextmanager
def _signals_of_the_system() -> Iterator[None]:
    """Lets signals end the process by themselves: TensorFlow waits where no Python handler runs.

    It catches SIGTERM for good, before the wait or within it; here the former handler comes back.
    """
    former = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        for each, handler in former.items():
            if handler is not signal.SIG_IGN:
                signal.signal(each, signal.SIG_DFL)
        yield
    finally:
        for each, handler in former.items():
            signal.signal(each, handler)


def _is_list_of_addresses(addresses: Any) -> bool:
    if not isinstance(addresses, list):
        return False
    parts = [str(address).rpartition(":") for address in addresses]
    return all(host and port.isascii() and port.isdigit() for host, _, port in parts)
