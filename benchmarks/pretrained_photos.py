"""What a pretrained backbone gives on phone photos, and in how many minutes.

    python benchmarks/pretrained_photos.py --data-dir DIR --docs

DIR holds `photos/` (`grocery.tar`, `grocery.csv`, `clothing.tar`, `clothing.csv`) and
`weights/efficientnet_lite0_imagenet.npz`. Groceries: training and validation photos are trained on
and searched, test photos are the queries. Clothing: all photos of about 15 % of the senders are the
queries. A row that the JSON holds is not measured again; without `--tune` the rows that take long
are left out. Writes
benchmarks/results/pretrained_photos.json, and with `--docs` the table of docs/training.md.
"""

from __future__ import annotations

import argparse
import csv
import json
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from environment import describe_machine
from training_defaults import _is_query

from tfpqn.datasets import Splits
from tfpqn.metrics import rank_items
from tfpqn.ops import label_relevance
from tfpqn.training import Run, RunConfig, evaluate, train
from tfpqn.training.runs.frozen_backbone import FrozenBackbone

ROOT = Path(__file__).parent.parent
OUTPUT = ROOT / "benchmarks" / "results" / "pretrained_photos.json"
PAGE = ROOT / "docs" / "training.md"
WEIGHTS = "weights/efficientnet_lite0_imagenet.npz"
FAISS_BYTES = 8
Settings = dict[str, Any]
RPQN: Settings = {"model": "rpqn", "bits": 64, "num_subspaces": 4}
# Trained rows, in the order of the table; those after the first start from nothing new.
ROWS: dict[str, Settings] = {
    "defaults: frozen, pqn": {},
    "frozen, rpqn": RPQN,
    "frozen, pqn, rate 0.003": {"learning_rate": 3e-3},
    "frozen, pqn, twice the epochs": {"epochs": 98},
    "codebooks alone, without labels": {"similarity": "cosine"},
    "the same, features not whitened": {"similarity": "cosine", "whiten": False},
}
# Rows that take long: those that go on from the run of a row, and those from the weights alone.
START = "frozen, rpqn"
TUNED: dict[str, Settings] = {
    "fine-tuned, all layers, rpqn": {**RPQN, "epochs": 12, "fine_tune": 1.0},
    "fine-tuned, the last half of the layers, rpqn": {**RPQN, "epochs": 12, "fine_tune": 0.5},
}
VIEWS = "two views of each photo, without labels, rpqn"
TWO_VIEWS: Settings = {
    **RPQN,
    "epochs": 4,
    "fine_tune": 0.5,
    "views": 2,
    "min_area": 0.2,
    "color_jitter": 0.5,
}
MULTI = "fine and coarse labels together, pqn"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--docs", action="store_true", help="write the table into the docs too")
    parser.add_argument("--tune", action="store_true", help="also the rows that take long")
    arguments = parser.parse_args()
    results = json.loads(OUTPUT.read_text()) if OUTPUT.is_file() else {"rows": []}
    results.setdefault("machine", describe_machine(("keras", "tensorflow", "faiss-cpu")))
    for name in ("grocery", "clothing"):
        with tempfile.TemporaryDirectory() as folder:
            photos = Photos(arguments.data_dir, name, Path(folder), results)
            photos.measure_all(tune=arguments.tune)
    if arguments.docs:
        write_page(results["rows"])


