"""The messages on the page of troubles are those of the source."""

import ast
import re

import pytest

from tests.docs.scenes import ROOT

PAGE = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
MESSAGES = re.findall(r"^\| `([^`]+)` \|", PAGE, re.MULTILINE)
SOURCES = [path for room in ("tfpqn", "export", "training") for path in (ROOT / room).rglob("*.py")]


def texts_of(path):
    """Each string of a file; what an f-string computes is a line break."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.JoinedStr):
            yield "".join(getattr(part, "value", "") for part in node.values if is_text(part))
        elif is_text(node):
            yield node.value


def is_text(node):
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


@pytest.fixture(scope="module")
def texts():
    return {text for path in SOURCES for text in texts_of(path)}


def test_each_message_of_the_page_is_one_that_the_package_gives(texts):
    assert len(MESSAGES) >= 20
    for message in MESSAGES:
        parts = [part.strip() for part in message.split("…")]
        assert any(all(part in text for part in parts) for text in texts), message
