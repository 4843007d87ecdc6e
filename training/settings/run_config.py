"""All that a training run depends on."""

from __future__ import annotations

import dataclasses
import itertools
import math
import os
from pathlib import Path
from typing import Any

from tfpqn.datasets import ImageFolder, ImageSet, Splits, load_protocol, open_clips, split_folder
from tfpqn.models import ProductQuantizationNetwork, backbone_names, build_backbone

from .building import build_loss, build_optimizer, build_quantizer, seed_keras
from .optimization_checks import check_optimization

MODELS = ("pqn", "rpqn", "tpqn")
# Code positions, unless num_subspaces says otherwise: the same cost of a search for each model.
CODE_LENGTH = 4
FOLDER_FRAMES = 16
# From random weights.
LEARNING_RATES = {"adam": 1e-3, "sgd": 0.1}
# Images and frames that training sees unless told: some five minutes on two cores, at 64 pixels.
# Few items are seen often, and a large set still FEWEST_EPOCHS times.
IMAGES_SEEN = 100_000
FEWEST_EPOCHS = 20
MOST_EPOCHS = 100
# Settings that `RunConfig.for_items` chooses where they are None.
LEFT_TO_DATA = ("epochs", "classification_weight", "max_shift")
# The method by itself: what recipes build on, and what settings of older versions mean where they
# say nothing. A change of the defaults below must reach neither.
PLAIN: dict[str, Any] = {
    "residuals": "embeddings",
    "unit_codewords": True,
    "loss_scale": 4.0,
    "classification_weight": 0.0,
    "classified": "quantized",
    "label_smoothing": 0.0,
    "optimizer": "adam",
    "weight_decay": 0.0,
    "epochs": 20,
    "batch_size": 128,
    "learning_rate": 3e-3,
    "warmup_epochs": 0.0,
    "augment": False,
    "max_shift": 2,
    "samples_per_class": 0,
}


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """Settings of a run; two runs with equal settings and data end with equal weights.

    Attributes:
        protocol: Name of the protocol, or None to train on `images` or `videos`.
        images: Folder with one subfolder of images per label, or None. Kept as an absolute path,
            so that a run is evaluated from any folder.
        videos: Folder with one subfolder of videos per label, an `.npz` set of clips, or None; kept
            as an absolute path too.
        image_size: Height and width that the images or frames of a folder are brought to.
        num_frames: Frames sampled from each clip; None for the protocol's number, or 16.
        model: Kind of network: "pqn", "rpqn" (residual) or "tpqn" (of clips).
        bits: Length of a code; a multiple of its number of positions, which is `num_levels`
            times `num_subspaces`, for "tpqn" times the segments. Each codebook has
            `2 ** (bits / positions)` codewords.
        num_levels: Residual levels; None for 2 with "rpqn" and else 1.
        num_subspaces: Codebooks in a level, of a segment for "tpqn"; None for 4 positions in all.
        num_segments: Segments of a clip; several numbers are the stages of a pyramid.
        share_codebooks: Whether all segments of a clip share their codebooks.
        straight_through: Which values are hard in training, see `ResidualProductQuantization`; not
            for "pqn".
        residuals: What levels after the first quantize, see `ResidualProductQuantization`; not
            for "pqn". None for "reconstructions" with several levels, unless `unit_codewords`.
        unit_codewords: Whether codes decode to codewords of unit length. If not, the codewords get
            the lengths of k-means centres or, after training, those of `settle_codebooks`. None for
            False, unless `straight_through`, `level_loss_weight` or residuals of "embeddings" ask
            for levels that are trained one by one.
        beam_size: Sums that encoding follows from level to level, see
            `ResidualProductQuantization`; for "rpqn" alone.
        level_loss_weight: Weight of the loss on the first levels alone.
        embedding_dim: Length of the embedding, of a segment for "tpqn"; a multiple of
            `num_subspaces`.
        backbone: Name for `tfpqn.models.build_backbone`.
        weights: Weights for a backbone that has some, see `tfpqn.models.build_backbone`.
        initial_run: Folder of a trained run whose backbone and embedding the network starts from.
        freeze_codebooks: Whether the network also takes the codebooks of `initial_run` and keeps
            them as they are, so that codes made by that run stay valid.
        alpha: Hardness of the soft assignment.
        loss_form, loss_scale, loss_margin, loss_hardness, loss_sides: Arguments of the asymmetric
            triplet loss.
        loss_weight: Weight of the triplet loss.
        classification_weight: Weight of a classifier beside the triplet loss; 0 for none. It takes
            one label an item. None for 1 where items have that, and 0 where not or with several
            `views`.
        classified: What it is given: "quantized" items, "embeddings", or "both"; where `loss_sides`
            is "raw" always the embeddings.
        label_smoothing: Share of the classifier's target that is spread over all classes.
        precision: Of the backbone's arithmetic: "float32" or "mixed_bfloat16". The saved and the
            exported network compute in it too. Training takes float32 where half precision is
            much slower (`choose_precision`).
        normalization: Of the "conv3" backbone, see `tfpqn.models.build_backbone`.
        center_embeddings: See `tfpqn.models.ProductQuantizationNetwork`.
        optimizer: "adam", or "sgd" with a momentum of 0.9.
        weight_decay: Share of a weight that a step takes away per unit of learning rate; biases,
            normalisations and codebooks are left alone.
        epochs, batch_size, learning_rate: The learning rate rises over `warmup_epochs` and falls
            to zero by a cosine over all epochs. Without epochs, k-means finds codebooks for the
            embeddings as they are, such as those of `initial_run`, and that is all. Epochs of None
            are chosen for the data once it is there (`for_items`). A learning rate
            of None is 0.1 with SGD and 0.001 with Adam, and a tenth of that from `weights` or
            `initial_run`, which large steps would undo.
        earlier_epochs: Numbers of epochs that a run ended with before it was given more. Up to each
            it has the learning rates of a run of so many epochs, and after it, at once, those of a
            run of the next number: from a cosine's end back to where a longer cosine stands there.
            `Run.start` enters it for a run that is prolonged.
        warmup_epochs: Epochs of linear rise, which count as epochs.
        augment: Whether to shift the training images at random, to mirror them where that keeps
            the label, and to draw the frames of clips at random.
        max_shift: Largest shift in pixels; None for a sixteenth of the shorter side, but at most 2.
        min_area: Smallest share of its area that a random crop of an augmented image keeps, before
            it is brought back to its size; 1 for no crops.
        cutout: Side in pixels of the square that is cut out of each augmented image; 0 for none.
        color_jitter: Most by which brightness, contrast and saturation of augmented images change.
        views: 2 or more to train without labels: each image stands so often in a batch, augmented
            in different ways, and only these belong together.
        samples_per_class: Items of a class in a batch, at least 2, a divisor of `batch_size` and at
            most half of it; 0 to draw items at random, whatever their classes.
        seed: Seed of weights, order, augmentation and clustering.

    Raises:
        ValueError: A setting is out of range or does not fit the others.
    """

    protocol: str | None = "digits"
    images: str | None = None
    videos: str | None = None
    image_size: int = 64
    num_frames: int | None = None
    model: str = "pqn"
    bits: int = 24
    num_levels: int | None = None
    num_subspaces: int | None = None
    num_segments: tuple[int, ...] = (2,)
    share_codebooks: bool = False
    straight_through: str | None = None
    residuals: str | None = None
    unit_codewords: bool | None = None
    beam_size: int = 1
    level_loss_weight: float = 0.0
    embedding_dim: int = 512
    backbone: str = "conv3"
    weights: str | None = None
    initial_run: str | None = None
    freeze_codebooks: bool = False
    alpha: float = 5.0
    loss_form: str = "softplus"
    loss_scale: float = 2.0
    loss_margin: float = 0.0
    loss_hardness: float = 0.0
    loss_sides: str = "asymmetric"
    loss_weight: float = 1.0
    classification_weight: float | None = None
    classified: str = "both"
    label_smoothing: float = 0.1
    precision: str = "float32"
    normalization: str = "batch"
    center_embeddings: bool = True
    optimizer: str = "adam"
    weight_decay: float = 5e-3
    epochs: int | None = None
    batch_size: int = 64
    learning_rate: float | None = None
    warmup_epochs: float = 0.5
    earlier_epochs: tuple[int, ...] = ()
    augment: bool = True
    max_shift: int | None = None
    min_area: float = 1.0
    cutout: int = 0
    color_jitter: float = 0.0
    views: int = 1
    samples_per_class: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.model not in MODELS:
            raise ValueError(f"model must be one of {list(MODELS)}. Received: {self.model!r}")
        self._check_source()
        for name in ("images", "videos"):
            if getattr(self, name):
                object.__setattr__(self, name, os.path.abspath(getattr(self, name)))
        self._fill_in()
        for name in ("image_size", "embedding_dim", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1. Received: {getattr(self, name)}")
        if self.epochs is not None and self.epochs < 0:
            raise ValueError(f"epochs must be at least 0. Received: {self.epochs}")
        self._check_sizes()
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed must lie in 0 .. 2**32 - 1. Received: {self.seed}")
        if self.backbone not in backbone_names():
            raise ValueError(
                f"Unknown backbone. Expected one of {backbone_names()}. Received: {self.backbone!r}"
            )
        if self.freeze_codebooks and not self.initial_run:
            raise ValueError(
                "freeze_codebooks needs initial_run, the run whose codebooks are kept. "
                f"Received: initial_run={self.initial_run!r}"
            )
        check_optimization(self)
        self._check_stages()
        # What they refuse is refused here, before any data is read.
        build_quantizer(self, self._num_codewords)
        build_loss(self)

    @property
    def takes_clips(self) -> bool:
        """Whether the network is one of clips."""
        return self.model == "tpqn"

    @property
    def code_length(self) -> int:
        """Number of positions of a code."""
        segments = sum(self.num_segments) if self.takes_clips else 1
        return segments * (self.num_levels or 1) * (self.num_subspaces or 1)

    @property
    def num_epochs(self) -> int:
        """The number of epochs, where it is not left open."""
        if self.epochs is None:
            raise ValueError(
                "epochs must be a number by now: give one, or let for_items choose it. "
                "Received: epochs=None"
            )
        return self.epochs

    @property
    def settles_codebooks(self) -> bool:
        """Whether codebooks are settled once training has ended."""
        has_targets = not self.unit_codewords or (self.num_levels or 1) > 1
        return has_targets and not self.freeze_codebooks

    @property
    def _num_codewords(self) -> int:
        return int(2 ** (self.bits // self.code_length))

    @classmethod
    def plain(cls, **settings: Any) -> RunConfig:
        """The method by itself (`PLAIN`) but for the given settings, such as a recipe's."""
        return cls(**{**PLAIN, **settings})

    @property
    def stages(self) -> list[RunConfig]:
        """The settings of each run that this one prolongs, then its own, as runs by themselves."""
        numbers = (*self.earlier_epochs, self.num_epochs)
        return [dataclasses.replace(self, epochs=n, earlier_epochs=()) for n in numbers]

    def to_json(self) -> dict[str, Any]:
        """The settings as JSON gives them back: tuples are lists."""
        settings = dataclasses.asdict(self)
        return {n: list(v) if isinstance(v, tuple) else v for n, v in settings.items()}

    def _check_source(self) -> None:
        given = [name for name in ("protocol", "images", "videos") if getattr(self, name)]
        if len(given) != 1:
            raise ValueError(
                "A run needs one of a protocol, a folder of images or a folder of videos. "
                f"Received: protocol={self.protocol!r}, images={self.images!r}, "
                f"videos={self.videos!r}"
            )
        has_clips = self.videos is not None
        if self.protocol is not None:
            has_clips = load_protocol(self.protocol).num_frames is not None
        if has_clips != self.takes_clips:
            kind, models = ("clips", ["tpqn"]) if has_clips else ("images", ["pqn", "rpqn"])
            raise ValueError(
                f"model must be one of {models} for {self.protocol or given[0]!r}, whose items are "
                f"{kind}. Received: {self.model!r}"
            )
        if self.num_frames is not None and not (self.takes_clips and self.num_frames >= 1):
            raise ValueError(
                "num_frames must be at least 1, and is for clips alone. "
                f"Received: num_frames={self.num_frames}, model={self.model!r}"
            )

    def _fill_in(self) -> None:
        """Settle what depends on the model; JSON brings back a tuple as a list."""
        segments = self.num_segments
        segments = tuple(segments) if isinstance(segments, (list, tuple)) else (segments,)
        object.__setattr__(self, "num_segments", segments)
        object.__setattr__(self, "earlier_epochs", tuple(self.earlier_epochs))
        if self.num_levels is None:
            object.__setattr__(self, "num_levels", 2 if self.model == "rpqn" else 1)
        if self.num_subspaces is None and min(segments, default=0) >= 1 and self.num_levels:
            groups = (sum(segments) if self.takes_clips else 1) * self.num_levels
            object.__setattr__(self, "num_subspaces", max(1, CODE_LENGTH // groups))
        self._fill_in_quantizer()
        if self.learning_rate is None:
            rate = LEARNING_RATES.get(self.optimizer, 1.0)
            is_start = self.weights is None and self.initial_run is None
            object.__setattr__(self, "learning_rate", rate if is_start else rate / 10)

    def _fill_in_quantizer(self) -> None:
        has_levels = (self.num_levels or 1) > 1
        if self.unit_codewords is None:
            by_level = self.level_loss_weight or self.straight_through not in (None, "none")
            by_level = by_level or has_levels and self.residuals == "embeddings"
            object.__setattr__(self, "unit_codewords", bool(by_level))
        if self.residuals is None:
            left_of = "reconstructions" if has_levels and not self.unit_codewords else "embeddings"
            object.__setattr__(self, "residuals", left_of)

    def _check_stages(self) -> None:
        if not self.earlier_epochs:
            return
        numbers = (self.warmup_epochs, *self.earlier_epochs, self.num_epochs)
        if any(a >= b for a, b in itertools.pairwise(numbers)):
            raise ValueError(
                f"earlier_epochs must rise from above warmup_epochs={self.warmup_epochs} to below "
                f"epochs={self.epochs}. Received: {self.earlier_epochs}"
            )

    def _check_sizes(self) -> None:
        if self.model == "pqn" and self.num_levels != 1:
            raise ValueError(
                "num_levels must be 1 with model='pqn'; several levels are model='rpqn'. "
                f"Received: {self.num_levels}"
            )
        if not 0 <= self.level_loss_weight < float("inf"):
            raise ValueError(
                "level_loss_weight must be finite and at least 0. "
                f"Received: {self.level_loss_weight}"
            )
        self._check_model_settings()
        # Built with the smallest codebooks, to have its say on the other sizes first.
        build_quantizer(self, 2)
        length = self.code_length
        if self.bits < 1 or self.bits % length:
            raise ValueError(
                f"bits must be a positive multiple of the {length} positions of a code "
                f"(num_levels x num_subspaces{' x segments' if self.takes_clips else ''}). "
                f"Received: bits={self.bits}, num_subspaces={self.num_subspaces}"
            )
        if self.embedding_dim % (self.num_subspaces or 1):
            raise ValueError(
                "embedding_dim must be a multiple of num_subspaces. Received: "
                f"embedding_dim={self.embedding_dim}, num_subspaces={self.num_subspaces}"
            )

    def open_as(self, other: RunConfig) -> RunConfig:
        """These settings with those of another run where they leave open what data decides."""
        left = [name for name in LEFT_TO_DATA if getattr(self, name) is None]
        return dataclasses.replace(self, **{name: getattr(other, name) for name in left})

    def for_items(self, items: ImageSet) -> RunConfig:
        """These settings with what they leave open chosen for the items.

        So many epochs that training sees 100,000 images or frames, but 20 at least and 100 at most;
        a classifier where each item has one label; and shifts of at most a sixteenth of a side.

        Args:
            items: What the network is trained on.
        """
        chosen: dict[str, Any] = {}
        if self.epochs is None:
            images = len(items) * math.prod(items.item_shape) // math.prod(items.image_shape)
            epochs = round(IMAGES_SEEN / images)
            chosen["epochs"] = min(max(epochs, FEWEST_EPOCHS), MOST_EPOCHS)
        if self.max_shift is None:
            chosen["max_shift"] = min(2, min(items.image_shape[:2]) // 16)
        if self.classification_weight is None:
            has_classes = self.views == 1 and items.labels.ndim == 1
            chosen["classification_weight"] = float(has_classes)
        return dataclasses.replace(self, **chosen)

    def load_splits(
        self,
        data_dir: str | Path | None = None,
        protocol: str | None = None,
        num_frames: int | None = None,
    ) -> Splits:
        """The data of these settings, or of another protocol.

        Args:
            data_dir: Folder of tensorflow-datasets' prepared data sets.
            protocol: Protocol to take instead.
            num_frames: Frames to take of each clip instead.
        """
        name = protocol or self.protocol
        if name is not None:
            chosen = load_protocol(name)
            if num_frames is None and chosen.num_frames is not None:
                num_frames = self.num_frames
            return chosen.load(data_dir, num_frames)
        return split_folder(self.open_folder(num_frames), labelled=self.views == 1)

    def open_folder(
        self, num_frames: int | None = None, image_shape: tuple[int, int, int] | None = None
    ) -> ImageSet:
        """The readable items of `images` or `videos`.

        Args:
            num_frames: Frames to take of each clip instead.
            image_shape: `(height, width, channels)` to bring them to instead.
        """
        num_frames = self.num_frames if num_frames is None else num_frames
        image_shape = image_shape or (self.image_size, self.image_size, 3)
        if self.videos is not None:
            clips = open_clips(self.videos, image_shape, num_frames or FOLDER_FRAMES)
            return clips.readable()
        return ImageFolder(self.images or "", image_shape).readable()

    def _check_model_settings(self) -> None:
        """Settings of another model would be silently without effect."""
        for name, models, default in (
            ("straight_through", ("rpqn", "tpqn"), None),
            ("residuals", ("rpqn", "tpqn"), "embeddings"),
            ("beam_size", ("rpqn",), 1),
            ("level_loss_weight", ("rpqn", "tpqn"), 0.0),
            ("share_codebooks", ("tpqn",), False),
            ("num_segments", ("tpqn",), (2,)),
        ):
            value = getattr(self, name)
            if self.model not in models and value != default:
                raise ValueError(
                    f"{name} is for model {' and '.join(models)}. "
                    f"Received: {name}={value!r}, model={self.model!r}"
                )
        if self.level_loss_weight and self.residuals == "reconstructions":
            raise ValueError(
                "level_loss_weight must be 0 with residuals='reconstructions', where training "
                f"sees one level alone. Received: {self.level_loss_weight}"
            )

    def build_network(
        self, image_shape: tuple[int, int, int], steps: int, num_classes: int | None = None
    ) -> Any:
        """The compiled network of these settings, with fresh weights from the seed.

        Args:
            image_shape: `(height, width, channels)`.
            steps: Steps in all, over which the learning rate falls to zero.
            num_classes: Number of classes, for a classifier.

        Raises:
            ValueError: A classifier is wanted, and there are no classes; or the number of epochs
                is left open (`for_items` chooses it).
        """
        weight = self.classification_weight
        if weight is None:
            weight = float(num_classes is not None)
        if weight and num_classes is None:
            raise ValueError(
                "classification_weight needs items of one label each. "
                f"Received: classification_weight={weight} for others"
            )
        seed_keras(self.seed)
        options = {} if self.normalization == "batch" else {"normalization": self.normalization}
        network = ProductQuantizationNetwork(
            build_backbone(
                self.backbone, image_shape, weights=self.weights, dtype=self.precision, **options
            ),
            build_quantizer(self, self._num_codewords),
            self.embedding_dim,
            center_embeddings=self.center_embeddings,
            num_classes=num_classes if weight else None,
            classified="embeddings" if self.loss_sides == "raw" else self.classified,
            classification_weight=weight,
            label_smoothing=self.label_smoothing,
        )
        optimizer = build_optimizer(self, network, steps)
        network.compile(optimizer, build_loss(self), loss_weights=self.loss_weight)
        return network
