"""A setting: a field of a frozen dataclass with its help and what it may be."""

from __future__ import annotations

import dataclasses
import operator
from typing import Any

_COMPARISONS = {
    "at_least": operator.ge,
    "above": operator.gt,
    "at_most": operator.le,
    "below": operator.lt,
}


def setting(
    default: Any,
    help: str,
    *,
    name: str | None = None,
    default_text: str | None = None,
    choices: tuple[str, ...] = (),
    has_option: bool = True,
    **bounds: float,
) -> Any:
    """A field of a class of settings.

    Args:
        default: Its value where nobody says another; None for one that is chosen later.
        help: What it is, in a sentence for `tfpqn train --help`.
        name: Its name among all settings of a run, and of its option; the field's by default.
        default_text: What the help says in place of a default of None.
        choices: The values that it may have, if they can be listed.
        has_option: Whether `tfpqn train` has an option for it.
        **bounds: What it must be: `at_least`, `above`, `at_most`, `below` a number.
    """
    texts = {"help": help, "name": name, "default_text": default_text, "has_option": has_option}
    metadata = {**texts, "choices": choices, "bounds": bounds}
    return dataclasses.field(default=default, metadata=metadata)


def name_of(field: dataclasses.Field[Any]) -> str:
    """The name of a setting among all settings of a run."""
    return field.metadata["name"] or field.name


def check_settings(settings: Any) -> None:
    """Refuse a value that is out of its bounds or not among its choices; None is neither.

    Raises:
        ValueError: There is one; the message has its name.
    """
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if value is None or not field.metadata:
            continue
        choices, bounds = field.metadata["choices"], field.metadata["bounds"]
        if choices and value not in choices:
            raise ValueError(
                f"{name_of(field)} must be one of {list(choices)}. Received: {value!r}"
            )
        if not all(_COMPARISONS[word](value, bound) for word, bound in bounds.items()):
            wanted = " and ".join(f"{word.replace('_', ' ')} {n:,}" for word, n in bounds.items())
            raise ValueError(f"{name_of(field)} must be {wanted}. Received: {value}")
