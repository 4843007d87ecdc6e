"""A training run in a folder: settings, checkpoints, the trained network, its figures."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tfpqn.datasets import ImageSet, Splits, TrainingBatches, load_protocol
from tfpqn.files import write_file_atomically

from .array_checkpoint import ARRAYS_FILE, TENSORFLOW_FILE
from .calibration import calibrate
from .callbacks import EvaluateRetrieval, ReviveCodewords
from .evaluation import evaluate
from .fitting import fit
from .initialization import initialize_codebooks, settle_codebooks
from .run_config import RunConfig

# Images per codeword for k-means and for the search for dead codewords, and the least in all.
SAMPLES_PER_CODEWORD = 16
FEWEST_SAMPLES = 2048
# Embeddings of so many are held at once, after training.
SETTLED_ITEMS = 2**16


@dataclasses.dataclass(frozen=True)
class Run:
    """A run's folder.

    It holds `run.json` (the settings), `checkpoints/`, `logs/` (TensorBoard, if the backend is
    TensorFlow), and once training has ended `network.keras`; `metrics.json` after an evaluation,
    `calibration.json` after a calibration.

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
            return cls(Path(folder), RunConfig(**json.loads(file.read_text())))
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
        if run.has_begun and (folder / "run.json").is_file():
            former = dataclasses.asdict(cls.open(folder).config)
            wanted = dataclasses.asdict(config)
            changed = [
                f"{k}={former[k]!r} -> {wanted[k]!r}" for k in wanted if wanted[k] != former[k]
            ]
            if changed:
                raise ValueError(
                    f"The run in {str(folder)!r} must go on with its own settings; take another "
                    f"folder for others. Received: {', '.join(changed)}"
                )
        else:
            folder.mkdir(parents=True, exist_ok=True)
            _write_json(folder / "run.json", config.to_json())
        return run

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
        """The trained network.

        Raises:
            FileNotFoundError: Training has not ended yet.
        """
        if not self.is_trained:
            raise FileNotFoundError(
                f"The run in {str(self.folder)!r} must be trained to its end first. Received: a "
                "run without network.keras; `tfpqn train` with the same settings goes on"
            )
        return keras.saving.load_model(self.folder / "network.keras")

    def load_splits(
        self,
        data_dir: str | Path | None = None,
        protocol: str | None = None,
        num_frames: int | None = None,
    ) -> Splits:
        """The data of the run, or of another protocol; see `RunConfig.load_splits`."""
        return self.config.load_splits(data_dir, protocol, num_frames)

    def read_history(self) -> list[dict[str, float]]:
        """One dict a finished epoch; empty before the first, and of a run without epochs."""
        return _read_json(self.folder / "checkpoints" / "history.json") or []

    def read_metrics(self) -> dict[str, Any] | None:
        """The content of `metrics.json`, or None before an evaluation."""
        return _read_json(self.folder / "metrics.json")

    def write_metrics(self, metrics: dict[str, Any]) -> Path:
        """Write `metrics.json`; return its path."""
        path = self.folder / "metrics.json"
        _write_json(path, metrics)
        return path

    def read_calibration(self) -> dict[str, Any] | None:
        """The content of `calibration.json`, or None before a calibration."""
        return _read_json(self.folder / "calibration.json")

    def write_calibration(self, calibration: dict[str, Any]) -> Path:
        """Write `calibration.json`; return its path."""
        path = self.folder / "calibration.json"
        _write_json(path, calibration)
        return path


