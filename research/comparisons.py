"""The sections of docs/results.md on comparisons that benchmarks have made."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from research.metrics import format_mean

INTRODUCTION = """\
## Comparisons

Each table is made by the command over it, without a note of the machine, and kept in
`docs/comparisons`. Some name ways of training that the package no longer has: hard values
(straight-through) and hard residuals.
"""


def format_comparisons(folder: Path) -> list[str]:
    """A section on each comparison that the folder holds; none of a folder that is not there."""
    sections = [
        format_one(json.loads(path.read_text(encoding="utf-8")))
        for pattern, format_one in COMPARISONS.items()
        for path in sorted(folder.glob(pattern))
    ]
    return [INTRODUCTION, *sections] if sections else []


def format_start(content: dict[str, Any]) -> str:
    """The run that other comparisons start from."""
    metrics = content["metrics"]
    return (
        f"### {content['name']}\n\n    {content['command']}\n\n"
        f"`{metrics['protocol']}`, {metrics['config']['backbone']} backbone: mAP "
        f"{metrics['mAP']:.4f} with codes of {metrics['bits_per_code']:g} bits, "
        f"{metrics['raw_embeddings']['mAP']:.4f} with raw embeddings, after "
        f"{content['training_seconds'] / 60:.0f} minutes on {content['hardware']} at commit "
        f"{content['commit']}.\n"
    )


def format_loss_forms(content: dict[str, Any]) -> str:
    rows = [
        "### Loss form, sharpness and centring\n",
        f"    {content['command']}\n",
        f"mAP of hard codes on `{content['protocol']}` after {content['epochs']} epochs, mean and "
        "range over the seeds. Early figures, to compare how fast each form trains, not where it "
        "ends. Centring helps wherever the difference is wider than the range of the seeds. Among "
        "the centred ones the digits show no difference to speak of, and CIFAR-10 was not "
        "compared. The defaults are `softplus`, scale 2, centred ([training.md](training.md)).\n",
        "| form | scale | centred embedding | mAP | from | to |",
        "|---|---|---|---|---|---|",
    ]
    for row in content["rows"]:
        figures = row["mAP"]
        rows.append(
            f"| {row['form']} | {row['scale']:g} | {'yes' if row['center_embeddings'] else 'no'} | "
            f"{sum(figures) / len(figures):.4f} | {min(figures):.4f} | {max(figures):.4f} |"
        )
    return "\n".join(rows) + "\n"


def format_pqn_rpqn(content: dict[str, Any]) -> str:
    start = (
        "all start from the backbone and embedding of [cifar10-full-pqn-24](#cifar10-full-pqn-24), "
        "which favours PQN if anything, "
        if content["has_initial_run"]
        else ""
    )
    kinds = list(content["kinds"])
    first, *others = kinds
    cells: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for row in content["rows"]:
        cells.setdefault((row["kind"], row["bits"]), []).append(row)
    levels = [
        kind for kind in kinds if any(r["prefixes"] for r in content["rows"] if r["kind"] == kind)
    ]
    titles = [f"{kind}: {side}" for kind in kinds for side in ("codes", "soft")]
    titles += [f"{kind}, level 1 alone" for kind in levels]
    titles += [f"{kind} - {first}, by seed" for kind in others]
    rows = [
        f"### {first} against {' and '.join(others)} at equal cost\n",
        f"    {content['command']}\n",
        f"`{content['protocol']}`, 3-conv backbone, {content['epochs']} epoch(s) each; {start}and "
        "have the same data, order and augmentation. A code has 4 positions and a query's table "
        "4 x K entries in all: PQN has 4 subspaces, RPQN 2 levels of 2. Mean mAP over the seeds, "
        'smallest and largest in brackets. "Soft" is the mAP against items reconstructed as in '
        "training: its gap to the codes is what training does not see of inference.\n",
        "| bits | " + " | ".join(titles) + " |",
        "|---|" + "---|" * len(titles),
    ]
    for bits in sorted({bits for _, bits in cells}):
        columns = [str(bits)]
        for kind in kinds:
            for figure in ("mAP", "soft_mAP"):
                columns.append(format_mean([row[figure] for row in cells[kind, bits]]))
        for kind in levels:
            columns.append(format_mean([row["prefixes"][0]["mAP"] for row in cells[kind, bits]]))
        by_seed = {row["seed"]: row["mAP"] for row in cells[first, bits]}
        for kind in others:
            differences = [row["mAP"] - by_seed[row["seed"]] for row in cells[kind, bits]]
            columns.append(", ".join(f"{difference:+.4f}" for difference in differences))
        rows.append("| " + " | ".join(columns) + " |")
    return "\n".join(rows) + "\n"


COMPARISONS: dict[str, Callable[[dict[str, Any]], str]] = {
    "cifar10-*.json": format_start,
    "pqn-*.json": format_pqn_rpqn,
    "loss-forms.json": format_loss_forms,
}
