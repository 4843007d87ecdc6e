"""The quantizer of a run: kind and sizes of its codes, and what they leave to each other."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from tfpqn.items import CLIPS, IMAGES, VECTORS, ItemSpec
from tfpqn.similarities import SIMILARITIES, SUBSPACE

from .setting import setting

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
# With more bits a position, 4,096 codewords in the paper, codes get more positions. Few codewords
# in each of 4 lose much: short codes get fewer positions.
MOST_BITS_OF_POSITION = 12
FEWEST_BITS_OF_POSITION = 6
# Codebooks of 65,536 codewords; with some more bits no memory holds them.
LARGEST_POSITION = 16
TRAINED_BITS, FITTED_BITS = 24, 64
DEFAULT_MODEL = "pqn"
# Two levels of a byte, and a byte for the norm.
FEWEST_BITS_OF_LEVELS = 24
FITTED_BEAM = 16
# On depth clips a net tells more actions apart by 8 than by 4.
MOTION = 8
# Setting -> the models that it is for, and its value for the others.
ONLY_FOR: dict[str, tuple[tuple[str, ...], Any]] = {
    "num_levels": (("rpqn", "tpqn"), 1),
    "beam_size": (("rpqn",), 1),
    "motion": (("tpqn",), 0),
    "num_segments": (("tpqn",), (2,)),
}


@dataclasses.dataclass(frozen=True)
class CodeSettings:
    """Quantizer and embedding; `ModelSettings` adds the backbone, and checks all."""

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
    num_levels: int | None = setting(
        None,
        "Residual levels.",
        default_text="2 with rpqn, of whole vectors one a byte; else 1",
        at_least=1,
    )
    num_subspaces: int | None = setting(
        None,
        "Codebooks in a level, of a segment.",
        default_text=(
            "4 positions in all; 8 from 49 bits on, below 24 bits 2, below 12 bits 1; of whole "
            "vectors one a byte"
        ),
        at_least=1,
    )
    motion: int | None = setting(
        None,
        "Stretches of a clip that the backbone sees at once, as they are and as they change; 0 "
        "shows it frame by frame.",
        default_text=f"{MOTION} of clips without weights, else 0",
        at_least=0,
    )
    num_segments: tuple[int, ...] = setting(
        None,
        "Segments of a clip; 1,2,4 for a temporal pyramid.",
        default_text="1 with motion, else 2",
    )
    unit_codewords: bool = setting(
        False, "Whether codewords have unit length, not those of settled codebooks."
    )
    soft_codes: bool = setting(
        True,
        "Whether codes name what is nearest to soft items, as trained; not with unit codewords.",
    )
    beam_size: int | None = setting(
        None,
        "Sums that encoding follows from level to level; for rpqn.",
        default_text="1; of whole vectors 16",
    )
    embedding_dim: int = setting(
        512, "Length of the embedding, of a segment; a multiple of the codebooks.", at_least=1
    )
    alpha: float = setting(5.0, "Hardness of the soft assignment.")

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
        if not self.is_fitted or self.kind != "rpqn":
            return 1
        # Of larger codebooks so many sums would take gigabytes.
        positions = self._levels * self._subspaces + self._norms
        return FITTED_BEAM if self._bits <= MOST_BITS_OF_POSITION * positions else 1

    @property
    def _subspaces(self) -> int:
        if self.num_subspaces is not None:
            return self.num_subspaces
        if self.is_fitted:
            return 1 if self.kind == "rpqn" else max(1, self._bits // 8)
        positions = CODE_LENGTH
        while self._bits > positions * MOST_BITS_OF_POSITION:
            positions *= 2
        while positions > 1 and self._bits < positions * FEWEST_BITS_OF_POSITION:
            positions //= 2
        return max(1, positions // max(1, self._groups * self._levels))

    def build_quantizer(
        self, num_codewords: int | None = None, *, is_trained: bool = True
    ) -> Quantizer:
        """The quantizer; its codebooks have `2 ** (bits / positions)` codewords unless told."""
        from tfpqn import layers

        size = num_codewords or int(2 ** (self._bits // self.code_length))
        levels, subspaces = self._levels, self._subspaces
        rest: dict[str, Any] = {"alpha": self.alpha, "unit_codewords": self.unit_codewords}
        # Codebooks that only k-means has fitted stand for embeddings.
        is_settled = is_trained and not self.unit_codewords and not self.is_fitted
        rest["soft_codes"] = self.soft_codes and is_settled
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
        if not 1 <= self._bits <= LARGEST_POSITION * length or self._bits % length:
            by_segment = " x segments" if CLIPS in self.items else ""
            raise ValueError(
                f"bits must be a positive multiple of the {length} positions of a code "
                f"(num_levels x num_subspaces{by_segment}), at most {LARGEST_POSITION} for each. "
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