def train(
    run: Run,
    splits: Splits,
    *,
    checkpoint_every: int | None = 200,
    evaluate_every: int | None = None,
    progress: bool = True,
) -> Any:
    """Train a run to its end, going on from its last checkpoint if it has one.

    With `freeze_codebooks` the codebooks stay those of the initial run, bit by bit: no k-means, no
    revival, and `network.quantizer.trainable` is False. The same holds in plain Keras: set
    `network.quantizer.trainable = False` before `compile`, and `fit` leaves the codebooks alone.

    Args:
        run: From `Run.start`.
        splits: The data; `train` is used.
        checkpoint_every: Steps between checkpoints; on another backend than TensorFlow each epoch's
            end has one, and no other.
        evaluate_every: Epochs between evaluations, whose mAP goes into the history; None for none.
        progress: Whether to show a progress bar.

    Returns:
        The trained network, which is also saved in the run's folder.

    Raises:
        ValueError: The data does not fit the settings, the initial run's network is another, or
            the loss became NaN.
    """
    config = run.config
    if run.is_trained:
        return run.load_network()
    batches = TrainingBatches(
        splits.train,
        config.batch_size,
        seed=config.seed,
        augment=config.augment,
        max_shift=config.max_shift,
        cutout=config.cutout,
        color_jitter=config.color_jitter,
        views=config.views,
    )
    network = config.build_network(
        splits.train.image_shape,
        config.epochs * batches.steps_per_epoch,
        _count_classes(splits.train.labels),
    )
    network.quantizer.trainable = not config.freeze_codebooks
    checkpoint_dir = run.folder / "checkpoints"
    num_samples = max(FEWEST_SAMPLES, SAMPLES_PER_CODEWORD * network.quantizer.num_codewords)
    if not config.epochs:
        # K-means alone has the time to look at all.
        num_samples = len(splits.train)
    if not run.has_begun:
        if config.initial_run:
            initial = Run.open(config.initial_run).load_network()
            _copy_weights(initial, network, config.freeze_codebooks)
        if not config.freeze_codebooks:
            initialize_codebooks(
                network,
                sample_batches(splits.train, num_samples, 256),
                seed=config.seed,
                training=config.epochs > 0,
            )
    if not config.epochs:
        # An optimizer that has not stepped is saved without its variables, and cannot be loaded.
        network.optimizer.build(network.trainable_variables)
        _save_network(network, run.folder / "network.keras")
        return network
    callbacks: list[keras.callbacks.Callback] = []
    if not config.freeze_codebooks:
        revive = ReviveCodewords(
            lambda: sample_batches(splits.train, num_samples, 256),
            last_epoch=config.epochs // 2 - 1,
            seed=config.seed,
        )
        callbacks.append(revive)
    if evaluate_every:
        callbacks.append(EvaluateRetrieval(splits, evaluate_every))
    fit(
        network,
        _batches_from(batches, config.epochs * batches.steps_per_epoch),
        epochs=config.epochs,
        steps_per_epoch=batches.steps_per_epoch,
        checkpoint_dir=checkpoint_dir,
        checkpoint_every=checkpoint_every,
        log_dir=run.folder / "logs",
        callbacks=callbacks,
        progress=progress,
    )
    if config.settles_codebooks:
        settle_codebooks(
            network,
            sample_batches(splits.train, max(num_samples, SETTLED_ITEMS), 256),
            seed=config.seed,
        )
    _save_network(network, run.folder / "network.keras")
    return network


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


def sample_batches(images: ImageSet, count: int, batch_size: int) -> Iterable[np.ndarray]:
    """At most `count` items, evenly spread over the set, in batches as heavy as so many images."""
    batch_size = images.items_per_batch(batch_size)
    positions = np.linspace(0, len(images) - 1, min(count, len(images))).astype(np.int64)
    return (batch.images for batch in images.batches(batch_size, positions))


def _batches_from(batches: TrainingBatches, num_steps: int) -> Callable[[int], Any]:
    """From a step to the batches up to `num_steps`, in the form that the backend's loop takes."""
    if keras.backend.backend() != "tensorflow" and batches.images.in_memory:
        return batches.arrays

    def dataset(step: int) -> Any:
        return batches.dataset(step, num_steps - step)

    if keras.backend.backend() == "tensorflow":
        return dataset
    return lambda step: dataset(step).as_numpy_iterator()


def _count_classes(labels: np.ndarray) -> int | None:
    """Number of classes of items with one label each; None of others."""
    return int(labels.max()) + 1 if labels.ndim == 1 else None


def _copy_weights(source: Any, network: Any, with_codebooks: bool) -> None:
    """Give the network the backbone and the embedding of another, maybe the codebooks too.

    Also the classifier, where both have one of the same classes.
    """
    parts = ["backbone", "embedding"]
    if with_codebooks:
        parts.append("quantizer")
    if network.num_classes is not None and source.num_classes == network.num_classes:
        parts.append("classifier")
    for part in parts:
        weights = getattr(source, part).get_weights()
        expected = [tuple(variable.shape) for variable in getattr(network, part).weights]
        received = [weight.shape for weight in weights]
        if received != expected:
            raise ValueError(
                f"The initial run's {part} must be like the network's: weights of the shapes "
                f"{expected}. Received: {received}"
            )
        getattr(network, part).set_weights(weights)
    fingerprints = [net.quantizer.codebook_fingerprint() for net in (source, network)]
    if with_codebooks and len(set(fingerprints)) > 1:
        raise ValueError(
            "The initial run's quantizer must be like the network's, for its codes to stay valid: "
            f"expected {network.quantizer.get_config()}. Received: {source.quantizer.get_config()}"
        )


def _save_network(network: Any, path: Path) -> None:
    """Save beside and rename, so that `path` is never half a file."""
    temporary = path.with_name(f".{path.stem}-{os.getpid()}.keras")
    try:
        network.save(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _read_json(path: Path) -> Any:
    return json.loads(path.read_text()) if path.is_file() else None


def _write_json(path: Path, content: dict[str, Any]) -> None:
    write_file_atomically(path, (json.dumps(content, indent=2) + "\n").encode())
