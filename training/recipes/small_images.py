"""Rows of 32 x 32 pixels from random weights: one embedding, and what is tuned from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..settings.run_config import RunConfig
from .recipe import Recipe

Settings = dict[str, Any]

EMBEDDING = "embedding"
FROM_NOTHING: dict[str, Any] = {
    "augment": True,
    "max_shift": 4,
    "optimizer": "sgd",
    "learning_rate": 0.1,
    # Taken away decoupled from the gradient: what 5e-4 in the loss is with a momentum of 0.9.
    "weight_decay": 5e-3,
    "warmup_epochs": 0.5,
    "classification_weight": 1.0,
    "label_smoothing": 0.1,
    "loss_scale": 2.0,
}


def embedding_row(prefix: str, settings: Settings) -> Recipe:
    """A network trained without a quantizer, for others to start from.

    Args:
        prefix: Of the names of this row and of all that start from it.
        settings: Protocol, backbone, epochs, and what else is not `FROM_NOTHING`.
    """
    config = RunConfig.plain(loss_sides="raw", **{**FROM_NOTHING, **settings})
    return Recipe(f"{prefix}{EMBEDDING}", None, config)


def tuned_rows(
    start: Recipe,
    group: str,
    bits_of_rows: Sequence[int],
    tuning: Settings,
    *,
    sizes: Mapping[int, Settings] | None = None,
    published: Mapping[int, float] | None = None,
) -> tuple[Recipe, ...]:
    """Rows with a quantizer, of several bit lengths.

    Args:
        start: From `embedding_row`.
        group: Title of the rows.
        bits_of_rows: Bits of each row.
        tuning: Settings that differ from the start's: epochs, learning rate, model.
        sizes: Bits -> settings that differ from the others': levels, codebooks of a level, alpha.
        published: Bits -> the paper's figure.
    """
    with_quantizer = {"loss_sides": "asymmetric", "classified": "both", "unit_codewords": False}
    settings = {**settings_of(start), **with_quantizer, **tuning}
    return tuple(
        Recipe(
            f"{start.name.removesuffix(EMBEDDING)}{settings.get('model', 'pqn')}-{bits}",
            group,
            RunConfig.plain(**{**settings, "bits": bits, **(sizes or {}).get(bits, {})}),
            start=start.name,
            published=(published or {}).get(bits),
        )
        for bits in bits_of_rows
    )


def mirrored_row(row: Recipe) -> Recipe:
    """The network and the codebooks of a row, given mirror images too."""
    # Codebooks are kept from a run: `config_of` names the one of the seed.
    kept = {"initial_run": row.name, "freeze_codebooks": True, "epochs": 0, "warmup_epochs": 0.0}
    title = f"{row.group}, mirror images too"
    config = row.config.replace(mirror=True, **kept)
    return Recipe(f"{row.name}-mirrored", title, config, start=row.name)


def settings_of(row: Recipe) -> Settings:
    """The settings of a row that do not depend on its code."""
    settings = row.config.flat()
    for name in ("bits", "model", "num_levels", "num_subspaces"):
        del settings[name]
    return settings
