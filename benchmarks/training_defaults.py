"""How near the default settings of training come to the best that a small sweep finds.

    python benchmarks/training_defaults.py --data-dir DIR --docs

Each set is trained with the defaults, and with one setting changed at a time, for as many epochs.
DIR holds `tfds/` (CIFAR-10 and Fashion-MNIST as tensorflow-datasets prepares them) and `photos/`
(`clothing.tar`, `clothing.csv`, `grocery.tar`, `grocery.csv`). A row that the JSON holds is not
trained again. Writes benchmarks/results/training_defaults.json, and with `--docs` the table of
docs/training.md.
"""

from __future__ import annotations

import argparse
import csv
import functools
import hashlib
import json
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from environment import describe_machine

from tfpqn.datasets import ImageArrays, ImageFolder, Splits, load_protocol
from tfpqn.training import Run, RunConfig, evaluate, train

ROOT = Path(__file__).parent.parent
OUTPUT = ROOT / "benchmarks" / "results" / "training_defaults.json"
PAGE = ROOT / "docs" / "training.md"
IMAGE_SHAPE = (64, 64, 3)
# Of the senders of clothing photos, the share whose photos are queries.
QUERY_SHARE = 0.15

Settings = dict[str, Any]
DEFAULTS = "the defaults"
# One setting changed at a time.
CHANGES: dict[str, Settings] = {
    DEFAULTS: {},
    "SGD, 0.1": {"optimizer": "sgd"},
    "no classifier": {"classification_weight": 0.0},
    "no augmentation": {"augment": False},
}
# Set -> epochs of every row. Less than by default where the set is large: the rows are compared.
EPOCHS = {"clothing": 40, "grocery": 30, "fashion-mnist": 2, "cifar10-5k": 20, "digits": 70}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--docs", action="store_true", help="write the table into the docs too")
    arguments = parser.parse_args()
    results = json.loads(OUTPUT.read_text()) if OUTPUT.is_file() else {"rows": []}
    results.setdefault("machine", describe_machine(("keras", "tensorflow")))
    for name, epochs in EPOCHS.items():
        for change, settings in CHANGES.items():
            measure(results, arguments.data_dir, name, change, {"epochs": epochs, **settings})
    if arguments.docs:
        write_page(results["rows"])


def measure(
    results: dict[str, Any], data_dir: Path, name: str, change: str, settings: Settings
) -> None:
    """Train a row, unless it is there, and keep its figures."""
    if any((row["set"], row["row"]) == (name, change) for row in results["rows"]):
        return
    splits = load_splits(data_dir, name)
    is_folder = splits.train.image_shape == IMAGE_SHAPE
    source = {"protocol": None, "images": "photos"} if is_folder else {"protocol": name}
    config = RunConfig.of(**{**source, **settings})
    with tempfile.TemporaryDirectory() as folder:
        started = time.monotonic()
        network = train(Run.start(folder, config), splits, progress=False)
        seconds = time.monotonic() - started
        losses = [epoch["loss"] for epoch in Run.open(folder).read_history()]
    figures = evaluate(network, splits, cutoffs=(), recall_ks=())
    row = {
        "set": name,
        "row": change,
        "settings": settings,
        "mAP": figures["mAP"],
        "raw_mAP": figures["raw_embeddings"]["mAP"],
        "losses": losses,
        "seconds": seconds,
    }
    results["rows"].append(row)
    OUTPUT.write_text(json.dumps(results, indent=1) + "\n")
    print(f"{name}, {change}: mAP {row['mAP']:.4f}, {seconds:.0f} s", flush=True)


@functools.cache
def load_splits(data_dir: Path, name: str) -> Splits:
    """The set, or the photos with their own split."""
    if name not in ("clothing", "grocery"):
        return load_protocol(name).load(data_dir / "tfds")
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(data_dir / "photos" / f"{name}.tar") as archive:
            archive.extractall(folder, filter="data")
        (root,) = Path(folder).iterdir()
        items = ImageFolder(root, IMAGE_SHAPE).readable()
        pixels = np.concatenate([batch.images for batch in items.batches(256)])
    images = ImageArrays(pixels, items.labels, items.ids, items.label_names)
    with open(data_dir / "photos" / f"{name}.csv", encoding="utf-8") as file:
        rows = {row["file"]: row for row in csv.DictReader(file)}
    is_query = np.array([_is_query(rows[id_]) for id_ in images.ids])
    database = images.subset(np.flatnonzero(~is_query))
    return Splits(database, database, images.subset(np.flatnonzero(is_query)))


def _is_query(row: dict[str, str]) -> bool:
    """Of photos with a split the test photos; else all photos of some senders."""
    if "split" in row:
        return row["split"] == "test"
    digest = hashlib.sha256(f"g{row['group']}".encode()).digest()
    return int.from_bytes(digest[:4], "big") / 2**32 < QUERY_SHARE


def write_page(rows: list[dict[str, Any]]) -> None:
    """Replace what stands between the marks of the page."""
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition("<!-- sweep -->\n")
    _, _, after = rest.partition("<!-- end of sweep -->\n")
    text = f"{before}<!-- sweep -->\n{sweep_table(rows)}<!-- end of sweep -->\n{after}"
    PAGE.write_text(text, encoding="utf-8")


def sweep_table(rows: list[dict[str, Any]]) -> str:
    found = {(row["set"], row["row"]): row["mAP"] for row in rows}
    lines = [
        "| | " + " | ".join(EPOCHS) + " |",
        "|---|" + "---:|" * len(EPOCHS),
        "| epochs | " + " | ".join(map(str, EPOCHS.values())) + " |",
    ]
    for change in CHANGES:
        figures = [found.get((name, change)) for name in EPOCHS]
        cells = ["" if figure is None else f"{figure:.3f}" for figure in figures]
        lines.append(f"| {change} | " + " | ".join(cells) + " |")
    shares = [
        found[name, DEFAULTS] / max(found.get((name, change), 0.0) for change in CHANGES)
        for name in EPOCHS
    ]
    shown = " | ".join(f"{share:.2f}" for share in shares)
    return "\n".join([*lines, f"| **the defaults over the best** | {shown} |"]) + "\n"


if __name__ == "__main__":
    main()
