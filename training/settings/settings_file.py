"""Settings of a run as a JSON file holds them."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from tfpqn.files.typed_json import require_types

from .run_config import SECTIONS, RunConfig, types_by_name
from .setting import name_of


def settings_to_json(config: RunConfig) -> dict[str, Any]:
    """The settings by part: `{"data": {..}, "model": {..}, .., "seed": 0}`."""
    return dict(json.loads(json.dumps(dataclasses.asdict(config))))


def settings_from_json(content: dict[str, Any]) -> RunConfig:
    """The settings of a file: by part, or by name alone, as earlier versions wrote them.

    What a file says nothing of is as in the method by itself.

    Raises:
        ValueError: A setting is unknown, of another type, or out of range.
    """
    settings: dict[str, Any] = {}
    for name, value in content.items():
        settings |= _flatten(name, value) if isinstance(value, dict) else {name: value}
    if unknown := sorted(settings.keys() - types_by_name().keys()):
        raise ValueError(f"unknown settings {unknown}")
    require_types(settings, types_by_name())
    return RunConfig.plain(**settings)


def _flatten(section: str, values: dict[str, Any]) -> dict[str, Any]:
    fields = dataclasses.fields(SECTIONS[section]) if section in SECTIONS else ()
    names = {field.name: name_of(field) for field in fields}
    return {names.get(name, f"{section}.{name}"): value for name, value in values.items()}
