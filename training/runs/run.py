"""A training run in a folder: settings, checkpoints, the trained network, its figures."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import typing
import warnings
from pathlib import Path
from typing import Any

from tfpqn.datasets import ImageSet, Splits, load_protocol, sides_by_position, split_folder
from tfpqn.files import locks
from tfpqn.files.atomic import sha256_of_file
from tfpqn.files.foreign import read_json, reading

from ..calibration import calibrate, open_calibration, seal_calibration
from ..evaluation import evaluate
from ..loops.array_checkpoint import ARRAYS_FILE, TENSORFLOW_FILE
from ..settings.run_config import RunConfig
from .json_files import require_types, write_json
from .machine import MACHINE_FILE
from .network_file import NETWORK_FILE, read_network
from .split_record import SPLIT_FILE, read_split, record_split, warn_of_changes


@dataclasses.dataclass(frozen=True)
class Run:
    """A run's folder.

    It holds `run.json` (the settings), `machine.json` (what it is trained on), `split.json` (of a
    folder: which items are queries and which are not), `checkpoints/`, `logs/` (TensorBoard, if the
    backend is TensorFlow), and once training has ended `network.keras`; `metrics.json` after an
    evaluation, `calibration.json` after a calibration.

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
        expected = "the settings of a run, as `tfpqn train` writes them"
        content = read_json(file, expected)
        with reading(file, expected):
            require_types(content, typing.get_type_hints(RunConfig))
            return cls(Path(folder), RunConfig.plain(**content))

    @classmethod
    def start(cls, folder: str | Path, config: RunConfig) -> Run:
        """Begin a run, go on with the one that the folder holds, or give it more epochs.

        A run without a checkpoint binds nothing: new settings take its place. One that has ended
        may be given more epochs, if it has kept its checkpoints: its `earlier_epochs` say so, its
        network so far becomes `network-N-epochs.keras`, and figures and calibration of that are
        removed.

        Raises:
            NotADirectoryError: The path is a file.
            ValueError: The folder holds a run with other settings; the message names them.
            BlockingIOError: The run is being trained.
        """
        folder = Path(folder)
        if folder.exists() and not folder.is_dir():
            raise NotADirectoryError(f"The run folder must be a folder. Received: {str(folder)!r}")
        run = cls(folder, config)._like_former()._with_earlier_epochs()
        if run.is_trained and run.config == run._former:
            return run
        with run.lock():
            run.bind()
        return run

    def for_items(self, items: ImageSet) -> Run:
        """The run with what its settings leave open: as its folder has it, or chosen for items."""
        run = self._like_former()
        return Run(run.folder, run.config.for_items(items))

    def lock(self) -> contextlib.AbstractContextManager[None]:
        """Keeps all others from training the run; a BlockingIOError where another does."""
        return locks.exclusive(self.folder, "run", inside=True)

    def bind(self) -> None:
        """Enter the settings into the folder; for who holds the lock.

        Raises:
            ValueError: The folder holds a run with other settings; the message names them.
        """
        former = self._former
        behind = None if former is None else (*former.earlier_epochs, former.epochs)
        if former and self.config.earlier_epochs == behind and self._prolongs(former):
            self._set_aside(former)
        else:
            self.require_own_settings()
        if former is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            # What was noted of the machine is that of the run whose place this one takes.
            (self.folder / MACHINE_FILE).unlink(missing_ok=True)
        if former != self.config:
            write_json(self.folder / "run.json", self.config.to_json(), 2)

    def require_own_settings(self) -> None:
        """Refuse a folder whose run has a checkpoint and other settings.

        Raises:
            ValueError: It is so; the message names the settings that differ.
        """
        former = self._former
        names = [] if former is None else self._differing(former)
        # What was prolonged before follows from the number of epochs.
        names = [name for name in names if name != "earlier_epochs"] or names
        if former is not None and names:
            changed = [f"{n}={getattr(former, n)!r} -> {getattr(self.config, n)!r}" for n in names]
            raise ValueError(
                f"The run in {str(self.folder)!r} must go on with its own settings; take another "
                "folder for others. Only its epochs may grow, once it has ended and while its "
                f"checkpoints are there. Received: {', '.join(changed)}"
            )

    @property
    def _former(self) -> RunConfig | None:
        """The settings of a run that has begun in the folder."""
        is_bound = self.has_begun and (self.folder / "run.json").is_file()
        return self.open(self.folder).config if is_bound else None

    def _like_former(self) -> Run:
        former = self._former
        return self if former is None else Run(self.folder, self.config.open_as(former))

    def _with_earlier_epochs(self) -> Run:
        """The run with what the folder's has behind it, where it goes on with that."""
        former = self._former
        if former is None or self.config.earlier_epochs:
            return self
        earlier: tuple[int, ...] = ()
        if self._prolongs(former):
            earlier = (*former.earlier_epochs, former.num_epochs)
        elif self._differing(former) == ["earlier_epochs"]:
            earlier = former.earlier_epochs
        return Run(self.folder, dataclasses.replace(self.config, earlier_epochs=earlier))

    def _prolongs(self, former: RunConfig) -> bool:
        """Whether this is the run that has ended in the folder, with more epochs."""
        before, now = former.epochs or 0, self.config.epochs or 0
        return (
            now > before > 0
            and set(self._differing(former)) <= {"epochs", "earlier_epochs"}
            and len(self.read_history()) == before
        )

    def _differing(self, former: RunConfig) -> list[str]:
        """Names of settings that differ; what is left open does not."""
        config = self.config.open_as(former)
        names = [field.name for field in dataclasses.fields(RunConfig)]
        return [name for name in names if getattr(config, name) != getattr(former, name)]

    def _set_aside(self, former: RunConfig) -> None:
        """Keep the network of a run that goes on under another name, and nothing made from it."""
        with contextlib.suppress(FileNotFoundError):
            path = self.folder / NETWORK_FILE
            os.replace(path, path.with_stem(f"{path.stem}-{former.epochs}-epochs"))
        for name in ("metrics.json", "calibration.json"):
            (self.folder / name).unlink(missing_ok=True)

    @property
    def has_begun(self) -> bool:
        """Whether there is a checkpoint or a trained network."""
        checkpoints = self.folder / "checkpoints"
        names = (TENSORFLOW_FILE, ARRAYS_FILE)
        return self.is_trained or any((checkpoints / name).is_file() for name in names)

    @property
    def is_trained(self) -> bool:
        """Whether training has ended."""
        return (self.folder / NETWORK_FILE).is_file()

    def load_network(self) -> Any:
        """The trained network; one that torch trained is not compiled on another backend.

        Raises:
            FileNotFoundError: Training has not ended yet.
            ValueError: The file is damaged, or holds something else.
        """
        if not self.is_trained:
            raise FileNotFoundError(
                f"The run in {str(self.folder)!r} must be trained to its end first. Received: a "
                "run without network.keras; `tfpqn train` with the same settings goes on"
            )
        return read_network(self.folder / NETWORK_FILE)

    def load_splits(
        self,
        data_dir: str | Path | None = None,
        protocol: str | None = None,
        num_frames: int | None = None,
        *,
        images: str | Path | None = None,
        videos: str | Path | None = None,
    ) -> Splits:
        """The data of the run, or other data.

        An item of a folder is on the side that training had it on, whatever has come or gone since.

        Args:
            data_dir: Folder of tensorflow-datasets' prepared data sets.
            protocol: Protocol to take instead.
            num_frames: Frames to take of each clip instead.
            images: Folder of images to take instead, such as the place that they have moved to.
            videos: The same, of videos.

        Raises:
            FileNotFoundError: The run's folder is not where it was.
            ValueError: More than one other source is given, or one of another kind of items.
        """
        given = [source for source in (protocol, images, videos) if source]
        if len(given) > 1:
            raise ValueError(
                "One of protocol, images and videos can take the place of the run's data. "
                f"Received: {', '.join(map(str, given))}"
            )
        config = self.config
        if images or videos:
            config = dataclasses.replace(
                config,
                protocol=None,
                images=str(images) if images else None,
                videos=str(videos) if videos else None,
            )
        if protocol or config.protocol:
            return config.load_splits(data_dir, protocol, num_frames)
        self._require_source(config)
        shape = load_protocol(self.config.protocol).image_shape if self.config.protocol else None
        items = config.open_folder(num_frames, shape)
        is_labelled = config.views == 1
        known = self._known_sides
        if self._is_older_than_records:
            known = sides_by_position(items, labelled=is_labelled)
        return split_folder(items, labelled=is_labelled, known=known)

    def _require_source(self, config: RunConfig) -> None:
        source = config.images or config.videos or ""
        if config is self.config and self.has_begun and not Path(source).exists():
            kind = "images" if config.images else "videos"
            raise FileNotFoundError(
                f"The {kind} of the run must be where training had them, or their place now be "
                f"given ({kind}=.., or --{kind} of evaluate, calibrate and index). "
                f"Received: {source!r}, which does not exist"
            )

    def record_split(self, splits: Splits) -> None:
        """Note which items of a folder are queries, and which are not."""
        if self.config.protocol is None:
            record_split(self.folder, splits, self._known_sides)

    def find_changes(self, splits: Splits) -> dict[str, int] | None:
        """How a folder differs from what training had of it; a warning says it.

        Returns:
            See `warn_of_changes`; None of a run without a record.
        """
        known = self._known_sides
        if known is not None:
            return warn_of_changes(known, splits)
        if self._is_older_than_records:
            warnings.warn(
                "The run has no record of its queries: an earlier version trained it. They are "
                "drawn as that version drew them. If files have come or gone since, some queries "
                "were trained on",
                stacklevel=3,
            )
        return None

    @property
    def _known_sides(self) -> dict[str, bool] | None:
        return read_split(self.folder) if self.has_begun else None

    @property
    def _is_older_than_records(self) -> bool:
        """Whether it was trained on a folder that was split by position.

        Raises:
            ValueError: The record is gone: settings of today's kind have one beside them.
        """
        if self.config.protocol or not self.has_begun or self._known_sides is not None:
            return False
        file = self.folder / "run.json"
        if file.is_file() and "earlier_epochs" in read_json(file, "the settings of a run"):
            raise ValueError(
                f"The run in {str(self.folder)!r} must hold {SPLIT_FILE}, which says on which "
                "items it was trained. Received: a run without it"
            )
        return True

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

    def read_metrics(self) -> dict[str, Any] | None:
        """The content of `metrics.json`, or None before an evaluation."""
        return self._read_optional(
            "metrics.json", "the figures of a run, as evaluation writes them"
        )

    def write_metrics(self, metrics: dict[str, Any]) -> Path:
        """Write `metrics.json`; return its path."""
        path = self.folder / "metrics.json"
        write_json(path, metrics, 2)
        return path

    def read_calibration(self) -> dict[str, Any] | None:
        """What `calibrate_run` found, or None before a calibration.

        Raises:
            ValueError: `calibration.json` was changed, or is that of another network.
        """
        expected = "the calibration of the run's network, as `tfpqn calibrate` writes it"
        content = self._read_optional("calibration.json", expected)
        if content is None:
            return None
        with reading(self.folder / "calibration.json", expected):
            return open_calibration(content, self._fingerprint_network())

    def write_calibration(self, calibration: dict[str, Any]) -> Path:
        """Write `calibration.json`, tied to the trained network; return its path."""
        path = self.folder / "calibration.json"
        write_json(path, seal_calibration(calibration, self._fingerprint_network()), 2)
        return path

    def _read_optional(self, name: str, expected: str) -> dict[str, Any] | None:
        path = self.folder / name
        return read_json(path, expected) if path.is_file() else None

    def _fingerprint_network(self) -> str | None:
        return sha256_of_file(self.folder / NETWORK_FILE) if self.is_trained else None


