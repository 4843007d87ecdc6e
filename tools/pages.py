"""The code blocks of a page: reading them, and running them in order in one folder.

Python blocks are programs of their own. Shell blocks are `tfpqn` commands and the like. A server
stays up until the next one starts or the page ends.
"""

import os
import re
import shlex
import subprocess
from pathlib import Path
from typing import NamedTuple

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INDENTED = re.compile(r"(?<=\n\n)(?: {4}.*\n(?:\n(?= {4}))?)+")
COMMANDS = set("tfpqn python python3 pip make docker kubectl curl export tensorboard".split())
SERVERS = ("tfpqn serve", "tfpqn route")


class Block(NamedTuple):
    """One code block, and the line of the page that it starts on."""

    line: int
    language: str
    text: str


def read_blocks(page: Path) -> list[Block]:
    """All blocks of a page: fenced ones, and indented ones outside lists."""
    text = page.read_text(encoding="utf-8")
    blocks = [(match.start(), match[1], match[2]) for match in FENCE.finditer(text)]
    plain = FENCE.sub(lambda match: re.sub(r"[^\n]", "-", match[0]), text)
    for match in INDENTED.finditer(plain):
        if re.search(r"^(- |\d+\. )[^\n]*(\n {2,}[^\n]*)*\n\n\Z", plain[: match.start()], re.M):
            continue
        lines = [line[4:] for line in match[0].splitlines()]
        blocks.append((match.start(), _language_of(lines[0]), "\n".join(lines) + "\n"))
    return [
        Block(text.count("\n", 0, start) + 1, language or "text", code)
        for start, language, code in sorted(blocks)
    ]


def read_commands(block: Block) -> list[str]:
    """The commands of a shell block, each on one line."""
    lines = block.text.replace("\\\n", " ").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]


class PageRunner:
    """Runs the blocks of a page in `folder`, by the programs that are first on `path`."""

    def __init__(self, folder: Path, path: Path, environment: dict[str, str] | None = None):
        search_path = f"{path}{os.pathsep}{os.environ['PATH']}"
        self.folder = folder
        self.environment = {
            **os.environ,
            "TF_CPP_MIN_LOG_LEVEL": "3",
            **(environment or {}),
            "PATH": search_path,
        }
        self.python = str(path / "python")
        self._servers: dict[str, subprocess.Popen[str]] = {}  # by their ports

    def run_python(self, program: str) -> str:
        return self._finish([self.python, "-c", program])

    def run_command(self, command: str) -> str:
        if command.startswith(SERVERS):
            return self._serve(command)
        return self._finish(["bash", "-ec", command])

    def close(self) -> None:
        for port in list(self._servers):
            self._stop(port)

    def _finish(self, command: list[str]) -> str:
        finished = subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True
        )
        if finished.returncode:
            raise RuntimeError(f"{command[-1]}\n{finished.stdout}\n{finished.stderr}")
        return finished.stdout

    def _stop(self, port: str) -> None:
        server = self._servers.pop(port, None)
        if server is not None:
            server.terminate()
            server.communicate()

    def _serve(self, command: str) -> str:
        words = shlex.split(command, comments=True)
        port = words[words.index("--port") + 1] if "--port" in words else ""
        self._stop(port)
        server = subprocess.Popen(
            words, cwd=self.folder, env=self.environment, stderr=subprocess.PIPE, text=True
        )
        self._servers[port] = server
        said = []
        for line in server.stderr or ():
            said.append(line)
            if "Serving" in line:
                return ""
        raise RuntimeError(f"{command}\n{''.join(said)}")


def _language_of(line: str) -> str:
    words = [word for word in line.split() if "=" not in word]
    return "bash" if words and words[0] in COMMANDS else "text"
