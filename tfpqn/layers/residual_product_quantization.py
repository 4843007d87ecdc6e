"""Soft residual product quantization as a Keras layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from tfpqn.layers.codebooks import Cluster, fit_codebook, refit_levels, revive_codebooks
from tfpqn.layers.quantizer import Quantization, Tensor, require_alpha, require_at_least
from tfpqn.layers.subspace_quantizer import SETTLING_ROUNDS, SubspaceQuantizer, in_chunks
from tfpqn.ops import (
    assign_beam,
    assign_hard,
    assign_soft,
    build_lookup_tables,
    decode_codes,
    merge_subvectors,
    normalize_vectors,
    rank_by_distance,
    reconstruct_soft,
    split_subvectors,
    straight_through,
)

STRAIGHT_THROUGH = ("none", "residuals", "all")
RESIDUALS = ("embeddings", "reconstructions")

# A residual is about half as long as what its level quantized; its square a quarter. So much
# harder must the next level's assignment be to be as sharp.
ALPHA_GROWTH = 4.0


@keras.saving.register_keras_serializable(package="tfpqn")
class ResidualProductQuantization(SubspaceQuantizer):
    """Product quantization in several levels, each of what the levels before it have left.

    The first level is `ProductQuantization`: unit subvectors, unit codewords. From the second on, a
    level quantizes residuals, which keep their length, to codewords of any length, chosen by
    distance. The reconstruction is the sum over the levels, so an inner product with it is a sum of
    table entries as for any other quantizer, and the first levels alone are a valid shorter code
    (`prefix`). Positions of a code run level by level.

    Args:
        num_levels: Number of levels. One level equals `ProductQuantization`.
        num_subspaces: Number of slices in each level, each with a codebook of its own. It must
            divide the embedding's length.
        num_codewords: Size of each codebook, at least 2. A code takes
            `num_levels * num_subspaces * log2(num_codewords)` bits.
        alpha: Hardness of the soft assignment, one number a level. A single number is that of the
            first level; from level to level it grows by 4, as squared residuals shrink.
        straight_through: Which values training takes hard, as inference does, under soft gradients:
            `"all"`: residuals and reconstruction, so that training sees what will be encoded;
            `"residuals"`: a level's residual is that of the chosen codeword, the reconstruction is
            soft; `"none"`: all soft. None stands for `"all"` with several levels, which retrieves
            best (docs/method.md), and `"none"` with one, as in `ProductQuantization`.
        residuals: What levels after the first quantize: what the codes so far leave of the
            `"embeddings"`; or what they leave of the first level's soft `"reconstructions"`. The
            latter trains as `ProductQuantization` does, on the soft reconstruction, which all
            levels together stand for at inference; their codebooks are set by `fit_codebooks` and,
            once training has ended, by `settle_codebooks`. `straight_through` is not for them.
        unit_codewords: As in `ProductQuantization`, of the first level; in the others codewords are
            of any length in any case. False takes residuals of `"reconstructions"` where there are
            several levels.
        beam_size: Sums of codewords that encoding follows from level to level. With 1 each level's
            codeword is the nearest to what the levels before it have left. More, for residuals of
            `"reconstructions"`, bring codes nearer to what they stand for, and take `beam_size`
            times as long; training is the same. The first levels of a code are then a valid shorter
            code still, but not the one that `prefix` would give the item. One level has nothing to
            follow.
        codebooks_initializer: Initializer of the codebooks, random directions by default; the
            values of level t are scaled to codewords of length about `0.5 ** t`.
            `tfpqn.training.initialize_codebooks` replaces them by k-means centres.
        **kwargs: Passed to `keras.layers.Layer`.

    Call arguments:
        embeddings: Float tensor `[batch, embedding_dim]`; it need not be normalised.
        training: Whether to reconstruct softly (True) or by the chosen codewords (False).

    Returns:
        Reconstructions `[batch, embedding_dim]`.

    Raises:
        ValueError: An argument is out of range, or `num_subspaces` does not divide the length.

    Example:

    >>> layer = ResidualProductQuantization(num_levels=2, num_subspaces=2, num_codewords=64)
    >>> codes = layer.encode(np.random.normal(size=(8, 32)))       # uint8 [8, 4]
    >>> shorter = layer.prefix(1)                                  # its codes: codes[:, :2]

    Reference:
        Yu, Meng, Fang, Jin, Yuan: "Product Quantization Network for Fast Visual Search", IJCV 2020
        (RPQN). The inner structure is this package's reading: see docs/method.md.
    """

    def __init__(
        self,
        num_levels: int = 2,
        num_subspaces: int = 2,
        num_codewords: int = 256,
        alpha: float | Sequence[float] = 5.0,
        *,
        straight_through: str | None = None,
        residuals: str = "embeddings",
        unit_codewords: bool = True,
        beam_size: int = 1,
        codebooks_initializer: Any = None,
        **kwargs: Any,
    ) -> None:
        require_at_least("num_levels", num_levels, 1)
        require_at_least("beam_size", beam_size, 1)
        super().__init__(
            num_subspaces, num_codewords, unit_codewords, codebooks_initializer, **kwargs
        )
        if straight_through not in (None, *STRAIGHT_THROUGH):
            raise ValueError(
                f"straight_through must be None or one of {list(STRAIGHT_THROUGH)}. "
                f"Received: {straight_through!r}"
            )
        if residuals not in RESIDUALS:
            raise ValueError(f"residuals must be one of {list(RESIDUALS)}. Received: {residuals!r}")
        if residuals == "reconstructions" and straight_through not in (None, "none"):
            raise ValueError(
                "residuals='reconstructions' train on soft values: straight_through must be None "
                f"or 'none'. Received: {straight_through!r}"
            )
        if residuals == "embeddings" and beam_size > 1:
            raise ValueError(
                "beam_size must be 1 with residuals='embeddings', where training takes level by "
                f"level. Received: {beam_size}"
            )
        if not unit_codewords:
            _require_soft_training(num_levels, straight_through, residuals)
        self.num_levels = num_levels
        self.residuals = residuals
        self.beam_size = beam_size
        self.alpha = alpha.tolist() if isinstance(alpha, np.ndarray) else alpha
        self.alphas = _alpha_by_level(self.alpha, num_levels)
        self.straight_through = straight_through
        takes_hard = num_levels > 1 and residuals == "embeddings"
        self.hard_values = straight_through or ("all" if takes_hard else "none")

    @property
    def num_trained_levels(self) -> int:
        return 1 if self.residuals == "reconstructions" else self.num_levels

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self._add_codebooks(input_shape[-1], (self.num_levels,), self._initialize)

    def quantize_embeddings(self, embeddings: Tensor, training: bool = False) -> Quantization:
        subvectors = split_subvectors(self.normalize(embeddings), self.num_subspaces)
        # Training sees the first level alone, whatever the codes are.
        if self._encodes_by_beam and not training:
            return self._quantize_by_beam(subvectors)
        return self._quantize_in_turn(subvectors, training)

    def decode(self, codes: Tensor) -> Tensor:
        codes = self._checked_codes(codes)
        subvectors = sum(
            decode_codes(codes[:, self._positions(level)], self._decoded_codebooks(level))
            for level in range(self.num_levels)
        )
        return merge_subvectors(subvectors)

    def lookup_tables(self, queries: Tensor) -> Tensor:
        queries = self.normalize(self._checked_embeddings(queries))
        subvectors = split_subvectors(queries, self.num_subspaces)
        tables = [
            build_lookup_tables(subvectors, self._decoded_codebooks(level))
            for level in range(self.num_levels)
        ]
        return ops.concatenate(tables, axis=1)

    def fit_codebooks(self, embeddings: np.ndarray, cluster: Cluster) -> None:
        residuals = self._numpy_subvectors(embeddings)
        for level in range(self.num_levels):
            residuals = self._fit_level(level, residuals, cluster)

    def settle_codebooks(self, embeddings: np.ndarray, cluster: Cluster) -> None:
        if self.residuals == "embeddings" or not self.unit_codewords:
            super().settle_codebooks(embeddings, cluster)
        if self.residuals == "reconstructions":
            residuals = self._numpy_subvectors(embeddings)
            _, residuals = self._code_level(0, residuals)
            for level in range(1, self.num_levels):
                residuals = self._fit_level(level, residuals, cluster)
        if self._encodes_by_beam:
            self._settle_together(self._numpy_subvectors(embeddings))

    def revive_codewords(self, embeddings: np.ndarray, rng: np.random.Generator) -> int:
        residuals = self._numpy_subvectors(embeddings)
        num_revived = 0
        # A level's codewords must move before the residuals that it leaves are known.
        for level in range(self.num_trained_levels):
            codebooks = np.array(ops.convert_to_numpy(self.codebooks))
            if level:
                codes, left = self._code_level(level, residuals)
                errors = np.square(left).sum(axis=-1)
                moved = revive_codebooks(codebooks[level], residuals, codes, errors, rng)
            else:
                moved = self._revive_first_level(codebooks[0], residuals, rng)
            if moved:
                self._assign_level(level, codebooks)
            if moved or not level:
                _, left = self._code_level(level, residuals)
            residuals = left
            num_revived += moved
        return num_revived

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_levels": self.num_levels,
            "alpha": self.alpha,
            "straight_through": self.straight_through,
            "residuals": self.residuals,
            "beam_size": self.beam_size,
        }

    @property
    def _first_alpha(self) -> float:
        return self.alphas[0]

    def _variant(self) -> str:
        # Codes of one kind can be decoded as the other, but no item would be given them. A beam
        # only chooses better among the codes there are: codes by any are of one kind.
        of_reconstructions = self.residuals == "reconstructions"
        return super()._variant() + (":reconstructions" if of_reconstructions else "")

    def _prefix_config(self, num_levels: int) -> dict[str, Any]:
        return {
            **self.get_config(),
            "num_levels": num_levels,
            "alpha": self.alphas[:num_levels],
            "straight_through": self.hard_values,
        }

    def _quantize_in_turn(self, subvectors: Tensor, training: bool) -> Quantization:
        """Level by level, each without regard to those after it."""
        residuals, total = subvectors, ops.zeros_like(subvectors)
        partial_sums, codes = [], []
        for level in range(self.num_levels):
            step = self._quantize_level(level, residuals, training)
            residuals = step.left
            # What is not trained must not be computed either: a step's graph leaves it out.
            if not training or level < self.num_trained_levels:
                total = total + step.added
            partial_sums.append(merge_subvectors(total))
            codes.append(step.codes)
        return self._join_levels(partial_sums, codes)

    def _quantize_level(self, level: int, residuals: Tensor, training: bool) -> _Step:
        if self._trains_first_level_alone and not level:
            soft = self._soften_first_level(residuals)
            hard, codes = self._code_first_level(residuals)
            return _Step(soft - hard, soft if training else hard, codes)
        codebooks = self._decoded_codebooks(level)
        similarities = build_lookup_tables(residuals, codebooks)
        if level:
            # Between unit vectors the inner product ranks by distance already.
            similarities = rank_by_distance(similarities, codebooks)
        codes = assign_hard(similarities)
        hard = decode_codes(codes, codebooks)
        if not training or self._trains_first_level_alone:
            return _Step(residuals - hard, hard, codes)
        soft = reconstruct_soft(assign_soft(similarities, self.alphas[level]), codebooks)
        if self.hard_values == "none":
            return _Step(residuals - soft, soft, codes)
        passed = straight_through(hard, soft)
        return _Step(residuals - passed, passed if self.hard_values == "all" else soft, codes)

    @property
    def _encodes_by_beam(self) -> bool:
        return self.beam_size > 1 and self.num_levels > 1

    def _quantize_by_beam(self, subvectors: Tensor) -> Quantization:
        added, codes = self._code_by_beam(self._soften_first_level(subvectors))
        partial_sums = [merge_subvectors(added[0])]
        for level in added[1:]:
            partial_sums.append(partial_sums[-1] + merge_subvectors(level))
        return self._join_levels(partial_sums, codes)

    def _join_levels(self, partial_sums: list[Tensor], codes: list[Tensor]) -> Quantization:
        return Quantization(
            partial_sums[-1],
            ops.cast(ops.concatenate(codes, axis=1), self.code_dtype),
            ops.stack(partial_sums, axis=1),
        )

    def _code_by_beam(self, targets: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """The codewords `[batch, num_subspaces, subvector_dim]` and the codes of each level."""
        codebooks = [self._decoded_codebooks(level) for level in range(self.num_levels)]
        codes = assign_beam(targets, codebooks, self.beam_size)
        return [decode_codes(*level) for level in zip(codes, codebooks, strict=True)], codes

    def _settle_together(self, subvectors: np.ndarray) -> None:
        """By turns: codes by beam, then codewords of the levels after the first.

        The first stays: what all stand for is made of its codewords, and would move with them.
        """
        for _ in range(SETTLING_ROUNDS):
            quantized = [self._leave_to_levels(chunk) for chunk in in_chunks(subvectors)]
            codebooks = np.array(ops.convert_to_numpy(self.codebooks))
            refit_levels(codebooks, quantized)
            self.codebooks.assign(codebooks)

    def _leave_to_levels(self, subvectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Codes, and what all levels but one leave of the targets, for each level."""
        targets = self._soften_first_level(ops.convert_to_tensor(subvectors))
        added, codes = self._code_by_beam(targets)
        left = targets - sum(added) + ops.stack(added)
        return ops.convert_to_numpy(ops.stack(codes)), np.array(ops.convert_to_numpy(left))

    @property
    def _trains_first_level_alone(self) -> bool:
        return self.residuals == "reconstructions" or not self.unit_codewords

    def _first_codebooks(self) -> Tensor:
        self._require_built("codebooks")
        return ops.convert_to_tensor(self.codebooks)[0]

    def _decoded_codebooks(self, level: int) -> Tensor:
        """What a level's codes decode to, `[num_subspaces, num_codewords, subvector_dim]`."""
        if not level:
            return self._decoded_first_codebooks()
        return ops.convert_to_tensor(self.codebooks)[level]

    def _fit_level(self, level: int, residuals: np.ndarray, cluster: Cluster) -> np.ndarray:
        """Set a level's codewords to cluster centres of residuals; return what it leaves."""
        codebooks = np.array(ops.convert_to_numpy(self.codebooks))
        for subspace, codebook in enumerate(codebooks[level]):
            fit_codebook(codebook, residuals[:, subspace], cluster, needs_direction=level == 0)
        self._assign_level(level, codebooks)
        return self._code_level(level, residuals)[1]

    def _code_level(self, level: int, residuals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What a level codes residuals by, and what it leaves of them, as numpy arrays."""
        steps = [
            self._quantize_level(level, ops.convert_to_tensor(chunk), training=False)
            for chunk in in_chunks(residuals)
        ]
        return (
            np.concatenate([ops.convert_to_numpy(step.codes) for step in steps]),
            np.concatenate([ops.convert_to_numpy(step.left) for step in steps]),
        )

    def _assign_level(self, level: int, codebooks: np.ndarray) -> None:
        if level == 0 and self.unit_codewords:
            codebooks[0] = ops.convert_to_numpy(normalize_vectors(codebooks[0]))
        self.codebooks.assign(codebooks)

    def _positions(self, level: int) -> slice:
        return slice(level * self.num_subspaces, (level + 1) * self.num_subspaces)

    def _initialize(self, shape: tuple[int, ...], dtype: Any = None) -> Tensor:
        scales = 0.5 ** ops.arange(self.num_levels, dtype=dtype) / shape[-1] ** 0.5
        return self.codebooks_initializer(shape, dtype=dtype) * scales[:, None, None, None]


class _Step(NamedTuple):
    """What a level leaves to the next and adds to the sum, both `[batch, num_subspaces,
    subvector_dim]`, and its codes."""

    left: Tensor
    added: Tensor
    codes: Tensor


def _require_soft_training(num_levels: int, straight_through: str | None, residuals: str) -> None:
    """Codewords of their own length stand for soft reconstructions, which training must have."""
    is_soft = residuals == "reconstructions" or num_levels == 1
    if not is_soft or straight_through not in (None, "none"):
        raise ValueError(
            "unit_codewords=False needs training on soft values: several levels take "
            "residuals='reconstructions', and straight_through must be None or 'none'. Received: "
            f"residuals={residuals!r}, straight_through={straight_through!r}, {num_levels} levels"
        )


def _alpha_by_level(alpha: float | Sequence[float], num_levels: int) -> list[float]:
    if isinstance(alpha, Sequence):
        if len(alpha) != num_levels:
            raise ValueError(
                f"alpha must be one number, or one for each of {num_levels} levels. "
                f"Received: alpha={list(alpha)}"
            )
        alphas = [float(a) for a in alpha]
    else:
        alphas = [float(alpha) * ALPHA_GROWTH**level for level in range(num_levels)]
    for one in alphas:
        require_alpha(one)
    return alphas
