"""The time that the search page shows for a dropped photo, over a million items.

    python benchmarks/search_page.py             # measures, writes the JSON, prints the table
    python benchmarks/search_page.py --table     # prints the table of the JSON

Random codes of 8 bytes with string ids and labels stand for the collection; the network is
EfficientNet-Lite0 at 224 pixels with random weights, which take as long as trained ones. The server
is a process of `tfpqn serve --ui`, and headless Chromium opens the page. Both share this machine's
cores. Photos are drawn here, as JPEG files. The times are those that the page shows: from the drop
until the results are in the page.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from environment import describe_machine
from PIL import Image

OUTPUT = Path(__file__).parent / "results" / "search_page.json"
LIBRARIES = ("tensorflow", "keras", "numpy", "playwright")
NAME, IMAGE_SHAPE, TOP_K = "photos", (224, 224, 3), 10
NUM_SUBSPACES, NUM_CODEWORDS, EMBEDDING_DIM = 8, 256, 128
NUM_LABELS = 1000
SIZES = [(1280, 960), (4032, 3024)]
WARM_UP = 3
DROP = """(data) => {
  const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
  const transfer = new DataTransfer();
  transfer.items.add(new File([bytes], "photo.jpg", { type: "image/jpeg" }));
  document.getElementById("status").textContent = "";
  document.dispatchEvent(new DragEvent("drop", { dataTransfer: transfer, bubbles: true }));
}"""
PARTS = r"reading (\d+) ms · network and server (\d+) ms · showing (\d+) ms"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--drops", type=int, default=50, help="of each photo")
    parser.add_argument("--work-dir", type=Path, help="where the model goes; not kept")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="the JSON file")
    parser.add_argument("--table", action="store_true", help="only print the table of the JSON")
    arguments = parser.parse_args()
    if not arguments.table:
        arguments.output.write_text(json.dumps(measure(arguments), indent=1) + "\n")
    print("\n".join(format_table(json.loads(arguments.output.read_text()))))


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(dir=arguments.work_dir) as folder:
        export_model(Path(folder, NAME, "1"), arguments.items)
        with start_server(Path(folder, NAME)) as url:
            machine = describe_machine(LIBRARIES)
            rows = drop_photos(url, arguments.drops)
    return {
        "command": f"python benchmarks/search_page.py --items {arguments.items}"
        f" --drops {arguments.drops}",
        "machine": machine,
        "load_after": os.getloadavg()[0],
        "items": arguments.items,
        "results": rows,
    }


def export_model(folder: Path, num_items: int) -> None:
    import keras

    import tfpqn
    from tfpqn.export import Searcher, save_searcher
    from tfpqn.index import CodeIndex, network_layout

    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    network = tfpqn.models.ProductQuantizationNetwork(
        tfpqn.models.build_backbone("efficientnet_lite0", IMAGE_SHAPE),
        tfpqn.layers.ProductQuantization(NUM_SUBSPACES, NUM_CODEWORDS),
        EMBEDDING_DIM,
    )
    codes = rng.integers(0, NUM_CODEWORDS, (num_items, NUM_SUBSPACES), dtype=np.uint8)
    ids = np.array([f"{number % 1000:03}/{number:07}.jpg" for number in range(num_items)], object)
    labels = np.array([f"label {number}" for number in rng.integers(0, NUM_LABELS, num_items)])
    index = CodeIndex(network_layout(network), codes, ids, {"label": labels.tolist()})
    save_searcher(Searcher(network, index, top_k=TOP_K, label_column="label"), folder)


@contextlib.contextmanager
def start_server(folder: Path) -> Iterator[str]:
    """The address of the page of a `tfpqn serve` process."""
    command = [sys.executable, "-m", "tfpqn", "serve", "--model-base-path", str(folder), "--ui"]
    command += ["--port", "0", "--rest-api-port", "0"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        lines = [process.stdout.readline() if process.stdout else "" for _ in range(2)]
        found = re.search(r"Search page: (\S+)", lines[1])
        if not found:
            raise RuntimeError(f"The server must say where its page is. Received: {lines}")
        yield found[1]
    finally:
        process.terminate()
        process.wait()


def drop_photos(url: str, num_drops: int) -> list[dict[str, Any]]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = shutil.which("chromium")
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page()
        page.goto(url)
        rows = []
        for size in SIZES:
            photo = draw_photo(*size)
            shown = [drop_once(page, photo) for _ in range(WARM_UP + num_drops)][WARM_UP:]
            rows.append(
                {
                    "width": size[0],
                    "height": size[1],
                    "file_kb": len(photo) / 1000,
                    "load": os.getloadavg()[0],
                    **describe_times(np.array(shown)),
                }
            )
        return rows


def drop_once(page: Any, photo: bytes) -> list[int]:
    """Milliseconds that the page shows: all of it, reading, network and server, showing."""
    page.evaluate(DROP, base64.b64encode(photo).decode())
    status = page.locator("#results[aria-busy=false] #status")
    status.filter(has_text=re.compile(rf"{TOP_K} items in \d+ ms")).wait_for()
    total = re.search(r"(\d+) ms", status.text_content() or "")
    parts = re.fullmatch(PARTS, page.locator("#times").text_content() or "")
    if not (total and parts):
        raise RuntimeError("The page must show the times")
    return [int(total[1]), *map(int, parts.groups())]


def describe_times(shown: np.ndarray) -> dict[str, float]:
    p50, p95 = np.percentile(shown, [50, 95], axis=0)
    names = ("total", "reading", "network_and_server", "showing")
    return {
        "fastest_ms": float(shown[:, 0].min()),
        **{f"{name}_p50_ms": float(value) for name, value in zip(names, p50, strict=True)},
        "total_p95_ms": float(p95[0]),
    }


def draw_photo(width: int, height: int) -> bytes:
    """Soft forms with some grain, which compress like a photo."""
    rng = np.random.default_rng(0)
    soft = Image.fromarray(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8))
    pixels = np.asarray(soft.resize((width, height), Image.Resampling.BICUBIC), np.int16)
    grain = rng.integers(-8, 9, (height, width, 1), dtype=np.int16)
    image = Image.fromarray(np.clip(pixels + grain, 0, 255).astype(np.uint8))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=85)
    return file.getvalue()


def format_table(content: dict[str, Any]) -> list[str]:
    machine = content["machine"]
    lines = [
        f"{content['items']:,} items; {machine['cores']} cores, load "
        f"{machine['load_before']:.1f} before and {content['load_after']:.1f} after",
        "",
        "| photo | kB | fastest ms | p50 ms | p95 ms | reading | network and server | showing |",
        "|---|" + "---:|" * 7,
    ]
    for row in content["results"]:
        figures = [row["file_kb"], row["fastest_ms"], row["total_p50_ms"], row["total_p95_ms"]]
        figures += [row[f"{part}_p50_ms"] for part in ("reading", "network_and_server", "showing")]
        shown = " | ".join(f"{figure:,.0f}" for figure in figures)
        lines.append(f"| {row['width']} x {row['height']} | {shown} |")
    return lines


if __name__ == "__main__":
    main()
