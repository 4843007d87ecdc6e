"""Settings of a run that have no option of their own: `--set NAME=VALUE`."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Container, Sequence
from typing import Any

KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}


def read_settings(texts: Sequence[str], config: Any, with_option: Container[str]) -> Any:
    """The settings of a run with some of them replaced.

    Args:
        texts: `NAME=VALUE` each; a value is a number, `true`, `false`, or text.
        config: The `RunConfig` to begin with.
        with_option: Names of the settings that have an option of their own.

    Returns:
        A `RunConfig`.

    Raises:
        ValueError: A text has no value, names no setting or one twice, or the value is of another
            kind than the setting.
    """
    names = [field.name for field in dataclasses.fields(config)]
    others = {name: getattr(config, name) for name in names if name not in with_option}
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
    return dataclasses.replace(config, **chosen)


def _read_value(name: str, text: str, former: Any) -> Any:
    """The value as JSON, or as plain text, of the kind that the setting has."""
    try:
        value = json.loads(text)
    except ValueError:
        value = text
    if isinstance(former, float) and type(value) is int:
        value = float(value)
    if type(value) is not type(former):
        raise ValueError(
            f"{name} must be {KINDS.get(type(former), 'of another kind')}. "
            f"Received: {name}={text!r} for --set"
        )
    return value
