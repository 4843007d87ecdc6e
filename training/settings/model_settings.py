"""The network of a run: backbone, embedding, quantizer, and what it starts from."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from tfpqn.items import CLIPS, IMAGES, ItemSpec

from .setting import check_settings, setting

if TYPE_CHECKING:
    from tfpqn.layers import Quantizer

# Kind of network -> what it takes.
MODELS: dict[str, ItemSpec] = {"pqn": IMAGES, "rpqn": IMAGES, "tpqn": CLIPS}
# Code positions, unless num_subspaces says otherwise: the same cost of a search for each model.
CODE_LENGTH = 4
# Of half precision the one that needs no scaled loss.
PRECISIONS = ("float32", "mixed_bfloat16")
# Setting -> the models that it is for, and its value for the others.
ONLY_FOR: dict[str, tuple[tuple[str, ...], Any]] = {
    "num_levels": (("rpqn", "tpqn"), 1),
    "beam_size": (("rpqn",), 1),
    "num_segments": (("tpqn",), (2,)),
}


@dataclasses.dataclass(frozen=True)
class ModelSettings:
    """Backbone, embedding and quantizer.

    Raises:
        ValueError: A setting is out of range or does not fit the others.
    """

    kind: str = setting(
        "pqn",
        "Kind of network: pqn, rpqn (residual) or tpqn (of clips).",
        name="model",
        choices=tuple(MODELS),
    )
    bits: int = setting(24, "Bits per code, a multiple of its positions.")
    num_levels: int | None = setting(
        None, "Residual levels.", default_text="2 with rpqn, else 1", at_least=1
    )
    num_subspaces: int | None = setting(
        None,
        "Codebooks in a level, of a segment.",
        default_text="4 positions in all",
        at_least=1,
    )
    num_segments: tuple[int, ...] = setting(
        (2,), "Segments of a clip; 1,2,4 for a temporal pyramid."
    )
    unit_codewords: bool = setting(
        False, "Whether codewords have unit length, not those of settled codebooks."
    )
    beam_size: int = setting(1, "Sums that encoding follows from level to level; for rpqn.")
    embedding_dim: int = setting(
        512, "Length of the embedding, of a segment; a multiple of the codebooks.", at_least=1
    )
    backbone: str = setting("conv3", "conv3, resnet9, alexnet, or one of keras.applications.")
    weights: str | None = setting(None, "imagenet, or a file, for a keras.applications model.")
    normalization: str = setting(
        "batch",
        "Of conv3: batch, local_response or none.",
        choices=("batch", "local_response", "none"),
    )
    precision: str = setting(
        "float32", "Of the backbone's arithmetic: float32 or mixed_bfloat16.", choices=PRECISIONS
    )
    center_embeddings: bool = setting(True, "Whether to centre the embedding over the batch.")
    initial_run: str | None = setting(
        None, "Trained run whose backbone and embedding are the start."
    )
    freeze_codebooks: bool = setting(
        False, "Keep the initial run's codebooks, so that its codes stay valid."
    )
    alpha: float = setting(5.0, "Hardness of the soft assignment.")

    def __post_init__(self) -> None:
        segments = self.num_segments
        segments = tuple(segments) if isinstance(segments, (list, tuple)) else (segments,)
        self._fill("num_segments", segments)
        check_settings(self)
        self._check_kind()
        if self.num_levels is None:
            self._fill("num_levels", 2 if self.kind == "rpqn" else 1)
        if self.num_subspaces is None and min(segments, default=0) >= 1 and self.num_levels:
            self._fill("num_subspaces", max(1, CODE_LENGTH // (self._groups * self.num_levels)))
        self._check_sizes()
        self._check_network()

    @property
    def items(self) -> ItemSpec:
        """What the network takes."""
        return MODELS[self.kind]

    @property
    def code_length(self) -> int:
        """Number of positions of a code."""
        return self._groups * (self.num_levels or 1) * (self.num_subspaces or 1)

    @property
    def settles_codebooks(self) -> bool:
        """Whether codebooks are settled once training has ended."""
        has_targets = not self.unit_codewords or (self.num_levels or 1) > 1
        return has_targets and not self.freeze_codebooks

    @property
    def _groups(self) -> int:
        """Parts of an item that have codes of their own."""
        return sum(self.num_segments) if self.items is CLIPS else 1

    def build_quantizer(self, num_codewords: int | None = None) -> Quantizer:
        """The quantizer; its codebooks have `2 ** (bits / positions)` codewords unless told."""
        from tfpqn import layers

        size = num_codewords or int(2 ** (self.bits // self.code_length))
        levels, subspaces = self.num_levels or 1, self.num_subspaces or 1
        rest: dict[str, Any] = {"alpha": self.alpha, "unit_codewords": self.unit_codewords}
        if self.kind == "pqn":
            return layers.ProductQuantization(subspaces, size, **rest)
        if self.kind == "rpqn":
            rest["beam_size"] = self.beam_size
            return layers.ResidualProductQuantization(levels, subspaces, size, **rest)
        return layers.TemporalProductQuantization(
            self.num_segments, subspaces, size, levels, **rest
        )

    def _fill(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    def _check_kind(self) -> None:
        """Settings of another model would be silently without effect."""
        for name, (models, other) in ONLY_FOR.items():
            value = getattr(self, name)
            if self.kind not in models and value is not None and value != other:
                raise ValueError(
                    f"{name} is for model {' and '.join(models)}. "
                    f"Received: {name}={value!r}, model={self.kind!r}"
                )

    def _check_sizes(self) -> None:
        # Built with the smallest codebooks, to have its say on the other sizes first.
        self.build_quantizer(2)
        length = self.code_length
        if self.bits < 1 or self.bits % length:
            by_segment = " x segments" if self.items is CLIPS else ""
            raise ValueError(
                f"bits must be a positive multiple of the {length} positions of a code "
                f"(num_levels x num_subspaces{by_segment}). "
                f"Received: bits={self.bits}, num_levels={self.num_levels}, "
                f"num_subspaces={self.num_subspaces}"
            )
        if self.embedding_dim % (self.num_subspaces or 1):
            raise ValueError(
                "embedding_dim must be a multiple of num_subspaces. Received: "
                f"embedding_dim={self.embedding_dim}, num_subspaces={self.num_subspaces}"
            )
        self.build_quantizer()

    def _check_network(self) -> None:
        from tfpqn.models.backbones import require_backbone

        require_backbone(self.backbone)
        if self.normalization != "batch" and self.backbone != "conv3":
            raise ValueError(
                "normalization is for the backbone 'conv3'. "
                f"Received: {self.normalization!r}, backbone={self.backbone!r}"
            )
        if self.freeze_codebooks and not self.initial_run:
            raise ValueError(
                "freeze_codebooks needs initial_run, the run whose codebooks are kept. "
                f"Received: initial_run={self.initial_run!r}"
            )
