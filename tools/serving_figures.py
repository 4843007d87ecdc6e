"""Write docs/serving_figures.md from the committed JSON of the serving benchmarks.

python tools/serving_figures.py
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
sys.path.insert(0, str(ROOT / "benchmarks"))

HEAD = """# Serving: figures

Made by `python tools/serving_figures.py` from serving_load.json, serving_faults.json and
large_export.json in benchmarks/results; do not edit. [serving.md](serving.md) says what they mean.
"""
LOAD = """`tfpqn serve` in a process of its own, {clients} concurrent clients with a connection
each, one row a request, {seconds:g} seconds a line, a model of {items:,} items with codes of
8 bytes and a 3-conv backbone for 32x32 images. Clients and server share the machine; every answer
is compared with that of the folder loaded in Python. "ratio" is the throughput over that without
batching."""
FAULTS = """Each fault while four clients through gRPC and four through REST ask and check their
answers: "neighbours' requests" are theirs."""
LARGE = """Codes of 8 bytes and int64 ids, made at random; each stage in a process of its own."""


def main() -> None:
    import large_export
    import serving_faults
    import serving_load

    load, faults, large = (
        json.loads((RESULTS / f"{name}.json").read_text())
        for name in ("serving_load", "serving_faults", "large_export")
    )
    parts = [
        HEAD,
        section("Load", LOAD.format(**load["settings"]), load, serving_load.format_table(load)),
        section("Faults under load", FAULTS, faults, serving_faults.format_table(faults)),
        section("A large collection", LARGE, large, large_export.format_tables(large)),
    ]
    (ROOT / "docs" / "serving_figures.md").write_text("\n".join(parts))


def section(title: str, text: str, content: dict[str, Any], table: list[str]) -> str:
    machine = content["machine"]
    place = (
        f"{machine['cpu']}, {machine['cores']} cores, load {machine['load_before']:.1f} before the "
        f"run, {machine['date']}; tensorflow {machine['tensorflow']}."
    )
    return "\n".join(
        [f"## {title}\n", f"    {content['command']}\n", text, "", *table, "", place, ""]
    )


if __name__ == "__main__":
    main()
