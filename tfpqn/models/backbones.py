"""Backbones by name. Each takes pixels 0 .. 255 of any dtype and brings its own scaling."""

from __future__ import annotations

import contextlib
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
from keras import layers

from tfpqn.files.foreign import reading, require_file
from tfpqn.files.npz import read_npz
from tfpqn.layers.batch_normalization import BatchNormalization
from tfpqn.models.alexnet import alexnet
from tfpqn.models.efficientnet_lite0 import efficientnet_lite0
from tfpqn.models.hub_presets import is_preset_folder, load_preset, preset_image_size
from tfpqn.models.small_nets import conv3, resnet9
from tfpqn.models.torch_weights import load_torch_weights
from tfpqn.models.trainable_layers import flatten_layers

ImageShape = tuple[int, ...]

_IMAGE_SIZE = 224
# The backbone that a user's own file holds, and that of a preset of KerasHub.
KERAS_FILE = "keras"
KERAS_HUB = "keras_hub"


def backbone_names() -> list[str]:
    """Names that `build_backbone` knows: the package's own, then those of `keras.applications`."""
    return [*OWN_BACKBONES, KERAS_FILE, KERAS_HUB, *sorted(_application_modules())]


def require_backbone(name: str) -> None:
    """Raises ValueError unless `build_backbone` knows the name; the message lists the known."""
    if name not in backbone_names():
        raise ValueError(
            f"Unknown backbone. Expected one of {backbone_names()}. Received: {name!r}"
        )


def backbone_of_weights(weights: str | None) -> str:
    """The backbone that is taken where none is named: the one that the weights are of.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is of no backbone that is known by its arrays.
    """
    if weights in (None, "imagenet"):
        return "EfficientNetV2B0" if weights else "conv3"
    if is_preset_folder(str(weights)):
        return KERAS_HUB
    if str(weights).endswith(".keras"):
        return KERAS_FILE
    if str(weights).endswith(".npz"):
        require_file(Path(str(weights)), "The weights of a backbone", [".npz"])
        present = read_npz(str(weights), (), list(FROM_TORCH.values()))
        for name, array in FROM_TORCH.items():
            if array in present:
                return name
    raise ValueError(
        f"backbone must be named: the one that the weights are of. Received: weights={weights!r}"
    )


def image_size_of(name: str, weights: str | None) -> int:
    """Height and width of the images that a backbone's weights suit."""
    if name == KERAS_FILE:
        return _load_model(weights).input_shape[1] or _IMAGE_SIZE
    if name == KERAS_HUB:
        return preset_image_size(weights) or _IMAGE_SIZE
    return _IMAGE_SIZE


def build_backbone(
    name: str,
    image_shape: ImageShape,
    *,
    weights: str | None = None,
    dtype: str | None = None,
    image_size: int | None = None,
    **options: Any,
) -> keras.Model:
    """Build a backbone from pixels to features.

    Args:
        name: `"conv3"`, `"resnet9"`, `"alexnet"`, `"efficientnet_lite0"`, `"keras"`,
            `"keras_hub"`, or a model of `keras.applications`, such as `"ResNet50"`.
        image_shape: `(height, width, channels)`.
        weights: None for random weights. For `keras.applications` `"imagenet"` (downloads them), or
            the path of a weights file; for `"alexnet"` and `"efficientnet_lite0"` the path of an
            `.npz` of torch's arrays; for `"keras"` a `.keras` file of a model from pixels to
            features, which brings its own preprocessing; for `"keras_hub"` a preset: its name, or
            the folder that backbone and image converter were saved to.
        dtype: Policy of the layers, such as `"mixed_bfloat16"`; None for Keras's global one.
        image_size: Height and width that the backbone brings the images to, bilinearly; None leaves
            them as they are. Weights of photos see little in 32 x 32 pixels.
        **options: Passed to the builder: `conv3(normalization=...)`, or any argument of the
            `keras.applications` function.

    Returns:
        A `keras.Model` from images `[batch, height, width, channels]` to features
        `[batch, num_features]`.

    Raises:
        ConnectionError: Weights cannot be downloaded.
        FileNotFoundError: There is no such file of weights.
        ImportError: The backbone is one of KerasHub, which is not installed.
        ValueError: The name is unknown (the message lists the known), `weights` is given to a
            backbone that has none, or they do not fit; or the images have other channels than it
            takes.
    """
    require_backbone(name)
    if image_size is not None and image_shape[:2] != (image_size, image_size):
        enlarged = (image_size, image_size, *image_shape[2:])
        inner = build_backbone(name, enlarged, weights=weights, dtype=dtype, **options)
        inputs = keras.Input(image_shape, name="images")
        # Called without a word on training, Keras's Resizing takes it for training, and then all
        # layers after it do.
        enlarge = layers.Resizing(image_size, image_size)
        return keras.Model(inputs, inner(enlarge(inputs, training=False)))
    modules = _application_modules()
    if name in modules:
        with _policy(dtype):
            return _application(name, modules[name], image_shape, weights, options)
    if name == KERAS_FILE:
        return _for_images(_load_model(weights), weights, image_shape)
    if name == KERAS_HUB:
        with _policy(dtype):
            return _for_images(load_preset(weights, dtype), weights, image_shape)
    if weights is not None and name not in FROM_TORCH:
        raise ValueError(
            f"Backbone {name!r} has no published weights; expected weights=None. "
            f"Received: weights={weights!r}"
        )
    if name in FROM_TORCH and image_shape[2] != 3:
        raise ValueError(
            f"Backbone {name!r} takes images of 3 channels. Received: {image_shape[2]} channels"
        )
    inputs = keras.Input(image_shape, name="images")
    with _policy(dtype):
        scaled = layers.Rescaling(1 / 127.5, offset=-1.0)(inputs)
        backbone = keras.Model(inputs, OWN_BACKBONES[name](scaled, **options), name=name)
    if weights is not None:
        load_torch_weights(backbone, weights)
    return backbone


