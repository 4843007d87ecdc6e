"""What the pages presume, and which of their commands no test runs."""

import re
import socket
import sys
from pathlib import Path

from tools.pages import PageRunner, read_blocks, read_commands

ROOT = Path(__file__).parent.parent.parent
# Commands that no test runs, and why.
NOT_RUN = {
    r"docker |kubectl |.*\| kubectl ": "there is no Docker engine and no cluster",
    r".*pip install|python3 -m venv|make ": "the tests run what is installed",
    r".*--protocol (cifar10|DIR)|.*write_file\('DIR'\)": "the data set is not in the checkout",
    r"python benchmarks/": "takes minutes to hours; its options are checked",
    r".*torchvision": "torchvision is large",
    r".*gs://|.*worker_pool_main": "there is no Dataflow, Flink or Spark",
    r".*TF_CONFIG|.*--distribute workers": "names other machines; tests/training trains with two",
}


def is_run(command: str) -> bool:
    return not any(re.match(pattern, command) for pattern in NOT_RUN)


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def run_page(page: Path, folder: Path, replaced: dict[str, str], around=None) -> str:
    """Run the blocks of a page in order and return what they print.

    `around` has, by the first line of a Python block, programs to run before and after it.
    """
    replaced = {"8500": free_port(), "8501": free_port(), **replaced}
    runner = PageRunner(folder, Path(sys.executable).parent, {"PYTHONPATH": str(ROOT)})
    output = []
    try:
        for block in read_blocks(page):
            text = block.text
            for old, new in replaced.items():
                text = text.replace(old, new)
            block = block._replace(text=text)
            if block.language == "python":
                before, after = (around or {}).get(text.splitlines()[0], ("", ""))
                output.append(runner.run_python(f"{before}\n{text}\n{after}"))
            elif block.language == "bash":
                commands = [command for command in read_commands(block) if is_run(command)]
                output += map(runner.run_command, commands)
    finally:
        runner.close()
    return "".join(output)
