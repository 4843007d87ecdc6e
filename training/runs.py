"""A training run in a folder: settings, checkpoints, the trained network, its figures."""

from __future__ import annotations

import dataclasses
import zipfile
from pathlib import Path
from typing import Any

import keras

from tfpqn.datasets import Splits, load_protocol

from .array_checkpoint import ARRAYS_FILE, TENSORFLOW_FILE
from .calibration import calibrate
from .evaluation import evaluate
from .json_files import read_json, write_json
from .machine import MACHINE_FILE
from .run_config import RunConfig


@dataclasses.dataclass(frozen=True)
class Run:
    """A run's folder.

    It holds `run.json` (the settings), `machine.json` (what it is trained on), `checkpoints/`,
    `logs/` (TensorBoard, if the backend is TensorFlow), and once training has ended
    `network.keras`; `metrics.json` after an evaluation, `calibration.json` after a calibration.

    Attributes:
        folder: The run's folder.
        config: Its settings.
    """

    folder: Path
    config: RunConfig

    @classmethod
    def open(cls, folder: str | Path) -> Run:
        """Open an existing run.

        Raises:
            FileNotFoundError: The folder holds no run.
            ValueError: Its run.json is damaged, or of a version with other settings.
        """
        file = Path(folder) / "run.json"
        if not file.is_file():
            raise FileNotFoundError(
                f"The run folder must hold run.json, as `tfpqn train` writes it. Received: "
                f"{str(folder)!r}"
            )
        try:
            return cls(Path(folder), RunConfig.plain(**read_json(file)))
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"{str(file)!r} must hold the settings of a run, as `tfpqn train` writes them. "
                f"Received: {error}"
            ) from error

    @classmethod
    def start(cls, folder: str | Path, config: RunConfig) -> Run:
        """Begin a run, or go on with the one that the folder holds.

        A run without a checkpoint binds nothing: new settings take its place.

        Raises:
            NotADirectoryError: The path is a file.
            ValueError: The folder holds a run with other settings; the message names them.
        """
        folder = Path(folder)
        if folder.exists() and not folder.is_dir():
            raise NotADirectoryError(f"The run folder must be a folder. Received: {str(folder)!r}")
        run = cls(folder, config)
        run.require_own_settings()
        if not run._is_bound:
            folder.mkdir(parents=True, exist_ok=True)
            # What was noted of the machine is that of the run whose place this one takes.
            (folder / MACHINE_FILE).unlink(missing_ok=True)
            write_json(folder / "run.json", config.to_json(), 2)
        return run

    def require_own_settings(self) -> None:
        """Refuse a folder whose run has a checkpoint and other settings.

        Raises:
            ValueError: It is so; the message names the settings that differ.
        """
        if not self._is_bound:
            return
        former = dataclasses.asdict(self.open(self.folder).config)
        wanted = dataclasses.asdict(self.config)
        changed = [f"{k}={former[k]!r} -> {wanted[k]!r}" for k in wanted if wanted[k] != former[k]]
        if changed:
            raise ValueError(
                f"The run in {str(self.folder)!r} must go on with its own settings; take another "
                f"folder for others. Received: {', '.join(changed)}"
            )

    @property
    def _is_bound(self) -> bool:
        """Whether the folder holds a run that has begun, and its settings."""
        return self.has_begun and (self.folder / "run.json").is_file()

    @property
    def has_begun(self) -> bool:
        """Whether there is a checkpoint or a trained network."""
        checkpoints = self.folder / "checkpoints"
        names = (TENSORFLOW_FILE, ARRAYS_FILE)
        return self.is_trained or any((checkpoints / name).is_file() for name in names)

    @property
    def is_trained(self) -> bool:
        """Whether training has ended."""
        return (self.folder / "network.keras").is_file()

    def load_network(self) -> Any:
        """The trained network; one that torch trained is not compiled on another backend.

        Raises:
            FileNotFoundError: Training has not ended yet.
            ValueError: The file is damaged.
        """
        if not self.is_trained:
            raise FileNotFoundError(
                f"The run in {str(self.folder)!r} must be trained to its end first. Received: a "
                "run without network.keras; `tfpqn train` with the same settings goes on"
            )
        path = self.folder / "network.keras"
        if not zipfile.is_zipfile(path):
            raise ValueError(
                f"{str(path)!r} must be a network, as training saves it. Received: a damaged file"
            )
        try:
            return keras.saving.load_model(path)
        except TypeError:
            # On torch Keras has optimizers of its own, which no other backend can load.
            return keras.saving.load_model(path, compile=False)

    def load_splits(
        self,
        data_dir: str | Path | None = None,
        protocol: str | None = None,
        num_frames: int | None = None,
    ) -> Splits:
        """The data of the run, or of another protocol; see `RunConfig.load_splits`."""
        return self.config.load_splits(data_dir, protocol, num_frames)

    def read_history(self) -> list[dict[str, float]]:
        """One dict a finished epoch; empty before the first, and of a run without epochs.

        Raises:
            ValueError: The file is damaged.
        """
        path = self.folder / "checkpoints" / "history.json"
        history = read_json(path) if path.is_file() else []
        if not isinstance(history, list) or not all(
            isinstance(epoch, dict) and "seconds" in epoch for epoch in history
        ):
            raise ValueError(
                f"{str(path)!r} must list epochs, as training does. Received: something else"
            )
        return history

    def read_metrics(self) -> dict[str, Any] | None:
        """The content of `metrics.json`, or None before an evaluation."""
        return self._read_optional("metrics.json")

    def write_metrics(self, metrics: dict[str, Any]) -> Path:
        """Write `metrics.json`; return its path."""
        path = self.folder / "metrics.json"
        write_json(path, metrics, 2)
        return path

    def read_calibration(self) -> dict[str, Any] | None:
        """The content of `calibration.json`, or None before a calibration."""
        return self._read_optional("calibration.json")

    def _read_optional(self, name: str) -> dict[str, Any] | None:
        path = self.folder / name
        return read_json(path) if path.is_file() else None

    def write_calibration(self, calibration: dict[str, Any]) -> Path:
        """Write `calibration.json`; return its path."""
        path = self.folder / "calibration.json"
        write_json(path, calibration, 2)
        return path


def evaluate_run(
    run: Run, network: Any, splits: Splits, protocol: str | None = None
) -> dict[str, Any]:
    """Evaluate a run's network; write and return its metrics, with protocol and settings."""
    name = protocol or run.config.protocol
    folder = run.config.images or run.config.videos
    kind = "images" if run.config.images else "videos"
    description = load_protocol(name).description if name else f"folder of {kind}, 10 % queries"
    metrics = {
        "protocol": name or folder,
        "description": description,
        **evaluate(network, splits),
        "config": run.config.to_json(),
    }
    run.write_metrics(metrics)
    return metrics


def calibrate_run(
    run: Run,
    network: Any,
    splits: Splits,
    protocol: str | None = None,
    *,
    precision: float = 0.95,
    top_k: int = 10,
    seed: int = 0,
) -> dict[str, Any]:
    """Calibrate a run's network; write and return the result, with the protocol."""
    calibration = {
        "protocol": protocol or run.config.protocol or run.config.images or run.config.videos,
        **calibrate(network, splits, precision=precision, top_k=top_k, seed=seed),
    }
    run.write_calibration(calibration)
    return calibration
