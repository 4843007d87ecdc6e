"""The network of a run: backbone, embedding, quantizer, and what it starts from."""

from __future__ import annotations

import dataclasses
import os

from .code_settings import DEFAULT_MODEL, MOTION, CodeSettings
from .setting import check_settings, setting

# Of 32, 64 and 128 the best on photos and on Fashion-MNIST.
WHITENED_DIM = 64
# Of half precision the one that needs no scaled loss.
PRECISIONS = ("float32", "mixed_bfloat16")


@dataclasses.dataclass(frozen=True)
class ModelSettings(CodeSettings):
    """Backbone, embedding and quantizer.

    Raises:
        ValueError: A setting is out of range or does not fit the others.
    """

    whiten: bool | None = setting(
        None,
        "Whether cosine is that of features whitened by what neighbours differ in, without labels.",
        default_text="on for features of a frozen backbone",
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
    mirror: bool = setting(
        False,
        "Whether features are the mean of those of an image and of its mirror image: they find "
        "more, and the backbone runs twice.",
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

    def __post_init__(self) -> None:
        if self.motion is None:
            has_motion = self.kind == "tpqn" and self.weights is None
            self._fill("motion", MOTION if has_motion else 0)
        segments = self.num_segments
        if segments is None:
            segments = 1 if self.motion else 2
        segments = tuple(segments) if isinstance(segments, (list, tuple)) else (segments,)
        self._fill("num_segments", segments)
        check_settings(self)
        self._check_kind()
        if self.initial_run:
            self._fill("initial_run", os.path.abspath(self.initial_run))
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
    def width(self) -> int | None:
        """Length of the embedding; None for that of the features."""
        if self.is_fitted:
            # As long as the codebooks can share it equally.
            slices = self._subspaces
            return -(-WHITENED_DIM // slices) * slices if self.whitens else None
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

    def _check_network(self) -> None:
        from tfpqn.models.backbones import require_backbone

        require_backbone(self.backbone)
        if self.normalization != "batch" and self.backbone != "conv3":
            raise ValueError(
                "normalization is for the backbone 'conv3'. "
                f"Received: {self.normalization!r}, backbone={self.backbone!r}"
            )
        if self.motion and self.weights:
            raise ValueError(
                "motion is for a backbone without weights: those of photos know no changes of "
                f"frames. Received: motion={self.motion}, weights={self.weights!r}"
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
