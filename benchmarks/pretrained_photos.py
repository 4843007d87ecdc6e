"""What a pretrained backbone gives on phone photos, by codes of each kind and length.

    python benchmarks/pretrained_photos.py --data-dir DIR --weights FILE --docs

DIR holds `photos/` (`grocery.tar`, `grocery.csv`, `clothing.tar`, `clothing.csv`), FILE the weights
of EfficientNet-Lite0. Groceries: training and validation photos are trained on and searched, test
photos are the queries. Clothing: all photos of about 15 % of the senders are the queries. A row
that the JSON holds is not measured again; without `--tune` the rows that take long are left out.
Writes benchmarks/results/pretrained_photos.json, and with `--docs` the tables of docs/training.md.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any

# As `tfpqn train` does, before TensorFlow is imported.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

import faiss
import numpy as np
from environment import describe_machine
from photo_rows import (
    BITS,
    CHANGES,
    CODERS,
    EMBEDDINGS,
    FEATURES,
    FEW_BITS,
    FOUR_CODEBOOKS,
    MIRRORED,
    OPQ_DIM,
    OWN_CODES,
    PQN,
    RAW,
    SETS,
    SHORT_BITS,
    SIZES,
    TRAINED,
    TUNED,
    TUNED_BITS,
    TUNED_PQN,
    TUNING,
    TWO_VIEWS,
    UNLABELLED,
    VIEWS,
    Settings,
)
from training_defaults import _is_query

from tfpqn.codebooks.whitening import fit_whitening
from tfpqn.datasets import Splits
from tfpqn.metrics import rank_items
from tfpqn.ops import label_relevance
from tfpqn.training import Run, RunConfig, evaluate, train
from tfpqn.training.runs.frozen_backbone import FrozenBackbone
from tfpqn.training.settings.model_settings import WHITENED_DIM

ROOT = Path(__file__).parent.parent
OUTPUT = ROOT / "benchmarks" / "results" / "pretrained_photos.json"
PAGE = ROOT / "docs" / "training.md"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True, help="efficientnet_lite0 as .npz")
    parser.add_argument("--docs", action="store_true", help="write the tables into the docs too")
    parser.add_argument("--tune", action="store_true", help="also the rows that take long")
    arguments = parser.parse_args()
    results = json.loads(OUTPUT.read_text()) if OUTPUT.is_file() else {"rows": []}
    results.setdefault("machine", describe_machine(("keras", "tensorflow", "faiss-cpu")))
    with tempfile.TemporaryDirectory() as folder:
        sets = {name: Photos(arguments, name, Path(folder), results) for name in SETS}
        first, coarse, both, clothing = sets.values()
        for photos, lengths in ((first, BITS), (clothing, FEW_BITS), (coarse, FEW_BITS)):
            photos.measure_afterwards(lengths)
            photos.measure_trained(lengths)
        for bits in SHORT_BITS:
            first.measure(FOUR_CODEBOOKS, {"num_subspaces": 4, "bits": bits})
        for photos in (first, clothing):
            for row, settings in {**CHANGES, **UNLABELLED}.items():
                photos.measure(row, settings)
            if arguments.tune:
                photos.measure_tuned(BITS if photos is first else FEW_BITS)
                photos.measure(VIEWS, TWO_VIEWS)
        for photos in (first, clothing):
            for seed in (1, 2):
                photos.measure_trained((24,), seed)
                photos.measure(MIRRORED, CHANGES[MIRRORED], seed=seed)
        both.measure(PQN, {"bits": 24})
    if arguments.docs:
        write_page(results["rows"])


class Photos:
    """One set, unpacked, and the runs on it, which share the features."""

    def __init__(
        self, arguments: argparse.Namespace, name: str, folder: Path, results: dict[str, Any]
    ) -> None:
        self.name, self.folder, self.results = name, folder / name, results
        self.weights = str(arguments.weights)
        self.folder.mkdir()
        file, columns = SETS[name]
        unpacked, self.features = folder / f"{file}-photos", folder / f"{file}-features"
        if not unpacked.is_dir():
            with tarfile.open(arguments.data_dir / "photos" / f"{file}.tar") as archive:
                archive.extractall(unpacked, filter="data")
            self.features.mkdir()
        (self.images,) = unpacked.iterdir()
        self.labels = self.folder / "labels.csv"
        table = arguments.data_dir / "photos" / f"{file}.csv"
        with table.open(encoding="utf-8") as rows, self.labels.open("w", newline="") as labels:
            writer = csv.writer(labels)
            writer.writerow(["file", "label", "split"])
            for row in csv.DictReader(rows):
                split = "query" if _is_query(row) else "train"
                writer.writerow([row["file"], "|".join(row[c] for c in columns), split])

    def measure_trained(self, lengths: tuple[int, ...], seed: int = 0) -> None:
        """The rows whose codes train, of each length."""
        for row, settings in TRAINED.items():
            for bits in lengths:
                sizes = SIZES.get((row, bits), {})
                self.measure(row, {**settings, "bits": bits, **sizes}, seed=seed)

    def measure_afterwards(self, lengths: tuple[int, ...]) -> None:
        """The rows that FAISS codes, of each length."""
        if all(self._is_known(f"{FEATURES[-1]}, then {CODERS[-1]}", bits) for bits in lengths):
            return
        for kind, settings in EMBEDDINGS.items():
            head, parts, seconds = self._train(kind, settings)
            vectors = [np.asarray(head.embed(p.vectors)) for p in (parts.query, parts.database)]
            self._measure_coded(kind, vectors, parts, lengths, train_seconds=seconds)
        query, database = (_unit(part.vectors) for part in (parts.query, parts.database))
        self._add(RAW, 32 * query.shape[1], mAP=_mean(query @ database.T, parts))
        self._measure_coded(FEATURES[0], [query, database], parts, lengths)
        kernel, bias = fit_whitening(database, WHITENED_DIM, np.random.default_rng(0))
        whitened = [part @ kernel + bias for part in (query, database)]
        self._measure_coded(FEATURES[1], whitened, parts, lengths)

    def measure_tuned(self, lengths: tuple[int, ...]) -> None:
        """The row whose backbone learns too, and PQN of each length on its features."""
        rows = [(TUNED, TUNED_BITS), *((TUNED_PQN, bits) for bits in lengths)]
        if all(self._is_known(row, bits) for row, bits in rows):
            return
        start, tuned = _run_name(PQN, TUNED_BITS), _run_name(TUNED, TUNED_BITS)
        self._train(start, {"bits": TUNED_BITS})
        self.measure(TUNED, TUNING, start=start)
        # Trained even where its figures are known: the other rows start from it.
        self._train(tuned, {**TUNING, "initial_run": str(self.folder / start)})
        for bits in lengths:
            sizes = SIZES.get((PQN, bits), {})
            self.measure(TUNED_PQN, {"bits": bits, "freeze_backbone": True, **sizes}, start=tuned)

    def measure(
        self, row: str, settings: Settings, *, seed: int = 0, start: str | None = None
    ) -> None:
        """Train a row, unless its figures are there.

        Args:
            row: Its name.
            settings: Those that differ from the defaults.
            seed: Its seed.
            start: The run that it begins with.
        """
        if self._is_known(row, settings.get("bits"), seed):
            return
        given = {**settings, "seed": seed}
        if start is not None:
            given["initial_run"] = str(self.folder / start)
        head, parts, seconds = self._train(_run_name(row, settings.get("bits"), seed), given)
        figures = evaluate(head, parts, cutoffs=(), recall_ks=(10,))
        self._add(
            row,
            round(figures["bits_per_code"]),
            seed,
            settings=settings,
            mAP=figures["mAP"],
            soft_mAP=figures["soft_items"]["mAP"],
            raw_mAP=figures["raw_embeddings"]["mAP"],
            NDCG=figures.get("NDCG@k"),
            train_seconds=seconds,
        )

    def _start(self, name: str, settings: Settings) -> Run:
        paths = {"images": str(self.images), "labels": str(self.labels), "weights": self.weights}
        config = RunConfig.of(**{**paths, **settings})
        run = Run.start(self.folder / name, config)
        if config.model.freeze_backbone and not (run.folder / "features").exists():
            (run.folder / "features").symlink_to(self.features)
        return run.for_items(run.load_splits().train)

    def _train(self, name: str, settings: Settings) -> tuple[Any, Any, float]:
        """A network, trained now or before, its items, and the seconds that training took.

        Of a frozen backbone the network from its features, and these.
        """
        run = self._start(name, settings)
        splits = run.load_splits()
        started = time.monotonic()
        network = train(run, splits, progress=False)
        seconds = time.monotonic() - started
        if not run.config.model.freeze_backbone:
            return network, splits, seconds
        frozen = FrozenBackbone(run, splits, progress=False)
        return frozen.head(network), frozen.splits(with_queries=True), seconds

    def _measure_coded(
        self,
        kind: str,
        vectors: list[np.ndarray],
        parts: Splits,
        lengths: tuple[int, ...],
        **figures: Any,
    ) -> None:
        """Code vectors of queries and items, which are compared by cosine, by FAISS."""
        query, database = (_unit(part) for part in vectors)
        turn = faiss.OPQMatrix(query.shape[1], 8, min(OPQ_DIM, query.shape[1]))
        turn.train(database)
        turned = [turn.apply(part) for part in (query, database)]
        for name, (asked, items) in zip(CODERS, ((query, database), turned), strict=True):
            for bits in lengths:
                positions = 2 if bits < 24 else 4 if bits < 48 else 8
                quantizer = faiss.ProductQuantizer(items.shape[1], positions, bits // positions)
                quantizer.train(items)
                decoded = quantizer.decode(quantizer.compute_codes(items))
                scores = 2.0 * asked @ decoded.T - np.square(decoded).sum(axis=1)
                row = f"{kind}, then {name}"
                self._add(row, bits, mAP=_mean(scores, parts), **figures)

    def _is_known(self, row: str, bits: int | None, seed: int = 0) -> bool:
        return any(
            (r["set"], r["row"], r["seed"]) == (self.name, row, seed) and bits in (None, r["bits"])
            for r in self.results["rows"]
        )

    def _add(self, row: str, bits: int, seed: int = 0, **figures: Any) -> None:
        if self._is_known(row, bits, seed):
            return
        known = {"set": self.name, "row": row, "bits": bits, "seed": seed}
        self.results["rows"].append({**known, **figures})
        OUTPUT.write_text(json.dumps(self.results, indent=1) + "\n")
        print(f"{self.name}, {row}, {bits} bits: mAP {figures['mAP']:.4f}", flush=True)


def _run_name(row: str, bits: int | None, seed: int = 0) -> str:
    return f"{row}-{bits}-{seed}"


def _unit(vectors: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


def _mean(scores: np.ndarray, parts: Splits) -> float:
    relevance = np.asarray(label_relevance(parts.query.labels, parts.database.labels))
    rankings = rank_items(scores, relevance)
    return float(np.mean([ranking.average_precision() for ranking in rankings]))


def write_page(rows: list[dict[str, Any]]) -> None:
    """Replace what stands between the marks of the page."""
    text = PAGE.read_text(encoding="utf-8")
    tables = {
        "photo codes": codes_table(rows),
        "photo changes": rows_table(rows, (PQN, *CHANGES, TUNED, TUNED_PQN), 24),
        "photos without labels": rows_table(rows, (*UNLABELLED, VIEWS), 64),
    }
    for mark, table in tables.items():
        before, _, rest = text.partition(f"<!-- {mark} -->\n")
        _, _, after = rest.partition(f"<!-- end of {mark} -->\n")
        text = f"{before}<!-- {mark} -->\n{table}<!-- end of {mark} -->\n{after}"
    PAGE.write_text(text, encoding="utf-8")


def codes_table(rows: list[dict[str, Any]]) -> str:
    """A line for each set and row, a column for each length."""
    lines = ["| photos | codes | " + " | ".join(f"{bits} bits" for bits in BITS) + " |\n"]
    lines.append("|---|---|" + "---:|" * len(BITS) + "\n")
    for name in SETS:
        for row in (*OWN_CODES, *EMBEDDINGS, *FEATURES):
            # Of PQ and OPQ the better one.
            names = [row] if row in OWN_CODES else [f"{row}, then {pq}" for pq in CODERS]
            cells = [max(_cell(rows, name, found, bits) for found in names) for bits in BITS]
            if any(cells):
                title = row if row in OWN_CODES else f"{row}, then FAISS"
                lines.append(f"| {name} | {title} | {' | '.join(cells)} |\n")
    return "".join(lines)


def rows_table(rows: list[dict[str, Any]], names: tuple[str, ...], bits: int) -> str:
    """A line for each row, with the figures of both sets."""
    lines = ["| | groceries | clothing | minutes |\n|---|---:|---:|---:|\n"]
    for name in names:
        cells = [_cell(rows, photos, name, bits) for photos in ("groceries", "clothing")]
        seconds = [r.get("train_seconds") for r in _found(rows, "groceries", name, bits)]
        minutes = f"{seconds[0] / 60:.1f}" if seconds and seconds[0] else ""
        if any(cells):
            lines.append(f"| {name} | {' | '.join(cells)} | {minutes} |\n")
    return "".join(lines)


def _found(rows: list[dict[str, Any]], name: str, row: str, bits: int) -> list[dict[str, Any]]:
    return [r for r in rows if (r["set"], r["row"], r["bits"]) == (name, row, bits)]


def _cell(rows: list[dict[str, Any]], name: str, row: str, bits: int) -> str:
    """The mean over the seeds, with the smallest and the largest of several."""
    figures = [r["mAP"] for r in _found(rows, name, row, bits)]
    if len(figures) < 2:
        return "".join(f"{figure:.3f}" for figure in figures)
    return f"{np.mean(figures):.3f} ({min(figures):.3f}-{max(figures):.3f})"


if __name__ == "__main__":
    main()
