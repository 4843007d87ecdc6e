"""Whether a collection must be coded again for a new network."""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import ops

from tfpqn.datasets import Splits

from .encoding import encode_set, keep_labelled
from .evaluation import TIES, mean_average_precision, require_labels

# Less mAP than this is not worth coding a collection again.
SMALL_LOSS = 0.01


def compare_networks(
    old: Any, new: Any, splits: Splits, *, batch_size: int = 256
) -> dict[str, Any]:
    """Measure how the codes of an old network rank under a new one.

    Args:
        old: The `ProductQuantizationNetwork` that coded the collection.
        new: The one that is to search it.
        splits: `query` and `database` are used.
        batch_size: Images, or frames of clips, embedded at once.

    Returns:
        A dict that JSON can hold: `mAP` of `old_queries_old_codes`, `new_queries_old_codes` (what a
        search with the new network finds in the old index; None if codes of the two have different
        shapes) and `new_queries_new_codes`; `loss`, what the second has less than the third, or
        None; `same_codebooks`, and the two `fingerprints`; `reencoding_due` and `advice`, a
        sentence; `splits` and `ties` as in an evaluation. With other codebooks the old codes mean
        nothing to the new network, and re-encoding is due whatever the figures.

    Raises:
        ValueError: The items do not fit a network, none is readable, they have no two labels, or an
            embedding is not finite.
    """
    for network in (old, new):
        network.require_item_shape(splits.query.item_shape)
    old_query, new_query, old_items, new_items = (
        encode_set(network, part, batch_size)
        for part in (splits.query, splits.database)
        for network in (old, new)
    )
    old_query, new_query = keep_labelled(old_query), keep_labelled(new_query)
    require_labels(old_query.labels, old_items.labels)
    old_tables, new_tables = (
        ops.convert_to_numpy(network.quantizer.lookup_tables(query.embeddings))
        for network, query in ((old, old_query), (new, new_query))
    )

    def measure(tables: np.ndarray, codes: np.ndarray) -> float | None:
        return mean_average_precision(tables, old_query.labels, codes, old_items.labels)

    means = {
        "old_queries_old_codes": measure(old_tables, old_items.codes),
        "new_queries_old_codes": measure(new_tables, old_items.codes)
        if old_tables.shape == new_tables.shape
        else None,
        "new_queries_new_codes": measure(new_tables, new_items.codes),
    }
    fingerprints = [network.quantizer.codebook_fingerprint() for network in (old, new)]
    return {
        "mAP": means,
        **_judge(means, fingerprints[0] == fingerprints[1]),
        "fingerprints": dict(zip(("old", "new"), fingerprints, strict=True)),
        "splits": splits.describe(),
        "ties": TIES,
    }


def _judge(means: dict[str, float | None], same_codebooks: bool) -> dict[str, Any]:
    first, mixed, second = means.values()
    loss = None if mixed is None or second is None else second - mixed
    due = not same_codebooks or loss is None or loss > SMALL_LOSS
    if not same_codebooks or loss is None:
        advice = (
            "Re-encoding is due: the new network has other codebooks, to which the old codes mean "
            "nothing."
        )
    elif not due:
        advice = (
            f"Re-encoding is not due: new codes would bring new queries {loss:+.4f} mAP, and up to "
            f"{SMALL_LOSS:g} is not worth it."
        )
    else:
        advice = f"Re-encoding is due: the old codes cost new queries {loss:.4f} mAP."
        if first is not None and mixed is not None and first > mixed:
            advice += " Until then the old network is the better one to search them with."
    return {
        "loss": loss,
        "same_codebooks": same_codebooks,
        "reencoding_due": due,
        "advice": advice,
    }
