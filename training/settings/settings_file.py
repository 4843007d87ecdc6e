"""Settings of a run as a JSON file holds them."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from tfpqn.files.typed_json import require_types

from .run_config import SECTIONS, RunConfig, types_by_name
from .setting import name_of

# Settings of earlier versions, and the values that mean what is done now; how levels were trained
# depends on their number.
GIVEN_UP: dict[str, tuple[Any, ...]] = {
    "residuals": (None,),
    "straight_through": (None, "none"),
    "level_loss_weight": (0,),
    "share_codebooks": (None, False),
}


def settings_to_json(config: RunConfig) -> dict[str, Any]:
    """The settings by part: `{"data": {..}, "model": {..}, .., "seed": 0}`."""
    return dict(json.loads(json.dumps(dataclasses.asdict(config))))


def settings_from_json(content: dict[str, Any]) -> RunConfig:
    """The settings of a file: by part, or by name alone, as earlier versions wrote them.

    What a file says nothing of is as in the method by itself.

    Raises:
        ValueError: A setting is unknown, of another type, out of range, or was given up since.
    """
    settings: dict[str, Any] = {}
    for name, value in content.items():
        settings |= _flatten(name, value) if isinstance(value, dict) else {name: value}
    _drop_given_up(settings)
    if unknown := sorted(settings.keys() - types_by_name().keys()):
        raise ValueError(f"unknown settings {unknown}")
    require_types(settings, types_by_name())
    return RunConfig.plain(**settings)


def _flatten(section: str, values: dict[str, Any]) -> dict[str, Any]:
    fields = dataclasses.fields(SECTIONS[section]) if section in SECTIONS else ()
    names = {field.name: name_of(field) for field in fields}
    names |= {name: name for name in GIVEN_UP}
    return {names.get(name, f"{section}.{name}"): value for name, value in values.items()}


def _drop_given_up(settings: dict[str, Any]) -> None:
    """Leave out settings that no longer exist where they meant what is done now."""
    has_levels = (settings.get("num_levels") or (2 if settings.get("model") == "rpqn" else 1)) > 1
    residuals = "reconstructions" if has_levels else "embeddings"
    for name, values in {**GIVEN_UP, "residuals": (None, residuals)}.items():
        if name in settings and (value := settings.pop(name)) not in values:
            raise ValueError(
                f"{name}={value!r}, which this version no longer has: it trains as with "
                f"{name}={values[-1]!r}"
            )