class Photos:
    """One set, unpacked, and the runs on it, which share the features."""

    def __init__(self, data_dir: Path, name: str, folder: Path, results: dict[str, Any]) -> None:
        self.name, self.folder, self.results = name, folder, results
        self.weights = str(data_dir / WEIGHTS)
        with tarfile.open(data_dir / "photos" / f"{name}.tar") as archive:
            archive.extractall(folder / "photos", filter="data")
        (self.images,) = (folder / "photos").iterdir()
        with open(data_dir / "photos" / f"{name}.csv", encoding="utf-8") as file:
            self.rows = list(csv.DictReader(file))

    def measure_all(self, *, tune: bool) -> None:
        for row, settings in ROWS.items():
            self.measure(row, settings)
        self.measure_features()
        if "coarse" in self.rows[0]:
            self.measure(MULTI, {}, several=True)
        if tune:
            self.measure(VIEWS, TWO_VIEWS)
            for row, settings in TUNED.items():
                self.measure(row, settings, start=START)

    def measure(
        self, row: str, settings: Settings, *, several: bool = False, start: str | None = None
    ) -> None:
        """Train a row, unless its figures are there.

        Args:
            row: Its name.
            settings: Those that differ from the defaults.
            several: Whether a photo has its coarse label too.
            start: The row of whose run it begins.
        """
        if self._is_known(row):
            return
        given = dict(settings)
        if start is not None:
            self._train(start, ROWS[start])
            given["initial_run"] = str(self.folder / start)
        started = time.monotonic()
        network, splits = self._train(row, given, several=several)
        trained = time.monotonic()
        figures = evaluate(network, splits, cutoffs=(), recall_ks=(10,))
        self._add(
            row,
            settings=settings,
            bytes=figures["bits_per_code"] / 8,
            mAP=figures["mAP"],
            raw_mAP=figures["raw_embeddings"]["mAP"],
            NDCG=figures.get("NDCG@k"),
            train_seconds=trained - started,
            evaluate_seconds=time.monotonic() - trained,
        )

    def _train(self, row: str, settings: Settings, *, several: bool = False) -> tuple[Any, Splits]:
        """The network of a row, trained now or before, and its photos."""
        labels = self._write_labels(several)
        config = RunConfig.of(
            images=str(self.images), labels=str(labels), weights=self.weights, **settings
        )
        run = Run.start(self.folder / row, config)
        splits = run.load_splits()
        return train(run, splits, progress=False), splits

    def measure_features(self) -> None:
        """The features as they are, and coded by FAISS."""
        if self._is_known("raw features"):
            return
        config = RunConfig.of(
            images=str(self.images), labels=str(self._write_labels(False)), weights=self.weights
        )
        run = Run(self.folder / "features", config)
        run.folder.mkdir()
        splits = run.load_splits()
        started = time.monotonic()
        run = run.for_items(splits.train)
        parts = FrozenBackbone(run, splits, progress=False).splits(with_queries=True)
        seconds = time.monotonic() - started
        query, database = (_unit(part.vectors) for part in (parts.query, parts.database))
        exact = query @ database.T
        self._add(
            "raw features",
            bytes=4.0 * query.shape[1],
            mAP=_mean(exact, parts),
            train_seconds=seconds,
        )
        started = time.monotonic()
        quantizer = faiss.ProductQuantizer(query.shape[1], FAISS_BYTES, 8)
        quantizer.train(database)
        decoded = quantizer.decode(quantizer.compute_codes(database))
        nearness = 2.0 * query @ decoded.T - np.square(decoded).sum(axis=1)
        seconds += time.monotonic() - started
        self._add(
            "FAISS PQ of the features",
            bytes=float(FAISS_BYTES),
            mAP=_mean(nearness, parts),
            train_seconds=seconds,
        )

    def _write_labels(self, several: bool) -> Path:
        """The set's labels and split in the form of `--labels`."""
        path = self.folder / f"labels-{several}.csv"
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["file", "label", "split"])
            for row in self.rows:
                label = f"{row['label']}|{row['coarse']}" if several else row["label"]
                writer.writerow([row["file"], label, "query" if _is_query(row) else "train"])
        return path

    def _is_known(self, row: str) -> bool:
        return any((r["set"], r["row"]) == (self.name, row) for r in self.results["rows"])

    def _add(self, row: str, **figures: Any) -> None:
        if self._is_known(row):
            return
        self.results["rows"].append({"set": self.name, "row": row, **figures})
        OUTPUT.write_text(json.dumps(self.results, indent=1) + "\n")
        print(f"{self.name}, {row}: mAP {figures['mAP']:.4f}", flush=True)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


def _mean(scores: np.ndarray, parts: Splits) -> float:
    relevance = np.asarray(label_relevance(parts.query.labels, parts.database.labels))
    rankings = rank_items(scores, relevance)
    return float(np.mean([ranking.average_precision() for ranking in rankings]))


def write_page(rows: list[dict[str, Any]]) -> None:
    """Replace what stands between the marks of the page."""
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition("<!-- pretrained -->\n")
    _, _, after = rest.partition("<!-- end of pretrained -->\n")
    table = pretrained_table(rows)
    text = f"{before}<!-- pretrained -->\n{table}<!-- end of pretrained -->\n{after}"
    PAGE.write_text(text, encoding="utf-8")


def pretrained_table(rows: list[dict[str, Any]]) -> str:
    """A line for each row, with the figures of both sets."""
    lines = ["| row | bytes | groceries | clothing | minutes |\n|---|---|---|---|---|\n"]
    for name in dict.fromkeys(row["row"] for row in rows):
        found = {row["set"]: row for row in rows if row["row"] == name}
        first = next(iter(found.values()))
        means = [f"{found[s]['mAP']:.3f}" if s in found else "" for s in ("grocery", "clothing")]
        minutes = first["train_seconds"] / 60
        lines.append(f"| {name} | {first['bytes']:g} | {' | '.join(means)} | {minutes:.1f} |\n")
    return "".join(lines)


if __name__ == "__main__":
    main()
