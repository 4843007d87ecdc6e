"""Time, memory and agreement of the exported search beside FAISS and brute force.

    python benchmarks/search.py                          # all but CIFAR-10; writes the JSON
    python benchmarks/search.py --scenarios clustered --sizes 100000
    python benchmarks/search.py --run-dir RUN --data-dir DIR   # the collections of CIFAR-10 too
    python benchmarks/search.py --scann-python PYTHON    # peers too: see peer_server.py
    python benchmarks/search.py --profile                # the stages of one request

Each scenario and size is written into the JSON when it is done; what is there of others stays.
`bench.py` measures all that the docs show and writes the pages.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import faiss
import keras
from environment import describe_machine
from search_cases import measure_case
from search_collections import CODES, Settings
from search_engines import disable_xla
from search_figures import watch_memory
from search_profile import profile_request

ROOT = Path(__file__).parent.parent
OUTPUT = ROOT / "benchmarks" / "results" / "search.json"
LIBRARIES = ("tensorflow", "keras", "numpy", "faiss-cpu", "scikit-learn")
SIZES = {"clustered": (100_000, 1_000_000)}
DEFAULT_SIZES = (1_000_000,)
PEERS = ("scann", "usearch", "turbovec")
COUNTS = ("top_k", "repeats", "threads", "seed", "curve_items", "seconds")


def main() -> None:
    arguments = parse_arguments()
    if arguments.measure_memory is not None:
        print(json.dumps(watch_memory(*arguments.measure_memory)))
    else:
        run(arguments)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    defaults = Settings()
    for name in COUNTS:
        value = getattr(defaults, name)
        parser.add_argument("--" + name.replace("_", "-"), type=int, default=value)
    parser.add_argument("--scenarios", nargs="+", choices=CODES, help="all that can be made")
    parser.add_argument("--sizes", type=int, nargs="+", help="numbers of items")
    parser.add_argument("--queries", type=int, nargs="+", default=list(defaults.queries))
    parser.add_argument("--lists", type=int, help="lists of ours, in place of a choice")
    parser.add_argument("--run-dir", type=Path, help="a run trained on CIFAR-10")
    parser.add_argument("--data-dir", type=Path, help="where the data of the run lies")
    parser.add_argument("--scann-python", type=Path, help="of an environment with the peers")
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=PEERS, help="there")
    parser.add_argument("--profile", action="store_true", help="only the stages of one request")
    parser.add_argument("--work-dir", type=Path, help="where folders are exported to; not kept")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="the JSON file")
    parser.add_argument("--measure-memory", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if not sys.platform.startswith("linux"):
        parser.error("The figures of memory and machine take Linux")
    if arguments.top_k > min(arguments.sizes or DEFAULT_SIZES):
        parser.error("Items must be at least as many as --top-k, so that all engines find as many")
    if arguments.run_dir is None and any(
        name.startswith("cifar10") for name in arguments.scenarios or ()
    ):
        parser.error("The collections of CIFAR-10 need --run-dir")
    return arguments


def run(arguments: argparse.Namespace) -> None:
    """Measure what is asked for, and write it piece by piece."""
    # Read when the first device is made, here and in child processes.
    for name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
        os.environ[name] = str(arguments.threads)
    faiss.omp_set_num_threads(arguments.threads)
    disable_xla()
    counts = {name: getattr(arguments, name) for name in COUNTS}
    settings = Settings(
        **counts,
        lists=arguments.lists,
        queries=tuple(arguments.queries),
        run_dir=arguments.run_dir,
        data_dir=arguments.data_dir,
        scann_python=arguments.scann_python,
        peers=tuple(arguments.peers),
    )
    about = {
        "command": describe_command(arguments),
        "settings": {**counts, "lists": settings.lists},
    }
    content = read_content(arguments.output)
    if arguments.profile:
        num_items = (arguments.sizes or DEFAULT_SIZES)[0]
        about["machine"] = describe_machine(LIBRARIES)
        with tempfile.TemporaryDirectory(dir=arguments.work_dir) as folder:
            content["profile"] = {**about, **profile_request(num_items, Path(folder), settings)}
        write_content(content, arguments.output)
        return
    for name in arguments.scenarios or list_scenarios(arguments.run_dir):
        for num_items in arguments.sizes or SIZES.get(name, DEFAULT_SIZES):
            about["machine"] = describe_machine(LIBRARIES)
            with tempfile.TemporaryDirectory(dir=arguments.work_dir) as folder:
                case = measure_case(name, num_items, Path(folder), settings)
            sizes = content["scenarios"].setdefault(name, {})
            sizes[str(num_items)] = {**about, **case}
            write_content(content, arguments.output)
            print(f"{name}, {num_items:,} items: done", flush=True)
            keras.backend.clear_session()


def list_scenarios(run_dir: Path | None) -> list[str]:
    return [name for name in CODES if run_dir is not None or not name.startswith("cifar10")]


def describe_command(arguments: argparse.Namespace) -> str:
    """The command, without the paths of this machine."""
    words = ["python benchmarks/search.py"]
    for name in ("scenarios", "sizes", "queries", "lists", *COUNTS):
        value = getattr(arguments, name)
        if value is not None:
            values = value if isinstance(value, list) else [value]
            words += ["--" + name.replace("_", "-"), *map(str, values)]
    words += ["--profile"] * arguments.profile
    words += ["--run-dir RUN"] * (arguments.run_dir is not None)
    words += ["--data-dir DIR"] * (arguments.data_dir is not None)
    if arguments.scann_python is not None:
        words += ["--scann-python PYTHON --peers", *arguments.peers]
    return " ".join(words)


def read_content(path: Path) -> dict[str, Any]:
    """What an earlier run has written; a file of another form counts as none."""
    content = json.loads(path.read_text()) if path.is_file() else {}
    return content if "scenarios" in content else {"scenarios": {}}


def write_content(content: dict[str, Any], path: Path) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
