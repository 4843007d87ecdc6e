"""One code per clip against a code per frame, one frame, and the average over the clip.

    python benchmarks/clips.py --protocol moving-digits --runs-dir runs/clips
    python benchmarks/clips.py --protocol msr-action3d --data-dir DIR --runs-dir runs/clips

Trains each network with the same backbone, data, epochs and seeds, all with 24 bits a code in 4
positions, and measures mAP, bytes per clip and the time of a query over 100,000 clips of random
codes, in the graph that is exported. Finished runs are kept: killed and started again, it goes on.
Writes `docs/comparisons/clips-PROTOCOL.json`, from which `python -m research --report` makes the
tables.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tfpqn.datasets import ClipSet, ImageArrays, Splits
from tfpqn.export.search.scan import search_codes
from tfpqn.export.search.scoring import pack_planes
from tfpqn.metrics import rank_items
from tfpqn.ops import adc_scores, label_relevance
from tfpqn.training import Run, RunConfig, evaluate_run, train

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "docs" / "comparisons"
CLIPS_TIMED = 100_000
TOP_K = 10
FRAME_BATCH = 128
NUM_CODEWORDS = 64

# Name -> settings of the network of clips; "frames" is a network of single frames.
KINDS: dict[str, dict[str, Any]] = {
    "one code per frame": {"model": "pqn"},
    "middle frame": {"model": "tpqn", "num_segments": (1,), "num_frames": 1},
    "average over the clip": {"model": "tpqn", "num_segments": (1,)},
    "2 segments": {"model": "tpqn", "num_segments": (2,)},
    "4 segments": {"model": "tpqn", "num_segments": (4,)},
    "2 segments, 2 levels": {"model": "tpqn", "num_segments": (2,), "num_levels": 2},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--protocol", default="moving-digits")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--runs-dir", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--embedding-dim", type=int, default=128)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=list(KINDS))
    parser.add_argument("--output-dir", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    # Not installed: it lies in the checkout. It knows the protocol msr-action3d.
    sys.path.append(str(ROOT))
    import research.datasets.protocols  # noqa: F401

    rows = []
    for kind in arguments.kinds:
        per_seed = [measure(kind, seed, arguments) for seed in arguments.seeds]
        num_codes = per_seed[0]["codes_per_clip"]
        rows.append(
            {
                "kind": kind,
                "mAP": [figures["mAP"] for figures in per_seed],
                "raw_mAP": [figures["raw_mAP"] for figures in per_seed],
                "bits_per_code": per_seed[0]["bits_per_code"],
                "codes_per_clip": num_codes,
                "query_ms": time_query(num_codes),
            }
        )
        write(rows, arguments)
        print(json.dumps(rows[-1]), flush=True)


def measure(kind: str, seed: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """Train and evaluate one run, or read what an earlier call has found."""
    settings = KINDS[kind]
    is_frames = settings["model"] == "pqn"
    config = RunConfig.of(
        # The settings of the frames' network name a protocol of images; its data is given below.
        protocol="digits" if is_frames else arguments.protocol,
        bits=24,
        seed=seed,
        epochs=arguments.epochs,
        batch_size=FRAME_BATCH if is_frames else arguments.batch_size,
        embedding_dim=arguments.embedding_dim,
        augment=True,
        **settings,
    )
    name = kind.replace(" ", "-").replace(",", "").replace("+", "and")
    run = Run.start(arguments.runs_dir / arguments.protocol / f"{name}-{seed}", config)
    metrics = run.read_metrics()
    if metrics is None:
        clips = RunConfig.of(protocol=arguments.protocol, model="tpqn").data.load_splits(
            arguments.data_dir, num_frames=config.data.num_frames
        )
        if is_frames:
            metrics = measure_frames(run, clips)
        else:
            network = train(run, clips, progress=False)
            metrics = evaluate_run(run, network, clips)
    return {
        "mAP": metrics["mAP"],
        "raw_mAP": metrics["raw_embeddings"]["mAP"],
        "bits_per_code": metrics["bits_per_code"],
        "codes_per_clip": metrics.get("codes_per_clip", 1),
    }


def measure_frames(run: Run, clips: Splits) -> dict[str, Any]:
    """A network of frames; two clips match as their frames do: the best of each, averaged."""
    parts = {name: to_frames(getattr(clips, name)) for name in ("train", "database", "query")}
    frames = Splits(**parts)
    network = train(run, frames, progress=False)
    num_frames = clips.query.num_frames
    embeddings = {name: embed(network, parts[name].images) for name in ("database", "query")}
    codes = np.asarray(network.quantizer.encode(embeddings["database"]))
    tables = np.asarray(network.quantizer.lookup_tables(embeddings["query"]))
    relevance = np.asarray(label_relevance(clips.query.labels, clips.database.labels))
    sums = np.zeros(2)
    for query in range(len(clips.query)):
        rows = slice(query * num_frames, (query + 1) * num_frames)
        for way, scores in enumerate(
            (
                np.asarray(adc_scores(tables[rows], codes)),
                embeddings["query"][rows] @ embeddings["database"].T,
            )
        ):
            best = scores.reshape(num_frames, -1, num_frames).max(axis=2).mean(axis=0)
            (ranking,) = rank_items(best[None], relevance[query : query + 1])
            sums[way] += ranking.average_precision()
    means = sums / len(clips.query)
    metrics = {
        "mAP": float(means[0]),
        "raw_embeddings": {"mAP": float(means[1])},
        "bits_per_code": network.quantizer.bits_per_code,
        "codes_per_clip": num_frames,
    }
    run.write_metrics(metrics)
    return metrics


def to_frames(clips: ClipSet) -> ImageArrays:
    images = np.concatenate([batch.images for batch in clips.batches(64)])
    num_frames = images.shape[1]
    frames = ImageArrays(images.reshape(-1, *images.shape[2:]), clips.labels.repeat(num_frames))
    frames.mirrors_alike = clips.mirrors_alike
    return frames


def embed(network: Any, images: np.ndarray) -> np.ndarray:
    batches = np.array_split(images, max(1, len(images) // 256))
    return np.concatenate([np.asarray(network.embed(batch)) for batch in batches])


def time_query(codes_per_clip: int, repeats: int = 15) -> float:
    """Median milliseconds of a query clip over so many codes, each of its frames searching all."""
    rng = np.random.default_rng(0)
    tables = tf.constant(rng.normal(size=(4, codes_per_clip, NUM_CODEWORDS)), tf.float32)
    num_codes = CLIPS_TIMED * codes_per_clip
    planes = tf.constant(
        pack_planes(rng.integers(0, NUM_CODEWORDS, (num_codes, 4), dtype=np.uint8))
    )
    search = tf.function(lambda tables: search_codes(tables, planes, num_codes, TOP_K).scores)
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        search(tables).numpy()
        times.append(time.perf_counter() - started)
    return float(np.median(times[2:]) * 1000)


def write(rows: list[dict[str, Any]], arguments: argparse.Namespace) -> None:
    data_dir = " --data-dir DIR" if arguments.data_dir else ""
    kinds = "" if arguments.kinds == list(KINDS) else " --kinds " + shlex.join(arguments.kinds)
    content = {
        "command": f"python benchmarks/clips.py --protocol {arguments.protocol}{data_dir} "
        f"--runs-dir runs/clips --epochs {arguments.epochs} --batch-size {arguments.batch_size} "
        f"--embedding-dim {arguments.embedding_dim} "
        f"--seeds {' '.join(map(str, arguments.seeds))}{kinds}",
        "protocol": arguments.protocol,
        "epochs": arguments.epochs,
        "clips_timed": CLIPS_TIMED,
        "rows": rows,
    }
    path = arguments.output_dir / f"clips-{arguments.protocol}.json"
    path.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