def evaluate_run(
    run: Run,
    network: Any,
    splits: Splits,
    protocol: str | None = None,
    *,
    folder: str | Path | None = None,
) -> dict[str, Any]:
    """Evaluate a run's network; write and return its metrics, with protocol and settings.

    Args:
        run: The run.
        network: Its network.
        splits: `query` and `database` are used.
        protocol: Name of the protocol that the splits are of, if that is not the run's.
        folder: The folder that they are of, if that is not the run's.
    """
    name = None if folder else protocol or run.config.protocol
    kind = "videos" if run.config.takes_clips else "images"
    description = load_protocol(name).description if name else f"folder of {kind}, 10 % queries"
    metrics = {
        "protocol": name or str(folder or _folder_of(run)),
        "description": description,
        **({} if name else {"folder_changes": run.find_changes(splits)}),
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
    folder: str | Path | None = None,
    precision: float = 0.95,
    top_k: int = 10,
    seed: int = 0,
) -> dict[str, Any]:
    """Calibrate a run's network; write and return the result, with the protocol.

    The arguments are those of `evaluate_run` and of `calibrate`.
    """
    name = None if folder else protocol or run.config.protocol
    calibration = {
        "protocol": name or str(folder or _folder_of(run)),
        **({} if name else {"folder_changes": run.find_changes(splits)}),
        **calibrate(network, splits, precision=precision, top_k=top_k, seed=seed),
    }
    run.write_calibration(calibration)
    return calibration


def _folder_of(run: Run) -> str | None:
    return run.config.images or run.config.videos
