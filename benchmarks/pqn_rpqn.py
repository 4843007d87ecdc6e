"""PQN against RPQN at equal code length and equal work of a search.

    python benchmarks/pqn_rpqn.py --data-dir DIR --runs-dir runs/pqn-rpqn --initial-run runs/cifar

Trains both at each length with each seed: 4 code positions each, PQN as 4 subspaces, RPQN as 2
levels of 2 subspaces, so that tables and look-ups are the same. With `--initial-run` all start from
that run's backbone and embedding. Finished runs are kept: killed and started again, it goes on.
Writes `docs/comparisons/pqn-rpqn.json`, from which `python -m research --report` makes the table.
"""

from __future__ import annotations

import argparse
import json
import shlex
from pathlib import Path
from typing import Any

from tfpqn.training import Run, RunConfig, evaluate_run, train

ROOT = Path(__file__).parent.parent
OUTPUT = ROOT / "docs" / "comparisons" / "pqn-rpqn.json"
KINDS: dict[str, dict[str, Any]] = {
    "PQN": {"model": "pqn"},
    "RPQN": {"model": "rpqn"},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--runs-dir", type=Path, required=True)
    parser.add_argument("--initial-run", type=Path)
    parser.add_argument("--protocol", default="cifar10-full")
    parser.add_argument("--kinds", nargs="+", default=["PQN", "RPQN"], choices=list(KINDS))
    parser.add_argument("--bits", type=int, nargs="+", default=[12, 24, 36, 48])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    arguments = parser.parse_args()
    rows = []
    # Seed by seed: stopped early, it has compared all lengths.
    for seed in arguments.seeds:
        for bits in arguments.bits:
            for kind in arguments.kinds:
                rows.append(measure(kind, bits, seed, arguments))
                write(rows, arguments)
                print(json.dumps(rows[-1]), flush=True)


def measure(kind: str, bits: int, seed: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """Train and evaluate one run, or read what an earlier call has found."""
    config = RunConfig.of(
        protocol=arguments.protocol,
        bits=bits,
        seed=seed,
        epochs=arguments.epochs,
        learning_rate=arguments.learning_rate,
        initial_run=str(arguments.initial_run) if arguments.initial_run else None,
        augment=True,
        **KINDS[kind],
    )
    run = Run.start(arguments.runs_dir / f"{kind.replace(' ', '-')}-{bits}-{seed}", config)
    metrics = run.read_metrics()
    if metrics is None:
        splits = run.load_splits(arguments.data_dir)
        metrics = evaluate_run(run, train(run, splits, progress=False), splits)
    return {
        "kind": kind,
        "bits": bits,
        "seed": seed,
        "mAP": metrics["mAP"],
        "raw_mAP": metrics["raw_embeddings"]["mAP"],
        "soft_mAP": metrics["soft_items"]["mAP"],
        "prefixes": metrics["prefixes"],
        "codebook_usage": metrics["codebook_usage"],
    }


def write(rows: list[dict[str, Any]], arguments: argparse.Namespace) -> None:
    start = "" if arguments.initial_run is None else " --initial-run runs/cifar"
    command = (
        f"python benchmarks/pqn_rpqn.py --data-dir DIR --runs-dir runs/pqn-rpqn{start} "
        f"--epochs {arguments.epochs} --learning-rate {arguments.learning_rate:g} "
        f"--seeds {' '.join(map(str, arguments.seeds))} "
        f"--bits {' '.join(map(str, arguments.bits))} --kinds {shlex.join(arguments.kinds)}"
    )
    content = {
        "command": command,
        "protocol": arguments.protocol,
        "epochs": arguments.epochs,
        "has_initial_run": arguments.initial_run is not None,
        "kinds": {kind: KINDS[kind] for kind in arguments.kinds},
        "rows": rows,
    }
    arguments.output.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
