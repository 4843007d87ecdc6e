"""Sentences for people, out of those of programs."""

from __future__ import annotations

import re


def counted(number: int, things: str) -> str:
    """A number of things, whose name comes in the plural: "1 query", "2,000 queries"."""
    one = f"{things[:-3]}y" if things.endswith("ies") else things[:-1]
    return f"{number:,} {one if number == 1 else things}"


def plain_sentence(message: str) -> str:
    """TensorFlow's message of an error without its marks of nodes and ops.

    Of an error in the graph of a loaded model the cause alone is left, the last of its lines.
    """
    message = message.rpartition("<stack traces unavailable>")[2].partition("\n\t [[")[0]
    # What is not ASCII comes as the octal numbers of its UTF-8 bytes.
    message = re.sub(r"(?:\\[23][0-7]{2})+", _read_octal, message)
    marks = r"\{\{.*?\}\}|\[\[.*?\]\]|\[Op:.*?\]( name:)?"
    before, is_assertion, after = re.sub(marks, "", message).partition("assertion failed:")
    if not is_assertion:
        return " ".join(before.split())
    # Each part of an assertion's message stands in brackets.
    return " ".join(before.split() + after.strip()[1:-1].replace("] [", " ").split())


def _read_octal(digits: re.Match[str]) -> str:
    values = [int(number, 8) for number in digits[0].split("\\")[1:]]
    text = bytes(values).decode("utf-8", "replace")
    return text if text.isprintable() else digits[0]
