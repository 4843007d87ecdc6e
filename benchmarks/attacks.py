"""Attacks on what lies on disk, and what comes of each: flipped bytes, kills and races.

    python benchmarks/attacks.py --count 40

makes a small run, its index and a version folder, and attacks each `--count` times. An attack ends
right (the answer is as before), refused (one line that names the cause), wrong, or with a
traceback. The last two are faults: the script names them and ends with status 1. `--only` picks
attacks, `--seed` draws others. A crash of the script itself is a fault, too.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import multiprocessing
import os
import random
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from tfpqn.files.atomic import atomic_directory
from tfpqn.index import CodeIndex, CodeIndexWriter, CodeLayout, compact_index, update_index

LAYOUT = CodeLayout(code_length=4, num_codewords=256, fingerprint="ab" * 32)
IDS = np.arange(20_000)
ROWS_PER_PART = 2_500
REFUSED = 3
RACERS = 3

Outcomes = Iterator[tuple[str, str]]


class Refused(Exception):
    """A command ended with status 2 and one line."""


def run_command(*arguments: Any) -> str:
    """Run a command of `tfpqn` in this process; its output."""
    from tfpqn.cli import main

    output, errors = io.StringIO(), io.StringIO()
    sys.argv = ["tfpqn", *map(str, arguments)]
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        try:
            main()
        except SystemExit as stop:
            status = stop.code
    last = (errors.getvalue().strip().splitlines() or [""])[-1]
    if status == 2 and last.startswith("tfpqn: error: ") and "Traceback" not in errors.getvalue():
        raise Refused(last)
    if status != 0:
        raise RuntimeError(f"status {status}: {errors.getvalue()}")
    return output.getvalue()


def make_road(folder: Path) -> None:
    """A run, its calibration, its index, a version and a few images to ask with."""
    from tfpqn.training import Run

    run, index, version = folder / "run", folder / "index", folder / "models" / "digits" / "1"
    size = ("--bits", 16, "--embedding-dim", 16, "--epochs", 1)
    run_command("train", "--protocol", "digits", "--run-dir", run, *size)
    run_command("calibrate", "--run-dir", run, "--precision", 0.5)
    run_command("index", "--run-dir", run, "--output", index)
    run_command("export", "--run-dir", run, "--index", index, "--output", version)
    (folder / "images" / "any").mkdir(parents=True)
    queries = Run.open(run).load_splits().query
    for number in range(3):
        (folder / "images" / "any" / f"{number}.png").write_bytes(queries.encoded_image(number))


def ask_index(road: Path) -> str:
    """Read the index as a rewriting does, then as an export does."""
    layout = CodeIndex.load(road.parent / "road" / "index").layout
    output = run_command("compact", "--index", road / "index")
    return output + digest_of(CodeIndex.load(road / "index"), layout)


def ask_version(road: Path) -> str:
    files = sorted((road / "images").rglob("*.png"))
    return run_command("search", "--model", road / "models" / "digits" / "1", "--json", *files)


def ask_network(road: Path) -> str:
    coded = road / "coded"
    options = ("--run-dir", road / "run", "--images", road / "images", "--output", coded)
    run_command("index", *options, "--overwrite")
    return digest_of(CodeIndex.load(coded))


def ask_calibration(road: Path) -> str:
    version = road / "again" / "1"
    shutil.rmtree(version.parent, ignore_errors=True)
    run_command("export", "--run-dir", road / "run", "--index", road / "index", "--output", version)
    return json.dumps(json.loads((version / "manifest.json").read_text("utf-8"))["calibration"])


def digest_of(index: CodeIndex, layout: CodeLayout | None = None) -> str:
    try:
        index.require_layout(layout or index.layout)
    except ValueError as error:
        raise Refused(str(error)) from error
    rows = (index.codes.tobytes(), index.ids.tolist(), index.metadata.to_pylist())
    return hashlib.sha256(repr(rows).encode()).hexdigest()


class Target(NamedTuple):
    """Files, one of which is damaged each time, and the question that reads them."""

    files: str
    ask: Callable[[Path], str]


TARGETS = {
    "flips in an index": Target("index/*", ask_index),
    "flips in a version": Target("models/**/*", ask_version),
    "flips in a network": Target("run/network.keras", ask_network),
    "flips in run.json": Target("run/run.json", ask_network),
    "flips in a calibration": Target("run/calibration.json", ask_calibration),
}


def flip(target: Target, road: Path, count: int, rng: random.Random) -> Outcomes:
    """Damage one file at a time; everything else is as it was."""
    attacked = road.parent / "attacked"
    expected = None
    for number in range(count + 1):
        shutil.rmtree(attacked, ignore_errors=True)
        shutil.copytree(road, attacked)
        what = "nothing"
        if number:  # The first answer is that of the whole.
            files = sorted(path for path in attacked.glob(target.files) if path.is_file())
            file = rng.choice(files)
            data, what = damage(file.read_bytes(), rng)
            file.write_bytes(data)
            what = f"{file.relative_to(attacked)}: {what}"
        try:
            answer = target.ask(attacked)
        except Refused as refusal:
            yield "refused", f"{what}: {refusal}"
        except Exception:
            yield "traceback", f"{what}: {traceback.format_exc()}"
        else:
            expected = expected or answer
            yield "right" if answer == expected else "wrong", what


def damage(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    place, kind = rng.randrange(max(1, len(data))), rng.random()
    if kind < 0.1:
        return data[:place], f"cut at {place}"
    if kind < 0.2:
        return data[:place] + rng.randbytes(8) + data[place + 8 :], f"8 bytes of noise at {place}"
    bit = 1 << rng.randrange(8)
    return data[:place] + bytes([data[place] ^ bit]) + data[place + 1 :], f"{bit} at {place}"


# Kills and races; each value tells all the codes that one writer wrote.


def items_of(value: int) -> CodeIndex:
    """All items with one code, and an item that only this writer adds."""
    codes = np.full((len(IDS) + 1, 4), value % 256, np.uint8)
    return CodeIndex(LAYOUT, codes, np.append(IDS, len(IDS) + value))


def write_first(path: Path) -> None:
    with CodeIndexWriter(path, LAYOUT, rows_per_part=ROWS_PER_PART) as writer:
        writer.append(np.zeros((len(IDS), 4), np.uint8), IDS)


def grow(path: Path, value: int) -> None:
    try:
        update_index(path, items_of(value), rows_per_part=ROWS_PER_PART)
    except BlockingIOError:
        sys.exit(REFUSED)


def read(path: Path, value: int) -> None:
    if len(np.unique(CodeIndex.load(path).codes[: len(IDS)])) > 1:
        sys.exit(1)


def copy_version(source: Path, path: Path) -> None:
    try:
        with atomic_directory(path) as folder:
            shutil.copytree(source, folder, dirs_exist_ok=True)
    except FileExistsError:
        sys.exit(REFUSED)


def kill_index_writers(road: Path, count: int, rng: random.Random) -> Outcomes:
    """After each kill the index is the former or the new one, and the next write leaves no rest."""
    folder = road.parent / "killed"
    path, value = folder / "index", 0
    write_first(path)
    seconds = time_of(grow, path, 0)
    for number in range(1, count + 1):
        kill_after(rng.random() * 1.2 * seconds, grow, path, number)
        codes = np.unique(CodeIndex.load(path).codes[: len(IDS)]).tolist()
        is_whole = codes in ([value % 256], [number % 256])
        value = codes[0]
        compact_index(path, rows_per_part=ROWS_PER_PART)
        left = [entry.name for entry in folder.iterdir() if entry != path]
        yield ("wrong" if left or not is_whole else "right"), f"codes {codes}, left {left}"


def kill_version_writers(road: Path, count: int, rng: random.Random) -> Outcomes:
    """After each kill the version is there whole or not at all."""
    source, folder = road / "models" / "digits" / "1", road.parent / "models"
    seconds = time_of(copy_version, source, folder / "0")
    for number in range(1, count + 1):
        kill_after(rng.random() * 1.2 * seconds, copy_version, source, folder / str(number))
        copy_version(source, folder / str(10**6 + number))
        left = [entry.name for entry in folder.iterdir() if not is_copy(entry, source)]
        yield ("wrong" if left else "right"), f"left {left}"
        shutil.rmtree(folder)


def race_for_an_index(road: Path, count: int, rng: random.Random) -> Outcomes:
    """Who says done has written; who reads gets what one writer wrote."""
    for number in range(count):
        path = road.parent / "raced" / str(number) / "index"
        write_first(path)
        values = [number * RACERS + 1 + racer for racer in range(RACERS)]
        statuses = run_together([(grow, path, value) for value in values])
        readers = run_together([*((read, path, value) for value in values), (grow, path, 0)])
        index = CodeIndex.load(path)
        done = {len(IDS) + v for v, s in zip(values, statuses, strict=True) if s == 0}
        is_lost = not done or not done <= set(index.ids[len(IDS) :].tolist())
        known = set(statuses + readers) <= {0, REFUSED}
        yield (
            "traceback" if not known else "wrong" if is_lost or readers.count(1) else "right",
            f"writers {statuses}, readers {readers}, ids {index.ids[len(IDS) :].tolist()}",
        )


def race_for_a_version(road: Path, count: int, rng: random.Random) -> Outcomes:
    """One writer of a version is first, and the others are refused."""
    source = road / "models" / "digits" / "1"
    for number in range(1, count + 1):
        path = road.parent / "versions" / str(number)
        statuses = run_together([(copy_version, source, path)] * RACERS)
        is_right = sorted(statuses) == [0] + [REFUSED] * (RACERS - 1) and is_copy(path, source)
        yield ("right" if is_right else "wrong"), f"writers {statuses}"


def is_copy(path: Path, source: Path) -> bool:
    names = sorted(file.relative_to(source) for file in source.rglob("*") if file.is_file())
    return names == sorted(f.relative_to(path) for f in path.rglob("*") if f.is_file()) and all(
        (path / name).read_bytes() == (source / name).read_bytes() for name in names
    )


def run_together(calls: list[tuple[Any, ...]]) -> list[int | None]:
    processes = [start(*call) for call in calls]
    for process in processes:
        process.join()
    return [process.exitcode for process in processes]


def time_of(*call: Any) -> float:
    run_together([(os.getpid,)])  # The first process of all waits until the package is imported.
    begin = time.perf_counter()
    if status := run_together([call])[0]:
        raise RuntimeError(f"{call} ended with status {status}")
    return time.perf_counter() - begin


def kill_after(seconds: float, *call: Any) -> None:
    process = start(*call)
    time.sleep(seconds)
    process.kill()
    process.join()


def start(function: Callable[..., None], *arguments: Any) -> multiprocessing.Process:
    # Forked from a process that has imported all and computed nothing.
    process = multiprocessing.get_context("forkserver").Process(target=function, args=arguments)
    process.start()
    return process  # type: ignore[return-value]


ATTACKS: dict[str, Callable[[Path, int, random.Random], Outcomes]] = {
    **{
        name: lambda road, count, rng, target=target: flip(target, road, count, rng)
        for name, target in TARGETS.items()
    },
    "kills of index writers": kill_index_writers,
    "kills of version writers": kill_version_writers,
    "races for an index": race_for_an_index,
    "races for a version": race_for_a_version,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--count", type=int, default=20, help="attacks of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", default=list(ATTACKS), choices=list(ATTACKS))
    options = parser.parse_args()
    multiprocessing.set_forkserver_preload(["tfpqn.index"])
    faults = 0
    with tempfile.TemporaryDirectory() as temporary:
        road = Path(temporary) / "road"
        make_road(road)
        for name in options.only:
            counts: Counter[str] = Counter()
            for outcome, what in ATTACKS[name](road, options.count, random.Random(options.seed)):
                counts[outcome] += 1
                if outcome in ("wrong", "traceback"):
                    faults += 1
                    print(f"{name}: {outcome}: {what}", flush=True)
            print(f"{name}: {dict(counts)}", flush=True)
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
