"""A training run in a folder: settings, checkpoint, the trained network, its figures."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import warnings
from pathlib import Path
from typing import Any

from tfpqn.datasets import ImageSet, Splits, load_protocol
from tfpqn.files import locks
from tfpqn.files.atomic import sha256_of_file
from tfpqn.files.foreign import read_json, reading
from tfpqn.files.typed_json import require_types, write_json

from ..calibration import open_calibration, seal_calibration
from ..loops.checkpoint import CHECKPOINT_FILE
from ..settings.data_settings import SOURCES, DataSettings
from ..settings.run_config import RunConfig
from ..settings.settings_file import settings_from_json, settings_to_json
from .network_file import NETWORK_FILE, read_network
from .prolonging import describe_differences, prolongs, with_earlier_epochs
from .split_record import SplitRecord

REPORT_FILE = "report.html"


@dataclasses.dataclass(frozen=True)
class Run:
    """A run's folder.

    It holds `run.json` (the settings), `split.json` (of a folder: which items are queries and which
    are not), `checkpoints/`, `logs/` (TensorBoard, if the backend is TensorFlow), and once training
    has ended `network.keras`; `metrics.json` after an evaluation, `calibration.json` after a
    calibration, `report.html` after a report.

    Attributes:
        folder: The run's folder.
        config: Its settings.
        writes: Whether this process writes to the folder: of those that train a run together, one.
    """

    folder: Path
    config: RunConfig
    writes: bool = True

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
        expected = "the settings of a run, as `tfpqn train` writes them"
        content = read_json(file, expected)
        with reading(file, expected):
            return cls(Path(folder), settings_from_json(content))

    @classmethod
    def start(cls, folder: str | Path, config: RunConfig, *, writes: bool = True) -> Run:
        """Begin a run, go on with the one that the folder holds, or give it more epochs.

        A run without a checkpoint binds nothing: new settings take its place. One that has ended
        may be given more epochs, if it has kept its checkpoint: its `earlier_epochs` say so, its
        network so far becomes `network-N-epochs.keras`, and figures, calibration and report of that
        are removed.

        Raises:
            NotADirectoryError: The path is a file.
            ValueError: The folder holds a run with other settings; the message names them.
            BlockingIOError: The run is being trained.
        """
        folder = Path(folder)
        if folder.exists() and not folder.is_dir():
            raise NotADirectoryError(f"The run folder must be a folder. Received: {str(folder)!r}")
        run = cls(folder, config, writes)
        former = run.former
        if former is not None:
            config = with_earlier_epochs(config.open_as(former), former, run.count_kept_epochs)
            run = cls(folder, config, writes)
        if run.is_trained and config == former:
            return run
        with run.lock():
            run.bind()
        return run

    def for_items(self, items: ImageSet) -> Run:
        """The run with what its settings leave open: as its folder has it, or chosen for items."""
        former = self.former
        config = self.config if former is None else self.config.open_as(former)
        return dataclasses.replace(self, config=config.for_items(items))

    def lock(self) -> contextlib.AbstractContextManager[None]:
        """Keeps all others from training the run; a BlockingIOError where another does.

        It is had by the process that writes.
        """
        if not self.writes:
            return contextlib.nullcontext()
        return locks.exclusive(self.folder, "run", inside=True)

    def bind(self) -> None:
        """Enter the settings into the folder, if this process writes; for who holds the lock.

        Raises:
            ValueError: The folder holds a run with other settings; the message names them.
        """
        former = self.former
        behind = former and (*former.optimization.earlier_epochs, former.optimization.epochs)
        is_next = self.config.optimization.earlier_epochs == behind
        if former and is_next and prolongs(self.config, former, self.count_kept_epochs):
            if self.writes:
                self._set_aside(former.num_epochs)
        else:
            self.require_own_settings()
        if self.writes and former != self.config:
            write_json(self.folder / "run.json", settings_to_json(self.config), 2)

    def require_own_settings(self) -> None:
        """Refuse a folder whose run has a checkpoint and other settings.

        Raises:
            ValueError: It is so; the message names the settings that differ.
        """
        former = self.former
        if former is not None and (changed := describe_differences(self.config, former)):
            raise ValueError(
                f"The run in {str(self.folder)!r} must go on with its own settings; take another "
                "folder for others. Only its epochs may grow, once it has ended and while its "
                f"checkpoint is there. Received: {changed}"
            )

    @property
    def former(self) -> RunConfig | None:
        """The settings of the run that has begun in the folder; None where none has."""
        is_bound = self.has_begun and (self.folder / "run.json").is_file()
        return self.open(self.folder).config if is_bound else None

    @property
    def has_begun(self) -> bool:
        """Whether there is a checkpoint or a trained network."""
        return self.is_trained or self._has_checkpoint

    @property
    def is_trained(self) -> bool:
        """Whether training has ended."""
        return (self.folder / NETWORK_FILE).is_file()

    @property
    def split_record(self) -> SplitRecord:
        """Which items of a folder the run was trained on."""
        return SplitRecord(self.folder, self.has_begun and self.config.data.protocol is None)

    def load_network(self) -> Any:
        """The trained network; one that torch trained is not compiled on another backend.

        Raises:
            FileNotFoundError: Training has not ended yet.
            ValueError: The file is damaged, or holds something else.
        """
        if not self.is_trained:
            state = (
                "a run without network.keras; `tfpqn train` with the same settings goes on"
                if self.has_begun
                else "one whose training has not begun; `tfpqn train` begins it"
            )
            raise FileNotFoundError(
                f"The run in {str(self.folder)!r} must be trained to its end first. "
                f"Received: {state}"
            )
        return read_network(self.folder / NETWORK_FILE)

    def choose_data(
        self,
        protocol: str | None = None,
        images: str | Path | None = None,
        videos: str | Path | None = None,
        vectors: str | Path | None = None,
        labels: str | Path | None = None,
    ) -> DataSettings:
        """The run's data, or with one of the arguments others of the same kind.

        The run's own table of labels stays with its own place of the items alone; `labels` is that
        of others. A table that is left out is a warning.

        Raises:
            ValueError: More than one is given, or one of another kind of items.
        """
        others = (protocol, images, videos, vectors)
        own = self.config.data
        if not any(others):
            return own if labels is None else dataclasses.replace(own, labels=str(labels))
        texts = (str(other) if other else None for other in others)
        sources = dict(zip(SOURCES, texts, strict=True))
        table = None if labels is None else str(labels)
        chosen = self.config.replace(**sources, labels=table).data
        if chosen.items is not own.items:
            raise ValueError(
                f"The items must be {own.items.kind}, as those of the run. "
                f"Received: {chosen.items.kind}"
            )
        if chosen.folder == own.folder and labels is None:
            return dataclasses.replace(chosen, labels=own.labels)
        if own.labels and chosen.folder and not chosen.labels:
            warnings.warn(
                f"The run's table, {own.labels}, is of other items and not used: labels (--labels) "
                "names one of these",
                stacklevel=2,
            )
        return chosen

    def load_splits(
        self,
        data_dir: str | Path | None = None,
        protocol: str | None = None,
        num_frames: int | None = None,
        *,
        images: str | Path | None = None,
        videos: str | Path | None = None,
        vectors: str | Path | None = None,
        labels: str | Path | None = None,
    ) -> Splits:
        """The data of the run, or other data.

        An item of a folder is on the side that training had it on, whatever has come or gone since.

        Args:
            data_dir: Folder of tensorflow-datasets' prepared data sets.
            protocol: Protocol to take instead.
            num_frames: Frames to take of each clip instead.
            images: Folder of images to take instead, such as the place that they have moved to.
            videos: The same, of videos.
            vectors: A file of vectors to take instead.
            labels: Table of labels of the items.

        Raises:
            FileNotFoundError: The run's folder is not where it was.
            ValueError: More than one other source is given, or one of another kind of items.
        """
        data = self.choose_data(protocol, images, videos, vectors, labels)
        if data.protocol:
            return data.load_splits(data_dir, num_frames)
        if data.folder == self.config.data.folder:
            self._require_source()
        own = self.config.data.protocol
        items = data.open_folder(num_frames, load_protocol(own).image_shape if own else None)
        return data.split(items, self.split_record.read_sides())

    def read_history(self) -> list[dict[str, float]]:
        """One dict a finished epoch; empty before the first, and of a run without epochs.

        Raises:
            ValueError: The file is damaged.
        """
        path = self.folder / "checkpoints" / "history.json"
        if not path.is_file():
            return []
        with reading(path, "a list of epochs, as training writes it"):
            history = json.loads(path.read_bytes())
            if not isinstance(history, list):
                raise ValueError(f"a JSON {type(history).__name__}")
            for epoch in history:
                require_types(epoch, dict.fromkeys(("seconds", *epoch), float))
                if "seconds" not in epoch:
                    raise ValueError(f"an epoch without its seconds: {epoch}")
        return history

    def count_kept_epochs(self) -> int:
        """Epochs that training can go on from: none without its checkpoint."""
        return len(self.read_history()) if self._has_checkpoint else 0

    def read_metrics(self) -> dict[str, Any] | None:
        """The content of `metrics.json`, or None before an evaluation."""
        path = self.folder / "metrics.json"
        expected = "the figures of a run, as evaluation writes them"
        return read_json(path, expected) if path.is_file() else None

    def write_metrics(self, metrics: dict[str, Any]) -> None:
        """Write `metrics.json`."""
        write_json(self.folder / "metrics.json", metrics, 2)

    def read_calibration(self) -> dict[str, Any] | None:
        """What `calibrate_run` found, or None before a calibration.

        Raises:
            ValueError: `calibration.json` was changed, or is that of another network.
        """
        path = self.folder / "calibration.json"
        if not path.is_file():
            return None
        expected = "the calibration of the run's network, as `tfpqn calibrate` writes it"
        with reading(path, expected):
            return open_calibration(read_json(path, expected), self._fingerprint_network())

    def write_calibration(self, calibration: dict[str, Any]) -> None:
        """Write `calibration.json`, tied to the trained network."""
        sealed = seal_calibration(calibration, self._fingerprint_network())
        write_json(self.folder / "calibration.json", sealed, 2)

    @property
    def _has_checkpoint(self) -> bool:
        return (self.folder / "checkpoints" / CHECKPOINT_FILE).is_file()

    def _fingerprint_network(self) -> str | None:
        return sha256_of_file(self.folder / NETWORK_FILE) if self.is_trained else None

    def _set_aside(self, epochs: int) -> None:
        """Keep the network of a run that goes on under another name, and nothing made from it."""
        with contextlib.suppress(FileNotFoundError):
            path = self.folder / NETWORK_FILE
            os.replace(path, path.with_stem(f"{path.stem}-{epochs}-epochs"))
        for name in ("metrics.json", "calibration.json", REPORT_FILE):
            (self.folder / name).unlink(missing_ok=True)

    def _require_source(self) -> None:
        data = self.config.data
        if self.has_begun and not Path(data.folder or "").exists():
            kind = data.items.source
            raise FileNotFoundError(
                f"The {kind} of the run must be where training had them, or their place now be "
                f"given ({kind}=.., or --{kind} of evaluate, report, calibrate and index). "
                f"Received: {data.folder!r}, which does not exist"
            )
