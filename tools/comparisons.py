"""Records of training runs, and docs/comparisons.md made from them alone.

python tools/comparisons.py record runs/cifar cifar10-full-pqn-24 --command "tfpqn train ..."
python tools/comparisons.py write
"""

from __future__ import annotations

import argparse
import json
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

from research.reports import format_mean
from tfpqn.training.runs.machine import describe_hardware

ROOT = Path(__file__).parent.parent
RECORDS = ROOT / "docs" / "comparisons"
LIBRARIES = ("tensorflow", "keras", "numpy", "scikit-learn")

INTRODUCTION = """\
# Comparisons

Made by `python tools/comparisons.py write` from the records in [comparisons/](comparisons). That of
a run was made by `python tools/comparisons.py record` from its folder, the others by the command
that stands over their table, without a note of the machine. The mAP
is over the full ranking, raw query against hard codes; equally scored items count with the expected
value over their orders. "Raw" is the same network's embeddings without coding.

"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command_name", required=True)
    recording = commands.add_parser("record", help="make a record of a finished run")
    recording.add_argument("run_dir", type=Path)
    recording.add_argument("name")
    recording.add_argument("--command", required=True, help="the command that made the run")
    recording.add_argument("--note", default="", help="what a reader should know of the run")
    commands.add_parser("write", help="write docs/comparisons.md")
    arguments = parser.parse_args()
    if arguments.command_name == "record":
        record(arguments.run_dir, arguments.name, arguments.command, arguments.note)
    write()


def record(run_dir: Path, name: str, command: str, note: str) -> None:
    """Write `docs/comparisons/NAME.json` from a run that was trained and evaluated."""
    history = json.loads((run_dir / "checkpoints" / "history.json").read_text())
    content = {
        "name": name,
        "command": command,
        "note": note,
        "training_seconds": sum(epoch["seconds"] for epoch in history),
        "hardware": describe_hardware(),
        "versions": {library: metadata.version(library) for library in LIBRARIES},
        "commit": git("rev-parse", "--short", "HEAD"),
        "metrics": json.loads((run_dir / "metrics.json").read_text()),
        "history": history,
    }
    RECORDS.mkdir(parents=True, exist_ok=True)
    (RECORDS / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n")


def git(*arguments: str) -> str:
    command = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def write() -> None:
    """Write `docs/comparisons.md` and the curves from all records."""
    contents = [json.loads(path.read_text()) for path in sorted(RECORDS.glob("*.json"))]
    records = [content for content in contents if "history" in content]
    parts = [INTRODUCTION, write_table(records)]
    for content in records:
        draw_curve(content, RECORDS / f"{content['name']}.png")
        parts.append(write_section(content))
    for pattern, write_comparison in COMPARISONS.items():
        for path in sorted(RECORDS.glob(pattern)):
            parts.append(write_comparison(json.loads(path.read_text())))
    (ROOT / "docs" / "comparisons.md").write_text("\n".join(parts))


def write_table(records: list[dict[str, Any]]) -> str:
    rows = [
        "| run | protocol | backbone | bits | mAP, codes | mAP, raw | recall@1 | minutes |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for content in records:
        metrics, config = content["metrics"], content["metrics"]["config"]
        rows.append(
            f"| {content['name']} | {metrics['protocol']} | {config['backbone']} | "
            f"{metrics['bits_per_code']:g} | {metrics['mAP']:.4f} | "
            f"{metrics['raw_embeddings']['mAP']:.4f} | {metrics['recall@k']['1']:.4f} | "
            f"{content['training_seconds'] / 60:.1f} |"
        )
    return "\n".join(rows) + "\n"


def write_section(content: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in content["versions"].items())
    curve = [
        f"| {epoch['epoch']} | {epoch['loss']:.4f} | {epoch['mAP']:.4f} | {epoch['raw_mAP']:.4f} | "
        f"{epoch['codebook_perplexity']:.1f} |"
        for epoch in content["history"]
        if "mAP" in epoch
    ]
    table = [
        "| epoch | loss | mAP, codes | mAP, raw | perplexity |",
        "|---|---|---|---|---|",
        *curve,
    ]
    return "\n".join(
        [
            f"\n## {content['name']}\n",
            f"    {content['command']}\n",
            f"{content['hardware']}; {versions}; commit {content['commit']}. {content['note']}\n",
            *(table if curve else []),
            f"\n![loss and mAP by epoch](comparisons/{content['name']}.png)\n",
        ]
    )


def write_loss_forms(content: dict[str, Any]) -> str:
    rows = [
        "\n## Loss form, sharpness and centring\n",
        f"    {content['command']}\n",
        f"mAP of hard codes on `{content['protocol']}` after {content['epochs']} epochs, mean and "
        "range over the seeds. Early figures, to compare how fast each form trains, not where it "
        "ends. Centring helps wherever the difference is wider than the range of the seeds; among "
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


def write_pqn_rpqn(content: dict[str, Any]) -> str:
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
        f"\n## {first} against {' and '.join(others)} at equal cost\n",
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


def write_clips(content: dict[str, Any]) -> str:
    bits = f"{content['rows'][0]['bits_per_code']:g}"
    timed = f"{content['clips_timed']:,}"
    rows = [
        f"\n## Clips: {content['protocol']}\n",
        f"    {content['command']}\n",
        f"{content['epochs']} epochs, 3-conv backbone, {bits} bits a code in 4 positions. A code "
        "takes 3 bytes packed, 4 as the index stores it. With one code per frame, two clips match "
        "as their frames do: the best for each frame, averaged. The time is that of one query clip "
        f"over {timed} clips of random codes in the graph that is exported; with a code per frame "
        "each frame of the query searches all "
        "frames.\n",
        "| network | mAP, codes | mAP, raw | codes per clip | bytes per clip | ms per query |",
        "|---|---|---|---:|---:|---:|",
    ]
    for row in content["rows"]:
        rows.append(
            f"| {row['kind']} | {format_mean(row['mAP'])} | {format_mean(row['raw_mAP'])} | "
            f"{row['codes_per_clip']} | {4 * row['codes_per_clip']} | {row['query_ms']:.1f} |"
        )
    return "\n".join(rows) + "\n"


COMPARISONS = {
    "pqn-*.json": write_pqn_rpqn,
    "clips-*.json": write_clips,
    "loss-forms.json": write_loss_forms,
}


def draw_curve(content: dict[str, Any], path: Path) -> None:
    from matplotlib.figure import Figure

    history = content["history"]
    evaluated = [epoch for epoch in history if "mAP" in epoch]
    figure = Figure(figsize=(6.4, 3.2), dpi=110, layout="constrained")
    axes = figure.subplots()
    for key, label, colour in (
        ("mAP", "mAP, codes", "#2a9d5c"),
        ("raw_mAP", "mAP, raw", "#3b6fb5"),
    ):
        points = [(epoch["epoch"], epoch[key]) for epoch in evaluated]
        axes.plot(*zip(*points, strict=True), marker="o", label=label, color=colour)
    axes.set(xlabel="epoch", ylabel="mAP", ylim=(0, 1))
    losses = axes.twinx()
    epochs = [epoch["epoch"] for epoch in history]
    losses.plot(epochs, [epoch["loss"] for epoch in history], color="#d1495b", label="loss")
    losses.set(ylabel="loss", ylim=(0, None))
    figure.legend(loc="outside upper center", ncols=3)
    figure.savefig(path)


if __name__ == "__main__":
    main()
