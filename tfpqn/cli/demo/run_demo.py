"""The whole road on handwritten digits, still or in motion, or on photos, in a few minutes."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import rich.console

from tfpqn._command_line import own_python
from tfpqn.items import CLIPS

# The name tells the package that it is the command line.
SEARCH_PROGRAM = "sys.argv[0] = 'tfpqn'; from tfpqn.cli import main; main()"
NUM_QUERIES = 6
TOP_K = 10
# A clip is drawn as so many of its frames; fewer neighbours fit into a row.
FRAMES_DRAWN = 4
CLIPS_DRAWN = 3

SETTINGS: dict[str, dict[str, Any]] = {
    "pqn": {"protocol": "digits", "embedding_dim": 128, "epochs": 20},
    "rpqn": {"protocol": "digits", "embedding_dim": 128, "epochs": 20},
    "tpqn": {"protocol": "moving-digits", "embedding_dim": 128, "epochs": 12},
}


def run_demo(
    output: Path,
    model: str,
    console: rich.console.Console,
    images: Path | None = None,
    weights: str | None = None,
) -> Path:
    """Train, evaluate, index, export, search in a fresh process, draw.

    Run again on the same folder it keeps the trained network and exports the next version.

    Args:
        output: Folder for everything.
        model: Kind of network: "pqn", "rpqn" or "tpqn".
        console: Where to report.
        images: Folder of photos, one subfolder per label, in place of scikit-learn's digits.
        weights: Weights of a trained backbone for them.

    Returns:
        The picture's path.

    Raises:
        ValueError: There is no such kind of network, or none of photos or digits, or the photos
            have no labels.
    """
    if model not in SETTINGS:
        raise ValueError(f"model must be one of {list(SETTINGS)}. Received: {model!r}")
    from tfpqn.export import Searcher, save_searcher
    from tfpqn.index import CodeIndex, build_index
    from tfpqn.training import Run, RunConfig, evaluate_run, train

    start = time.monotonic()
    settings = SETTINGS[model]
    if images is not None:
        settings = {"images": str(images), "weights": weights}
    config = RunConfig.of(model=model, bits=24, **settings)
    run = Run.start(output / "run", config)
    splits = run.load_splits()
    if not splits.train.has_labels:
        raise ValueError(
            "The photos of a demo must lie in a subfolder for each label, by which it is measured. "
            f"Received: {str(images)!r}, without labels that differ"
        )
    are_clips = config.data.items is CLIPS
    things = "photos" if images else "moving digits" if are_clips else "digits"
    console.print(f"Training on {len(splits.train):,} {things}, 24 bits each")
    network = train(run, splits)
    metrics = evaluate_run(run, network, splits)
    raw = metrics["raw_embeddings"]["mAP"]
    console.print(f"mAP {metrics['mAP']:.4f} with codes, {raw:.4f} with raw embeddings")
    for prefix in metrics["prefixes"][:-1]:
        levels, bits = prefix["num_levels"], prefix["bits_per_code"]
        console.print(f"mAP {prefix['mAP']:.4f} with the first {levels} level alone, {bits:g} bits")
    build_index(network, splits.database, output / "index", overwrite=True)
    index = CodeIndex.load(output / "index")
    version = _next_version(output / "models" / ("photos" if images else "digits"))
    save_searcher(Searcher(network, index, top_k=TOP_K), version, metrics=metrics)
    console.print(f"Exported {index.num_items:,} items to {version}; searching it in a new process")
    files = _write_queries(splits.query, are_clips, output / "queries")
    answers = _search_in_new_process(version, list(files.values()))
    title = (
        f"{len(splits.database):,} {things}, {metrics['bits_per_code']:g} bits each, searched "
        f"inside a SavedModel: mAP {metrics['mAP']:.3f}"
    )
    picture = _draw(answers, list(files), splits, output / "search.png", title)
    console.print(f"The picture is {picture}. It took {time.monotonic() - start:.0f} s in all.")
    return picture


def _next_version(model: Path) -> Path:
    versions = [int(path.name) for path in model.glob("*") if path.name.isdecimal()]
    return model / str(max(versions, default=0) + 1)


def _write_queries(items: Any, are_clips: bool, folder: Path) -> dict[int, Path]:
    """Write a few queries as PNG files, clips as folders of frames; position -> path."""
    from tfpqn.datasets.plain_images import encode_png

    folder.mkdir(parents=True, exist_ok=True)
    paths = {}
    labels = np.unique(items.labels)[-NUM_QUERIES:]
    for position in (int(np.flatnonzero(items.labels == label)[0]) for label in labels):
        if are_clips:
            paths[position] = folder / f"query-{position}"
            paths[position].mkdir(exist_ok=True)
            for number, frame in enumerate(items.encoded_frames(position)):
                (paths[position] / f"{number:03}.png").write_bytes(frame)
        else:
            paths[position] = folder / f"query-{position}.png"
            paths[position].write_bytes(encode_png(_pixels(items, position)))
    return paths


def _search_in_new_process(version: Path, files: list[Path]) -> list[list[Any]]:
    """Ids found for each file by `tfpqn search`, which knows nothing of this process."""
    arguments = map(str, ("search", "--model", version, "--json", *files))
    command = own_python(SEARCH_PROGRAM, *arguments)
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
    return [[n["id"] for n in answer["neighbours"]] for answer in json.loads(output)]


def _draw(
    answers: list[list[Any]], queries: list[int], splits: Any, path: Path, title: str
) -> Path:
    from tfpqn.cli.demo.picture import Item, draw_neighbours

    database = {id_: position for position, id_ in enumerate(splits.database.ids.tolist())}
    rows = []
    for query, ids in zip(queries, answers, strict=True):
        label = splits.query.labels[query]
        row = [Item(_pixels(splits.query, query), None)]
        for found in (database[id_] for id_ in ids):
            is_right = bool(splits.database.labels[found] == label)
            row.append(Item(_pixels(splits.database, found), is_right))
        rows.append(row if row[0].pixels.ndim == 3 else row[: 1 + CLIPS_DRAWN])
    return draw_neighbours(rows, path, title)


def _pixels(items: Any, position: int) -> np.ndarray:
    """One image, or a few frames of a clip."""
    (batch,) = items.batches(1, np.array([position]))
    pixels = batch.images[0]
    if pixels.ndim == 3:
        return pixels
    return pixels[np.linspace(0, len(pixels) - 1, FRAMES_DRAWN).round().astype(int)]
