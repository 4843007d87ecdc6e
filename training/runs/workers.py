"""Workers that train a run together have the same settings and items."""

from __future__ import annotations

import json
from typing import Any

from tfpqn.datasets import Splits
from tfpqn.datasets.image_set import fingerprint

from ..settings.run_config import RunConfig
from ..settings.settings_file import settings_from_json, settings_to_json
from .prolonging import differing


def require_same_settings(strategy: Any, config: RunConfig, splits: Splits) -> None:
    """Refuse workers that are about to train with other settings or items.

    Args:
        strategy: Of `tf.distribute`; each worker makes the call.
        config: The worker's settings.
        splits: Its data, of which the ids of `train` are compared.

    Raises:
        ConnectionError: Another worker has ended.
        ValueError: Settings or ids differ.
    """
    from ..loops.replicas import Replicas

    own = {"ids": fingerprint(splits.train.ids), "settings": settings_to_json(config)}
    for text in set(Replicas(strategy).gather_text(json.dumps(own))):
        other = json.loads(text)
        if other != own:
            raise ValueError(
                "All workers must have the same settings and training items. Received: "
                f"{_describe(config, settings_from_json(other['settings']))}"
            )


def _describe(own: RunConfig, other: RunConfig) -> str:
    names = differing(own, other)
    pairs = [f"{name}={own.flat()[name]!r} here, {other.flat()[name]!r} there" for name in names]
    return "; ".join(pairs) or "items with other ids"
