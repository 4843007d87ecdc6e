"""The network of a run: backbone, embedding, quantizer, and what it starts from."""

from __future__ import annotations

import dataclasses
import os
from typing import TYPE_CHECKING, Any

from tfpqn.items import CLIPS, IMAGES, VECTORS, ItemSpec
from tfpqn.similarities import SIMILARITIES, SUBSPACE

from .setting import check_settings, setting

if TYPE_CHECKING:
    from tfpqn.layers import Quantizer

# Kind of network -> what it takes.
MODELS: dict[str, tuple[ItemSpec, ...]] = {
    "pqn": (IMAGES, VECTORS),
    "rpqn": (IMAGES, VECTORS),
    "tpqn": (CLIPS,),
}
# Code positions, unless num_subspaces says otherwise: the same cost of a search for each model.
CODE_LENGTH = 4
# With more bits a position, 4,096 codewords in the paper, codes get more positions.
MOST_BITS_OF_POSITION = 12
TRAINED_BITS, FITTED_BITS = 24, 64
DEFAULT_MODEL = "pqn"
# Two levels of a byte, and a byte for the norm.
FEWEST_BITS_OF_LEVELS = 24
FITTED_BEAM = 16
# Of 32, 64 and 128 the best on photos and on Fashion-MNIST.
WHITENED_DIM = 64
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

    kind: str | None = setting(
        None,
        "Kind of network: pqn, rpqn (residual) or tpqn (of clips).",
        name="model",
        default_text="pqn; of vectors without labels rpqn, where it fits the other settings",
        choices=tuple(MODELS),
    )
    bits: int | None = setting(
        None,
        "Bits per code, a multiple of its positions.",
        default_text="24; 64 for codebooks without training",
    )
    similarity: str | None = setting(
        None,
        "What codes keep: subspace for trained networks; cosine, dot or l2 of whole vectors.",
        default_text="subspace; without labels l2, of pretrained backbones cosine",
        choices=tuple(SIMILARITIES),
    )
    rotation: str | None = setting(
        None, "opq turns vectors so that codebooks fit better.", choices=("opq",)
    )
    whiten: bool | None = setting(
        None,
        "Whether cosine is that of features whitened by what neighbours differ in, without labels.",
        default_text="on for features of a frozen backbone",
    )
    num_levels: int | None = setting(
        None,
        "Residual levels.",
        default_text="2 with rpqn, of whole vectors one a byte; else 1",
        at_least=1,
    )
    num_subspaces: int | None = setting(
        None,
        "Codebooks in a level, of a segment.",
        default_text="4 positions in all, 8 from 49 bits on; of whole vectors one a byte",
        at_least=1,
    )
    num_segments: tuple[int, ...] = setting(
        (2,), "Segments of a clip; 1,2,4 for a temporal pyramid."
    )
    unit_codewords: bool = setting(
        False, "Whether codewords have unit length, not those of settled codebooks."
    )
    beam_size: int | None = setting(
        None,
        "Sums that encoding follows from level to level; for rpqn.",
        default_text="1; of whole vectors 16",
    )
    embedding_dim: int = setting(
        512, "Length of the embedding, of a segment; a multiple of the codebooks.", at_least=1
    )
    backbone: str = setting(
        None,
        "conv3, resnet9, alexnet, efficientnet_lite0, keras_hub, or one of keras.applications.",
        default_text="conv3, or the one that the weights are of",
    )
    weights: str | None = setting(
        None,
        "imagenet, or a file: .npz of alexnet and efficientnet_lite0, .keras of your own model; "
        "with keras_hub a preset, by its name or its folder.",
    )
    freeze_backbone: bool | None = setting(
        None,
        "Train on the features of a backbone with weights, computed once and kept.",
        default_text="on with weights, but for clips, with an initial run and with fine_tune",
    )
    fine_tune: float | None = setting(
        None,
        "Share of the backbone's layers that learn, from the last one back.",
        default_text="all, unless the backbone is frozen",
        above=0,
        at_most=1,
    )
    scale_features: bool | None = setting(
        None,
        "Whether the features of an item are brought to one length.",
        default_text="on with vectors and with weights",
    )
    dropout: float | None = setting(
        None,
        "Share of the features that training leaves out.",
        default_text="0.2 with vectors and with weights, else 0",
        at_least=0,
        below=1,
    )
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
        if self.weights not in (None, "imagenet") and os.path.exists(self.weights):
            self._fill("weights", os.path.abspath(self.weights))
        if self.backbone is None:
            from tfpqn.models.backbones import backbone_of_weights

            self._fill("backbone", backbone_of_weights(self.weights))
        if self.freeze_backbone is None:
            is_start = self.weights is not None and self.initial_run is None
            is_frozen = is_start and self.kind != "tpqn" and self.fine_tune is None
            self._fill("freeze_backbone", is_frozen)
        self._check_similarity()
        self._check_bytes()
        if self.similarity is not None:
            if self.kind is None and not self.can_have_levels:
                self._fill("kind", DEFAULT_MODEL)
            if self.kind is not None:
                self._fill_sizes()
        self._check_sizes()
        self._check_network()

    @property
    def items(self) -> tuple[ItemSpec, ...]:
        """What the network takes."""
        return MODELS[self.kind or DEFAULT_MODEL]

    @property
    def is_fitted(self) -> bool:
        """Whether codebooks are fitted to whole vectors, and nothing is trained."""
        return self.similarity not in (None, SUBSPACE)

    @property
    def can_have_levels(self) -> bool:
        """Whether codes of whole vectors may be those of levels, if the kind is left open."""
        goes_by_distance = self.similarity in (None, "l2", "cosine")
        has_bytes = self._bits % 8 == 0 and self._bits >= FEWEST_BITS_OF_LEVELS
        is_open = self.num_subspaces is None and self.rotation is None
        return goes_by_distance and has_bytes and is_open

    @property
    def code_length(self) -> int:
        """Number of positions of a code."""
        return self.build_quantizer(2).code_length

    @property
    def width(self) -> int | None:
        """Length of the embedding; None for that of the features."""
        if self.is_fitted:
            return WHITENED_DIM if self.whitens else None
        return self.embedding_dim

    @property
    def whitens(self) -> bool:
        """Whether features are whitened before codebooks are fitted to them."""
        wanted = bool(self.freeze_backbone) if self.whiten is None else self.whiten
        return wanted and self.similarity == "cosine" and self.rotation is None

    @property
    def settles_codebooks(self) -> bool:
        """Whether codebooks are settled once training has ended."""
        has_targets = not self.unit_codewords or self._levels > 1
        return has_targets and not self.freeze_codebooks and not self.is_fitted

    @property
    def _groups(self) -> int:
        """Parts of an item that have codes of their own."""
        return sum(self.num_segments) if CLIPS in self.items else 1

    @property
    def _bits(self) -> int:
        return (FITTED_BITS if self.is_fitted else TRAINED_BITS) if self.bits is None else self.bits

    @property
    def _levels(self) -> int:
        if self.num_levels is not None or self.kind != "rpqn":
            return self.num_levels or 1
        if not self.is_fitted:
            return 2
        return max(1, (self._bits // 8 - self._norms) // (self.num_subspaces or 1))

    @property
    def _norms(self) -> int:
        """Positions of the norm: of squared distances it has one of its own."""
        return int(self.similarity != "dot")

    @property
    def _beam(self) -> int:
        if self.beam_size is not None:
            return self.beam_size
        return FITTED_BEAM if self.is_fitted and self.kind == "rpqn" else 1

    @property
    def _subspaces(self) -> int:
        if self.num_subspaces is not None:
            return self.num_subspaces
        if self.is_fitted:
            return 1 if self.kind == "rpqn" else max(1, self._bits // 8)
        positions = CODE_LENGTH
        while self._bits > positions * MOST_BITS_OF_POSITION:
            positions *= 2
        return max(1, positions // max(1, self._groups * self._levels))

    def build_quantizer(self, num_codewords: int | None = None) -> Quantizer:
        """The quantizer; its codebooks have `2 ** (bits / positions)` codewords unless told."""
        from tfpqn import layers

        size = num_codewords or int(2 ** (self._bits // self.code_length))
        levels, subspaces = self._levels, self._subspaces
        rest: dict[str, Any] = {"alpha": self.alpha, "unit_codewords": self.unit_codewords}
        if self.is_fitted:
            rest["similarity"] = self.similarity
        if self.kind in ("pqn", None):
            return layers.ProductQuantization(subspaces, size, **rest)
        if self.kind == "rpqn":
            rest["beam_size"] = self._beam
            return layers.ResidualProductQuantization(levels, subspaces, size, **rest)
        return layers.TemporalProductQuantization(
            self.num_segments, subspaces, size, levels, **rest
        )

    def _fill(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    def _fill_sizes(self) -> None:
        """Enter what the settings leave to each other, once it is known what is compared."""
        sizes = {"bits": self._bits, "num_levels": self._levels, "num_subspaces": self._subspaces}
        sizes["beam_size"] = self._beam
        for name, value in sizes.items():
            self._fill(name, value)

    def _check_similarity(self) -> None:
        if self.similarity == SUBSPACE and self.rotation:
            raise ValueError(
                "rotation is for codes of whole vectors, with similarity cosine, dot or l2. "
                f"Received: rotation={self.rotation!r}, similarity={self.similarity!r}"
            )
        if self.is_fitted and (self.kind == "tpqn" or self.unit_codewords):
            raise ValueError(
                "similarity must be subspace with model tpqn or unit_codewords. "
                f"Received: similarity={self.similarity!r}, model={self.kind!r}, "
                f"unit_codewords={self.unit_codewords}"
            )

    def _check_kind(self) -> None:
        """Settings of another model would be silently without effect."""
        for name, (models, other) in ONLY_FOR.items():
            value = getattr(self, name)
            kind = self.kind or DEFAULT_MODEL
            if kind not in models and value is not None and value != other:
                raise ValueError(
                    f"{name} is for model {' and '.join(models)}. "
                    f"Received: {name}={value!r}, model={kind!r}"
                )

    def _check_bytes(self) -> None:
        """Where bits decide the number of levels, only some numbers of them do."""
        if not self.is_fitted or self.kind != "rpqn" or self.num_levels is not None:
            return
        levels, subspaces = self._levels, self._subspaces
        sizes = [8 * (n * subspaces + self._norms * (n > 1)) for n in (levels, levels + 1)]
        if self._bits % self.code_length or self._bits // self.code_length > 8:
            norm = " and one for the norm of several levels" if self._norms else ""
            raise ValueError(
                "A code of levels takes a byte for each of its num_levels x num_subspaces "
                f"codebooks{norm}: bits must be {sizes[0]} or {sizes[1]} here, or give num_levels. "
                f"Received: bits={self._bits}, num_subspaces={subspaces}, "
                f"similarity={self.similarity!r}"
            )

    def _check_sizes(self) -> None:
        # Built with the smallest codebooks, to have its say on the other sizes first.
        if min(self.num_segments, default=0) < 1:
            self.build_quantizer(2)
        length = self.code_length
        if self._bits < 1 or self._bits % length:
            by_segment = " x segments" if CLIPS in self.items else ""
            raise ValueError(
                f"bits must be a positive multiple of the {length} positions of a code "
                f"(num_levels x num_subspaces{by_segment}). "
                f"Received: bits={self._bits}, num_levels={self._levels}, "
                f"num_subspaces={self._subspaces}"
            )
        # Of vectors without labels the width is that of the vectors: the quantizer refuses it.
        if self.similarity == SUBSPACE and self.embedding_dim % self._subspaces:
            raise ValueError(
                "embedding_dim must be a multiple of num_subspaces. Received: "
                f"embedding_dim={self.embedding_dim}, num_subspaces={self._subspaces}"
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
        if self.freeze_backbone and (not self.weights or self.kind == "tpqn"):
            raise ValueError(
                "freeze_backbone needs weights, those of a trained backbone, and a model of single "
                f"images. Received: weights={self.weights!r}, model={self.kind!r}"
            )
        is_trained = self.weights or self.initial_run
        if self.fine_tune and (self.freeze_backbone or not is_trained):
            raise ValueError(
                "fine_tune is for a backbone that learns, with freeze_backbone off, from weights "
                f"or an initial_run. Received: fine_tune={self.fine_tune}, "
                f"freeze_backbone={self.freeze_backbone}, weights={self.weights!r}"
            )
        if self.freeze_codebooks and not self.initial_run:
            raise ValueError(
                "freeze_codebooks needs initial_run, the run whose codebooks are kept. "
                f"Received: initial_run={self.initial_run!r}"
            )
