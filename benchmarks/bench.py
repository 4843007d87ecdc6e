"""All figures of docs/benchmarks.md in one run; `make bench`.

    python benchmarks/bench.py --data-dir DIR --scann-python ENV/bin/python
    python benchmarks/bench.py --parts lists filters     # only these
    python benchmarks/bench.py --docs                    # pages and pictures from the JSON
    python benchmarks/bench.py --small                   # tiny sizes, into build/bench/small

It takes some 20 minutes on 2 cores that do nothing else. DIR is that of tensorflow-datasets; ENV
holds `scann[tf]`, `usearch` and `turbovec`. Without them their parts and engines are left out. Each
part is a process with a limit of time: when one fails, the others go on, and its log in build/bench
says why. `vector_recall.py` takes hours and is run by itself, as are `search.py --sizes 10000000`
and the part avx2.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from bench_report import write_pages

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
BUILD = ROOT / "build" / "bench"


class Part(NamedTuple):
    """A process that measures.

    Attributes:
        minutes: What it may take; some twice what it takes on 2 quiet cores.
        command: Words after the interpreter, with places for folders.
        small: Words that follow, to try it.
        has_peers: Whether it takes `--scann-python`.
        environment: Variables of the process. Such a part is measured when it is named alone.
    """

    minutes: float
    command: str
    small: str = ""
    has_peers: bool = False
    environment: Mapping[str, str] = {}


SEARCH = "benchmarks/search.py --seconds 20 --output {results}/search.json --scenarios"
PARTS = {
    "lists": Part(
        14,
        f"{SEARCH} clustered --sizes 1000000 --queries 1 8 32 128",
        "--sizes 20000 --lists 64 --curve-items 20000",
        has_peers=True,
    ),
    "avx2": Part(
        6,
        f"{SEARCH} clustered --sizes 1000000 --queries 1 32 128 --curve-items 0 "
        "--output {results}/search_avx2.json",
        "--sizes 20000 --lists 64",
        environment={"ONEDNN_MAX_CPU_ISA": "AVX2", "FAISS_OPT_LEVEL": "avx2"},
    ),
    "flat": Part(
        4,
        f"{SEARCH} clustered --sizes 100000 --queries 1 32",
        "--sizes 10000 --lists 64",
        has_peers=True,
    ),
    "random": Part(4, f"{SEARCH} random --queries 1 32 128", "--sizes 20000"),
    "network": Part(
        6,
        "-m tfpqn train --protocol cifar10-test --bits 64 --epochs 2 "
        "--data-dir {data} --run-dir {build}/cifar10",
        "--protocol digits",
    ),
    "trained": Part(
        8,
        f"{SEARCH} cifar10-64 --queries 1 32 --peers scann --data-dir {{data}} "
        "--run-dir {build}/cifar10",
        "--sizes 20000 --lists 64",
        has_peers=True,
    ),
    "filters": Part(6, "benchmarks/filters.py --output {results}/filters.json", "--small"),
    "second-stage": Part(
        8,
        "benchmarks/second_stage.py --data-dir {data} --output {results}/second_stage.json",
        "--small",
        has_peers=True,
    ),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data-dir", type=Path, help="of tensorflow-datasets")
    parser.add_argument("--scann-python", type=Path, help="of an environment with the peers")
    usual = [name for name, part in PARTS.items() if not part.environment]
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=usual)
    parser.add_argument("--small", action="store_true", help="tiny sizes; changes no page")
    parser.add_argument("--docs", action="store_true", help="only write pages and pictures")
    arguments = parser.parse_args()
    failed = [] if arguments.docs else [n for n in arguments.parts if not measure(n, arguments)]
    if not arguments.small:
        write_pages(RESULTS, ROOT / "docs")
    return len(failed)


def measure(name: str, arguments: argparse.Namespace) -> bool:
    """Run a part and tell in one line what became of it; False if it failed."""
    part, build = PARTS[name], BUILD / "small" if arguments.small else BUILD
    build.mkdir(parents=True, exist_ok=True)
    if "{data}" in part.command and arguments.data_dir is None:
        print(f"{name}: not measured: needs --data-dir", flush=True)
        return True
    folders = {"data": arguments.data_dir, "build": build}
    folders["results"] = build if arguments.small else RESULTS
    words = [word.format(**folders) for word in part.command.split()]
    words += part.small.split() if arguments.small else []
    if part.has_peers and arguments.scann_python is not None:
        words += ["--scann-python", str(arguments.scann_python)]
    start = time.monotonic()
    with (build / f"{name}.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, *words],
            cwd=ROOT,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **part.environment},
            start_new_session=True,
        )
        try:
            status: int | str = process.wait(60 * part.minutes)
        except subprocess.TimeoutExpired:
            # Peers are processes of the same group.
            os.killpg(process.pid, signal.SIGKILL)
            status = f"more than {part.minutes:g} minutes"
    outcome = "measured" if status == 0 else f"failed ({status}), see {log.name}"
    print(f"{name}: {outcome}, {time.monotonic() - start:.0f} s", flush=True)
    return status == 0


if __name__ == "__main__":
    sys.exit(main())
