"""Settings of a run that have no option of their own: `--set NAME=VALUE`."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Container, Sequence
from typing import Any

import typer

KINDS = {
    "bool": "true or false",
    "int": "a whole number",
    "float": "a number",
    "str": "text",
    "tuple": "a list, as in [1,2]",
}


# What the help of `tfpqn train` says of settings that are left out. `RunConfig` decides them, and
# is not imported for a help text; tests/cli/test_settings.py holds the two together.
DEFAULTS: dict[str, Any] = {
    "image_size": 64,
    "model": "pqn",
    "bits": 24,
    "num_segments": (2,),
    "level_loss_weight": 0.0,
    "embedding_dim": 512,
    "backbone": "conv3",
    "alpha": 5.0,
    "loss_form": "softplus",
    "loss_scale": 2.0,
    "loss_margin": 0.0,
    "epochs": "what shows 100,000 images, from 20 to 100",
    "batch_size": 64,
}


def setting(name: str, help: str) -> Any:
    """The option of a setting, whose help names the default; left out it is None."""
    default = DEFAULTS[name]
    shown = ",".join(map(str, default)) if isinstance(default, tuple) else str(default)
    return typer.Option(help=help, show_default=shown)


def read_settings(texts: Sequence[str], kind: type, with_option: Container[str]) -> dict[str, Any]:
    """Settings of a run that are given by name.

    Args:
        texts: `NAME=VALUE` each; a value is a number, `true`, `false`, or text.
        kind: `RunConfig`.
        with_option: Names of the settings that have an option of their own.

    Returns:
        Values by name.

    Raises:
        ValueError: A text has no value, names no setting or one twice, or the value is of another
            kind than the setting.
    """
    fields = dataclasses.fields(kind)
    names = [field.name for field in fields]
    # As annotated: `float | None` is a number, `tuple[int, ...]` a list.
    others = {f.name: re.split(r"\W", str(f.type))[0] for f in fields if f.name not in with_option}
    chosen: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if equals and name in names and name not in others:
            raise ValueError(
                f"--set is for settings without an option; {name} has one: "
                f"--{name.replace('_', '-')}. Received: {text!r}"
            )
        if not equals or name not in others:
            raise ValueError(
                f"--set takes NAME=VALUE, where NAME is one of {sorted(others)}. Received: {text!r}"
            )
        if name in chosen:
            raise ValueError(f"--set takes each name once. Received: {name!r} twice")
        chosen[name] = _read_value(name, value, others[name])
    return chosen


def _read_value(name: str, text: str, kind: str) -> Any:
    """The value as JSON, or as plain text, of the kind that the setting has."""
    try:
        value = json.loads(text)
    except ValueError:
        value = text
    if kind == "float" and type(value) is int:
        value = float(value)
    if kind == "tuple" and type(value) is list:
        value = tuple(value)
    if type(value).__name__ != kind:
        raise ValueError(
            f"{name} must be {KINDS.get(kind, 'of another kind')}. "
            f"Received: {name}={text!r} for --set"
        )
    return value
