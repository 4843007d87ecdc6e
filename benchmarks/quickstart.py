"""Time of the quickstart, by running the code blocks of its page in a fresh environment.

    python benchmarks/quickstart.py --docs

Copies the files that git tracks into a temporary folder, installs there without pip's cache, and
runs every block of docs/quickstart.md in order. Writes benchmarks/results/quickstart.json, and with
`--docs` the table of the page.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))
from environment import describe_machine  # noqa: E402

from tools.pages import PageRunner, read_blocks, read_commands  # noqa: E402

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "quickstart.md"
RESULTS = ROOT / "benchmarks" / "results" / "quickstart.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--docs", action="store_true", help="write the table into the page too")
    arguments = parser.parse_args()
    content = {
        "command": "python benchmarks/quickstart.py",
        **describe_machine(["tensorflow", "keras"]),
        "steps": measure(),
    }
    RESULTS.write_text(json.dumps(content, indent=1) + "\n")
    if arguments.docs:
        write_docs(content)


def measure() -> list[dict[str, object]]:
    """Seconds of every command and program of the page."""
    steps = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        copy_checkout(folder)
        os.environ.pop("PYTHONPATH", None)
        runner = PageRunner(folder, folder / ".venv" / "bin", {"PIP_NO_CACHE_DIR": "1"})
        try:
            for title, run in list_steps(runner):
                start = time.perf_counter()
                run()
                steps.append({"step": title, "seconds": round(time.perf_counter() - start, 1)})
                print(f"{steps[-1]['seconds']:7.1f} s  {title}", flush=True)
        finally:
            runner.close()
    print(f"{sum(step['seconds'] for step in steps):7.1f} s  in all")
    return steps


def copy_checkout(folder: Path) -> None:
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True)
    for name in filter(None, listing.stdout.decode().split("\0")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)


def list_steps(runner: PageRunner):
    for block in read_blocks(PAGE):
        if block.language == "python":
            title = "the client" if "SearchClient" in block.text else "write the pictures"
            yield title, lambda text=block.text: runner.run_python(text)
        if block.language == "bash":
            for command in read_commands(block):
                words = command.removeprefix(".venv/bin/").replace("-m ", "-m_").split()
                title = f"`{' '.join(words[:2])}`".replace("_", " ")
                yield title, lambda line=command: runner.run_command(line)


def write_docs(content) -> None:
    rows = [f"| {step['step']} | {step['seconds']:.0f} |" for step in content["steps"]]
    total = sum(step["seconds"] for step in content["steps"])
    table = "\n".join(["| step | seconds |", "|---|---:|", *rows, f"| **in all** | {total:.0f} |"])
    text = PAGE.read_text(encoding="utf-8")
    before, mark, rest = text.partition("<!-- times -->\n")
    _, end, after = rest.partition("<!-- end of times -->\n")
    source = (
        f"{content['cores']} cores that other work shared (load {content['load_before']:.0f}). "
        "Packages came from a mirror nearby, so `pip install` takes longer elsewhere."
    )
    PAGE.write_text(f"{before}{mark}{table}\n\n{source}\n{end}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
