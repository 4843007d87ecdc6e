"""What the pages presume, and which of their commands no test runs."""

import re
import shutil
import socket
import sys
from pathlib import Path

from tools.pages import Block, PageRunner, read_blocks, read_commands

ROOT = Path(__file__).parent.parent.parent
# Commands and programs that no test runs, and why.
NOT_RUN = {
    r"docker |kubectl |sed .*\| kubectl |.*query\.jpg|curl ": "needs Docker or a cluster",
    r"pip install|.*bin/pip|python3 -m venv|make ": "the tests run what is installed",
    r".*--protocol cifar10|.*write_file\('DIR'\)": "the data set is not in the checkout",
    r"python (benchmarks|tools)/|python -m research": "takes minutes to hours",
    r".*torchvision": "torchvision is large",
    r".*gs://|.*worker_pool_main": "there is no Dataflow, Flink or Spark",
    r".*TF_CONFIG|.*--distribute workers": "names other machines; tests/training has two workers",
    r".* \.\.\. ": "is abridged",
    r"tensorboard ": "stays open, and shows what a test has looked at",
    r"backbone\.save_to_preset": "KerasHub is optional; tests/cli has presets",
    r"from tfpqn.export.client import ShardedSearchClient\n\nshards": "names other machines",
}


def is_run(text: str) -> bool:
    """Whether a command, or a program by how it begins, is run."""
    return not any(re.match(pattern, text) for pattern in NOT_RUN)


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def run_page(
    page: Path,
    folder: Path,
    replaced: dict[str, str],
    around: dict[str, tuple[str, str]] | None = None,
    afresh: bool = False,
) -> str:
    """Run the blocks of a page in order and return what they print.

    `around` has, by the first line of a Python block, programs to run before and after it. With
    `afresh` each block that trains starts without what was written before, because the blocks are
    choices.
    """
    ports = [free_port(), free_port()]
    replaced = {"8500": ports[0], "8501": ports[1], "8600": free_port(), **replaced}
    runner = PageRunner(folder, Path(sys.executable).parent, {"PYTHONPATH": str(ROOT)})
    output = []
    try:
        for block in read_blocks(page):
            for old, new in replaced.items():
                block = block._replace(text=block.text.replace(old, new))
            if afresh and "tfpqn train" in block.text:
                for name in ("runs", "indexes", "models"):
                    shutil.rmtree(folder / name, ignore_errors=True)
            if "tfpqn serve" in block.text and "--port" not in block.text:
                command = f"tfpqn serve --port {ports[0]} --rest-api-port {ports[1]}"
                block = block._replace(text=block.text.replace("tfpqn serve", command, 1))
            output += _run_block(runner, block, around or {})
    finally:
        runner.close()
    return "".join(output)


def _run_block(runner: PageRunner, block: Block, around: dict[str, tuple[str, str]]) -> list[str]:
    first_line = block.text.splitlines()[0]
    if block.language == "python" and is_run(block.text):
        before, after = around.get(first_line, ("", ""))
        return [runner.run_python(f"{before}\n{block.text}\n{after}")]
    if block.language == "bash":
        return [runner.run_command(command) for command in read_commands(block) if is_run(command)]
    return []
