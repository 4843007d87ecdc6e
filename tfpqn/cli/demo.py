"""The whole road on scikit-learn's handwritten digits, in about a minute."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import rich.console

NUM_QUERIES = 6
TOP_K = 10


def run_demo(output: Path, console: rich.console.Console) -> Path:
    """Train, evaluate, index, export, search in a fresh process, draw.

    Run again on the same folder it keeps the trained network and exports the next version.

    Args:
        output: Folder for everything.
        console: Where to report.

    Returns:
        The picture's path.
    """
    from tfpqn.export import Searcher, save_searcher
    from tfpqn.index import CodeIndex, build_index
    from tfpqn.training import Run, RunConfig, evaluate_run, train

    start = time.monotonic()
    config = RunConfig(protocol="digits", bits=24, embedding_dim=128, epochs=20)
    splits = config.load_splits()
    run = Run.start(output / "run", config)
    console.print(f"Training on {len(splits.train):,} digits, 24 bits per image")
    network = train(run, splits)
    metrics = evaluate_run(run, network, splits)
    raw = metrics["raw_embeddings"]["mAP"]
    console.print(f"mAP {metrics['mAP']:.4f} with codes, {raw:.4f} with raw embeddings")
    build_index(network, splits.database, output / "index", overwrite=True)
    index = CodeIndex.load(output / "index")
    version = _next_version(output / "models" / "digits")
    save_searcher(Searcher(network, index, top_k=TOP_K), version, metrics=metrics)
    console.print(f"Exported {index.num_items:,} items to {version}; searching it in a new process")
    files = _write_queries(splits.query, output / "queries")
    answers = _search_in_new_process(version, list(files.values()))
    picture = _draw(answers, files, splits, output / "search.png", metrics)
    console.print(f"The picture is {picture}. It took {time.monotonic() - start:.0f} s in all.")
    return picture


def _next_version(model: Path) -> Path:
    versions = [int(path.name) for path in model.glob("*") if path.name.isdecimal()]
    return model / str(max(versions, default=0) + 1)


def _write_queries(images: Any, folder: Path) -> dict[int, Path]:
    """Write a few query images as PNG files; position -> file."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {}
    labels = np.unique(images.labels)[-NUM_QUERIES:]
    for position in (int(np.flatnonzero(images.labels == label)[0]) for label in labels):
        files[position] = folder / f"digit-{images.ids[position]}.png"
        files[position].write_bytes(images.encoded_image(position))
    return files


def _search_in_new_process(version: Path, files: list[Path]) -> list[list[int]]:
    """Ids found for each file by `tfpqn search`, which knows nothing of this process."""
    command = [sys.executable, "-m", "tfpqn", "search", "--model", version, "--json", *files]
    output = subprocess.run(list(map(str, command)), check=True, stdout=subprocess.PIPE).stdout
    return [[n["id"] for n in answer["neighbours"]] for answer in json.loads(output)]


def _draw(
    answers: list[list[int]],
    files: dict[int, Path],
    splits: Any,
    path: Path,
    metrics: dict[str, Any],
) -> Path:
    from tfpqn.cli.picture import Item, draw_neighbours

    database = {id_: position for position, id_ in enumerate(splits.database.ids.tolist())}
    rows = []
    for query, ids in zip(files, answers, strict=True):
        label = splits.query.labels[query]
        found = [database[id_] for id_ in ids]
        rows.append(
            [
                Item(splits.query.images[query], None),
                *(
                    Item(splits.database.images[f], bool(splits.database.labels[f] == label))
                    for f in found
                ),
            ]
        )
    title = (
        f"{len(splits.database):,} digits, {metrics['bits_per_code']:g} bits each, searched inside "
        f"a SavedModel: mAP {metrics['mAP']:.3f}"
    )
    return draw_neighbours(rows, path, title)