def mirrored(backbone: keras.Model) -> keras.Model:
    """A backbone that averages the features of an image and of its mirror image.

    It has the weights of the other, which runs twice, in training and in search.

    Args:
        backbone: From images of a known shape to features, such as `build_backbone` makes.
    """
    inputs = keras.Input(backbone.input_shape[1:], name="images")
    both = [backbone(inputs), backbone(keras.ops.flip(inputs, axis=2))]
    return keras.Model(inputs, layers.Average()(both))


def _for_images(model: keras.Model, path: str | None, image_shape: ImageShape) -> keras.Model:
    """A loaded model for images of one size."""
    expected = tuple(model.input_shape[1:])
    if len(expected) != 3 or any(
        a not in (None, b) for a, b in zip(expected, image_shape, strict=True)
    ):
        raise ValueError(
            f"{path} must hold a model of images {image_shape}. Received: one of {expected}"
        )
    inputs = keras.Input(image_shape, name="images")
    return keras.Model(inputs, _normalize_in_one_step(model)(inputs))


def _load_model(path: str | None) -> keras.Model:
    expected = "a Keras model (.keras) from images to features"
    if path is None or not Path(path).is_file():
        raise FileNotFoundError(
            f"Backbone {KERAS_FILE!r} needs weights, {expected}. Received: {path}"
        )
    with reading(path, expected):
        model = keras.saving.load_model(path, compile=False)
    shape = getattr(model, "input_shape", None)
    # Of several inputs it is a list.
    if not isinstance(shape, tuple):
        raise ValueError(
            f"{path} must hold a Functional or Sequential model from images to features. "
            f"Received: a {type(model).__name__} of the input shape {shape}"
        )
    return model


@contextlib.contextmanager
def _policy(dtype: str | None) -> Iterator[None]:
    """Layers built inside have this policy: `keras.applications` takes none."""
    before = keras.config.dtype_policy()
    if dtype is not None:
        keras.config.set_dtype_policy(dtype)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


OWN_BACKBONES: dict[str, Callable[..., Any]] = {
    "conv3": conv3,
    "resnet9": resnet9,
    "alexnet": alexnet,
    "efficientnet_lite0": efficientnet_lite0,
}
# Those whose weights are published as torch has them -> an array that only theirs have.
FROM_TORCH = {"alexnet": "features.0.bias", "efficientnet_lite0": "_conv_stem.weight"}


def _application_modules() -> dict[str, types.ModuleType]:
    """Model name -> the `keras.applications` module that holds its preprocessing.

    Some models, such as MobileNetV3Small, stand in no such module; that of their code has its name.
    """
    return {
        name: getattr(keras.applications, model.__module__.rpartition(".")[2])
        for name, model in vars(keras.applications).items()
        if name[0].isupper() and callable(model)
    }


def _application(
    name: str,
    module: types.ModuleType,
    image_shape: ImageShape,
    weights: str | None,
    options: dict[str, Any],
) -> keras.Model:
    build = getattr(keras.applications, name)
    arguments = {"include_top": False, "input_shape": image_shape, "pooling": "avg", **options}
    with _downloads(weights):
        features = build(weights=weights, **arguments)
    inputs = keras.Input(image_shape, name="images")
    outputs = _normalize_in_one_step(features)(ApplicationPreprocessing(name)(inputs))
    return keras.Model(inputs, outputs, name=name.lower())


def _normalize_in_one_step(model: keras.Model) -> keras.Model:
    """Gives the batch normalization of a model of Keras the class of ours, in place."""
    for layer in flatten_layers(model):
        if type(layer) is layers.BatchNormalization:
            # They differ in `call` alone; a clone would draw all weights twice.
            layer.__class__ = BatchNormalization
    return model


@contextlib.contextmanager
def _downloads(weights: str | None) -> Iterator[None]:
    """A download that fails, which Keras reports as a bare Exception, is a ConnectionError."""
    try:
        yield
    except Exception as error:
        if type(error) is not Exception:
            raise
        raise ConnectionError(
            f"weights={weights!r} is downloaded, which needs a network; weights may also be the "
            f"path of a weights file. Received: {error}"
        ) from error


@keras.saving.register_keras_serializable(package="tfpqn")
class ApplicationPreprocessing(layers.Layer):
    """Scales pixels 0 .. 255 as the named `keras.applications` model expects them.

    Args:
        application: Name of the model, such as `"ResNet50"`.
        **kwargs: Passed to `keras.layers.Layer`.
    """

    def __init__(self, application: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.application = application

    def call(self, images: Any) -> Any:
        images = keras.ops.cast(images, self.compute_dtype)
        return _application_modules()[self.application].preprocess_input(images)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "application": self.application}
