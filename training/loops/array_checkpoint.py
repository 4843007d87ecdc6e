"""Checkpoints of any Keras backend: the variables as arrays in one file."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tfpqn.files.atomic import write_file_atomically
from tfpqn.files.npz import read_npz

from ..runs.json_files import write_json

ARRAYS_FILE = "checkpoint.npz"
# Names the last of the checkpoints that the custom loop writes by TensorFlow.
TENSORFLOW_FILE = "checkpoint"


class ArrayCheckpoint:
    """The variables of a network and its optimizer, and the history, at the end of an epoch.

    All of it lies in one file, which is replaced in one step.

    Args:
        network: A compiled network that is built.
        directory: Folder of the checkpoint; None keeps none.
    """

    def __init__(self, network: Any, directory: str | Path | None) -> None:
        if not network.optimizer.built:
            network.optimizer.build(network.trainable_variables)
        metrics = {id(variable) for variable in network.metrics_variables}
        # Metrics begin each epoch anew.
        self._variables = [v for v in network.variables if id(v) not in metrics]
        self._variables += network.optimizer.variables
        # What an array alone does not say: two optimizers may have variables of the same shapes.
        self._layout = [
            type(network.optimizer).__name__,
            *(f"{variable.dtype} {tuple(variable.shape)}" for variable in self._variables),
        ]
        self._directory = Path(directory) if directory else None

    def save(self, history: list[dict[str, float]]) -> None:
        """Replace the checkpoint; `history` has one entry for each epoch that is behind it."""
        if self._directory is None:
            return
        arrays = map(keras.ops.convert_to_numpy, self._variables)
        content = io.BytesIO()
        np.savez(
            content,
            history=np.array(json.dumps(history)),
            layout=np.array(self._layout),
            **{f"variable_{number}": array for number, array in enumerate(arrays)},
        )
        write_file_atomically(self._directory / ARRAYS_FILE, content.getvalue())
        write_history(self._directory, history)

    def restore(self) -> list[dict[str, float]]:
        """Give the variables the values of the checkpoint, if there is one; return its history.

        Raises:
            ValueError: The checkpoint is damaged, another network's, or one of TensorFlow.
        """
        if self._directory is None:
            return []
        refuse_checkpoint(self._directory, TENSORFLOW_FILE)
        path = self._directory / ARRAYS_FILE
        if not path.is_file():
            return []
        layout = read_npz(path, ["layout"])["layout"].tolist()
        if layout != self._layout:
            raise ValueError(
                f"The checkpoint in {str(self._directory)!r} must be of this network and "
                f"optimizer. Received one of {_difference(layout, self._layout)}"
            )
        names = [f"variable_{number}" for number in range(len(self._variables))]
        arrays = read_npz(path, ["history", *names])
        for variable, name in zip(self._variables, names, strict=True):
            variable.assign(arrays[name])
        history = json.loads(str(arrays["history"]))
        # A kill between checkpoint and file left the file an epoch behind.
        write_history(self._directory, history)
        return history


def write_history(directory: Path, history: list[dict[str, float]]) -> None:
    """Write what a checkpoint holds of its epochs where people and records read it."""
    write_json(directory / "history.json", history)


def refuse_checkpoint(directory: Path, name: str) -> None:
    """Refuse a folder with a checkpoint that another backend's loop has written.

    Raises:
        ValueError: The folder holds the file of that name.
    """
    if (directory / name).is_file():
        raise ValueError(
            f"The run in {str(directory)!r} must go on with the backend that it was begun with, "
            f"or from nothing in another folder. Received: backend {keras.backend.backend()!r}, "
            f"and the checkpoint {name!r} of another"
        )


def _difference(found: list[str], wanted: list[str]) -> str:
    """Where two layouts first differ."""
    for number, (one, other) in enumerate(zip(found, wanted, strict=False)):
        if one != other:
            place = f"variable {number - 1}, " if number else ""
            return f"{place}{one}, not {other}"
    return f"{len(found) - 1} variables, not {len(wanted) - 1}"
