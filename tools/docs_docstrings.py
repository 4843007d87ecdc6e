"""A griffe extension: the sections of Keras' docstrings, as the Google parser reads them."""

import re

import griffe

DOCTEST = re.compile(r"^Example:\n\n(>>> (?:.+\n?)+)", re.MULTILINE)


class KerasDocstrings(griffe.Extension):
    def on_object(self, *, obj, loader, **kwargs):
        if obj.docstring:
            obj.docstring.value = to_google(obj.docstring.value)


def to_google(text):
    text = re.sub(
        r"^Call arguments:$", "Other Parameters: Call arguments", text, flags=re.MULTILINE
    )
    text = DOCTEST.sub(lambda match: f"**Example**\n\n```pycon\n{match[1].rstrip()}\n```\n", text)
    return re.sub(r"^Example::$", "**Example**", text, flags=re.MULTILINE)
