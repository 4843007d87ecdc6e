"""Checkpoints on any Keras backend: all variables as arrays in one file."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np

from tfpqn.files.atomic import write_file_atomically
from tfpqn.files.npz import read_npz
from tfpqn.files.typed_json import write_json

CHECKPOINT_FILE = "checkpoint.npz"


class Schedule(NamedTuple):
    """How long a training is and what it leaves behind: arguments of `fit`."""

    epochs: int
    steps_per_epoch: int
    checkpoint_dir: str | Path | None = None
    checkpoint_every: int | None = None
    log_dir: str | Path | None = None
    callbacks: Sequence[keras.callbacks.Callback] = ()
    progress: bool = True


class Checkpoint:
    """Everything that a step reads and writes, and its place on disk.

    All of it lies in one file, which is replaced in one step: a kill leaves the former in force.

    Args:
        network: A compiled network that is built.
        directory: Folder of the checkpoint; None keeps none.
        within_epochs: Whether there are checkpoints between an epoch's steps, which then hold its
            metrics too; else metrics begin each epoch anew.
        writes: Whether this process writes; of several that train together one does.
    """

    def __init__(
        self,
        network: keras.Model,
        directory: str | Path | None,
        *,
        within_epochs: bool = False,
        writes: bool = True,
    ) -> None:
        if not network.optimizer.built:
            network.optimizer.build(network.trainable_variables)
        metrics = network.metrics_variables
        ids = {id(variable) for variable in metrics}
        self._variables = [v for v in network.variables if id(v) not in ids]
        self._variables += [*network.optimizer.variables, *(metrics if within_epochs else ())]
        # What an array alone does not say: two optimizers may have variables of the same shapes.
        self._layout = [
            type(network.optimizer).__name__,
            *(f"{variable.dtype} {tuple(variable.shape)}" for variable in self._variables),
        ]
        self._directory = Path(directory) if directory else None
        self._writes = writes

    def save(self, step: int, history: list[dict[str, float]]) -> None:
        """Replace the checkpoint; `history` has one entry for each epoch that is behind it."""
        if self._directory is None:
            return
        # Of metrics it takes all replicas to know the values.
        arrays = [keras.ops.convert_to_numpy(variable) for variable in self._variables]
        if not self._writes:
            return
        content = io.BytesIO()
        np.savez(
            content,
            backend=np.array(keras.backend.backend()),
            step=np.array(step),
            history=np.array(json.dumps(history)),
            layout=np.array(self._layout),
            **{f"variable_{number}": array for number, array in enumerate(arrays)},
        )
        write_file_atomically(self._directory / CHECKPOINT_FILE, content.getvalue())
        write_json(self._directory / "history.json", history)

    def read_step(self) -> int:
        """The step that `restore` goes on from; 0 where there is no checkpoint."""
        if self._directory is None or not (self._directory / CHECKPOINT_FILE).is_file():
            return 0
        return int(_read(self._directory / CHECKPOINT_FILE, ["step"])["step"])

    def restore(self) -> tuple[int, list[dict[str, float]]]:
        """Give the variables the values of the checkpoint, if there is one.

        Returns:
            The step to go on from, and the history.

        Raises:
            ValueError: The checkpoint is damaged, another network's, or another backend's.
        """
        if self._directory is None:
            return 0, []
        path = self._directory / CHECKPOINT_FILE
        if not path.is_file():
            return 0, []
        self._require_layout(path)
        names = [f"variable_{number}" for number in range(len(self._variables))]
        arrays = _read(path, ["step", "history", *names])
        for variable, name in zip(self._variables, names, strict=True):
            variable.assign(arrays[name])
        history = json.loads(str(arrays["history"]))
        if self._writes:
            # A kill between checkpoint and file left the file an epoch behind.
            write_json(self._directory / "history.json", history)
        return int(arrays["step"]), history

    def _require_layout(self, path: Path) -> None:
        found = _read(path, ["layout", "backend"])
        backend, layout = str(found["backend"]), found["layout"].tolist()
        if backend != keras.backend.backend():
            raise ValueError(
                f"The run in {str(path.parent)!r} must go on with the backend that it was begun "
                "with, or from nothing in another folder. "
                f"Received: backend {keras.backend.backend()!r}, and a checkpoint of {backend!r}"
            )
        if layout != self._layout:
            raise ValueError(
                f"The checkpoint in {str(path.parent)!r} must be of this network and "
                f"optimizer. Received one of {_difference(layout, self._layout)}"
            )


def _read(path: Path, names: list[str]) -> dict[str, np.ndarray]:
    try:
        return read_npz(path, names)
    except ValueError as error:
        raise ValueError(
            f"The checkpoint {str(path)!r} must be whole, as training writes it; remove its folder "
            f"to begin anew. Received: a damaged file ({error})"
        ) from error


def _difference(found: list[str], wanted: list[str]) -> str:
    """Where two layouts first differ."""
    for number, (one, other) in enumerate(zip(found, wanted, strict=False)):
        if one != other:
            place = f"variable {number - 1}, " if number else ""
            return f"{place}{one}, not {other}"
    return f"{len(found) - 1} variables, not {len(wanted) - 1}"
