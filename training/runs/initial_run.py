"""What a run takes over from the trained run that it starts from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tfpqn.protocols import NetworkLike


def start_from(source: Any, network: NetworkLike, *, with_codebooks: bool) -> None:
    """Give the network the backbone and the embedding of another, maybe the codebooks too.

    Also the classifier, where both have one of the same classes.
    """
    parts = ["backbone", "embedding", *(["quantizer"] if with_codebooks else ()), "classifier"]
    copy_weights(source, network, parts)
    if with_codebooks:
        _require_same_codebooks(source.quantizer, network.quantizer)


def copy_weights(source: Any, network: NetworkLike, parts: Sequence[str]) -> None:
    """Give these parts of the network the weights of another; a classifier of the same classes.

    Raises:
        ValueError: The weights of a part have other shapes.
    """
    has_classifier = network.num_classes is not None and source.num_classes == network.num_classes
    for part in parts:
        if part == "classifier" and not has_classifier or getattr(network, part) is None:
            continue
        own = getattr(source, part)
        weights = [] if own is None else own.get_weights()
        expected = [tuple(variable.shape) for variable in getattr(network, part).weights]
        received = [weight.shape for weight in weights]
        if received != expected:
            raise ValueError(
                f"The initial run's {part} must be like the network's: weights of the shapes "
                f"{expected}. Received: {received}"
            )
        getattr(network, part).set_weights(weights)


def _require_same_codebooks(source: Any, wanted: Any) -> None:
    if source.codebook_fingerprint() == wanted.codebook_fingerprint():
        return
    configs = [quantizer.get_config() for quantizer in (wanted, source)]
    # Neither has a part in a code.
    names = configs[0].keys() - {"name", "trainable", "beam_size"}
    differing = [name for name in names if configs[0][name] != configs[1].get(name)]
    expected, received = (
        ", ".join(f"{name}={config.get(name)!r}" for name in sorted(differing))
        for config in configs
    )
    raise ValueError(
        "The initial run's quantizer must be like the network's, for its codes to stay valid: "
        f"expected {expected}. Received: {received}"
    )
