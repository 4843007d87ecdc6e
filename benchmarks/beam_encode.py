"""Coding with Beam beside `tfpqn index`: the same codes, how fast, and what a crash and broken
files do.

    python benchmarks/beam_encode.py --data-dir tensorflow_datasets   # measures, writes the JSON
    python benchmarks/beam_encode.py --table                          # prints the JSON's table

The 60,000 images of CIFAR-10 as PNG files in ten folders. Both commands run as a user runs them, in
processes of their own, in turn; their seconds are those of the whole command. The kill is a
SIGKILL once a third of the parts are there. Needs the extra `beam`.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from environment import describe_machine

from tfpqn.datasets.protocols import CIFAR10
from tfpqn.index import CodeIndex

ROOT = Path(__file__).parent.parent
OUTPUT = ROOT / "benchmarks" / "results" / "beam_encode.json"
LIBRARIES = ("tensorflow", "keras", "numpy", "pyarrow", "apache-beam")
COMMAND = "python benchmarks/beam_encode.py --data-dir DIR"
BROKEN_EVERY = 100


def main() -> None:
    arguments = parse_arguments()
    if not arguments.table:
        report = {
            "command": f"{COMMAND} --rounds {arguments.rounds}",
            "settings": {"rows_per_part": arguments.rows_per_part, "rounds": arguments.rounds},
            "machine": describe_machine(LIBRARIES),
            "results": measure(arguments),
        }
        OUTPUT.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print_table(json.loads(OUTPUT.read_text(encoding="utf-8")))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--work-dir", type=Path, help="kept; else a temporary folder")
    parser.add_argument("--rows-per-part", type=int, default=4096)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--table", action="store_true")
    return parser.parse_args()


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as temporary:
        bench = Bench(arguments.work_dir or Path(temporary), arguments.rows_per_part)
        bench.prepare(arguments.data_dir)
        results = bench.compare(arguments.rounds)
        results |= bench.kill()
        return results | bench.break_some()


class Bench:
    """The folder of images, the run, and the commands on them."""

    def __init__(self, folder: Path, rows_per_part: int) -> None:
        self.folder, self.rows_per_part = folder, rows_per_part
        self.images, self.run = folder / "images", folder / "run"

    def prepare(self, data_dir: Path | None) -> None:
        if not self.images.exists():
            write_images(self.images, data_dir)
        for old in ("plain", "beam", "killed", "broken"):
            for path in self.folder.glob(f"{old}*"):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        train = ["train", "--protocol", "cifar10-5k", "--epochs", "1", "--run-dir", str(self.run)]
        timed(*train, *(["--data-dir", str(data_dir)] if data_dir else []))
        # Files that have just been written come from memory; so do they in the first command then.
        for path in self.images.rglob("*.png"):
            path.read_bytes()

    def encode(self, output: str, images: Path | None = None) -> list[str]:
        words = ["encode", "--run-dir", self.run, "--images", images or self.images]
        words += ["--output", self.folder / output, "--rows-per-part", self.rows_per_part]
        return list(map(str, words))

    def compare(self, rounds: int) -> dict[str, Any]:
        plain = ["index", "--run-dir", str(self.run), "--images", str(self.images)]
        plain += ["--overwrite", "--output", str(self.folder / "plain")]
        times: dict[str, list[dict[str, float]]] = {"index": [], "encode": []}
        for _ in range(rounds):
            times["index"].append(timed(*plain))
            times["encode"].append(timed(*self.encode("beam"), "--overwrite"))
        first, second = (CodeIndex.load(self.folder / name) for name in ("plain", "beam"))
        return {"items": len(first), "same_index": first.table.equals(second.table), "times": times}

    def kill(self) -> dict[str, Any]:
        staging, index = self.folder / "killed.staging", self.folder / "killed"
        num_parts = len(parts_of(self.folder / "beam"))
        process = subprocess.Popen([sys.executable, "-m", "tfpqn", *self.encode("killed")])
        while len(list(staging.glob("unit-*.json"))) < num_parts // 3:
            if process.poll() is not None:
                raise RuntimeError("the command must not end before it is killed")
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        there = len(list(staging.glob("unit-*.json")))
        appeared = index.exists()
        again = timed(*self.encode("killed"))
        same = parts_of(index) == parts_of(self.folder / "beam")
        kill = {"parts": num_parts, "parts_before_kill": there, "index_before_rerun": appeared}
        return {"kill": {**kill, "rerun": again, "same_parts_byte_for_byte": same}}

    def break_some(self) -> dict[str, Any]:
        """One file in a hundred is cut in the middle; in a copy of the folder, of links."""
        copy = self.folder / "broken-images"
        broken = set()
        for number, path in enumerate(sorted(self.images.rglob("*.png"))):
            name = path.relative_to(self.images)
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            if number % BROKEN_EVERY:
                os.link(path, copy / name)
            else:
                data = path.read_bytes()
                (copy / name).write_bytes(data[: len(data) // 2])
                broken.add(name.as_posix())
        took = timed(*self.encode("broken", copy))
        listed = [
            json.loads(line)["id"]
            for line in (self.folder / "broken.broken.jsonl").read_text("utf-8").splitlines()
        ]
        whole, rest = (CodeIndex.load(self.folder / name).table for name in ("beam", "broken"))
        kept = [id_ not in broken for id_ in whole["id"].to_pylist()]
        return {
            "broken": {
                "files": len(broken),
                "listed": len(listed),
                "listed_are_the_broken": sorted(listed) == sorted(broken),
                "others_same": whole.filter(kept).equals(rest),
                **took,
            }
        }


def write_images(folder: Path, data_dir: Path | None) -> None:
    for name, images in zip(("train", "test"), CIFAR10.load(data_dir), strict=True):
        for position in range(len(images)):
            label = images.label_names[images.labels[position]]
            path = folder / label / f"{name}-{position:05d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(images.encoded_image(position))


def timed(*arguments: str) -> dict[str, float]:
    """Run a command of the package; its time, processor time, and the load before."""
    load = os.getloadavg()[0]
    process = subprocess.Popen([sys.executable, "-m", "tfpqn", *arguments])
    started = time.perf_counter()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    if status:
        raise RuntimeError(f"tfpqn {' '.join(arguments)} must succeed")
    return {
        "seconds": round(seconds, 2),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 2),
        "load_before": round(load, 2),
        "peak_mb": round(usage.ru_maxrss / 1024),
    }


def parts_of(index: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(index.glob("*.parquet"))}


def print_table(report: dict[str, Any]) -> None:
    results = report["results"]
    print(
        "| command | images/s | processor seconds | peak MB | load before |\n|---|---|---|---|---|"
    )
    for name, runs in results["times"].items():
        middle = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
        rate = results["items"] / middle["seconds"]
        print(
            f"| `tfpqn {name}` | {rate:,.0f} | {middle['cpu_seconds']:.0f} "
            f"| {middle['peak_mb']:,.0f} | {middle['load_before']:.1f} |"
        )
    for name in ("same_index", "kill", "broken"):
        print(f"{name}: {results[name]}")


if __name__ == "__main__":
    main()
