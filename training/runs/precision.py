"""Half precision where the machine computes in it."""

from __future__ import annotations

import functools
import time
import warnings

import keras
import numpy as np

# Without instructions for it, kernels of half precision take many times as long.
MUCH_SLOWER = 3.0
STEPS = 3


@functools.cache
def choose_precision(wanted: str) -> str:
    """The precision to train in: the wanted one, or float32 where that is much faster.

    A processor without instructions for half precision has kernels for it all the same, which take
    many times as long. A few small training steps tell: no list of processors is needed, and
    what the backend makes of them counts too.

    Args:
        wanted: Policy of the backbone's layers, `"float32"` or `"mixed_bfloat16"`.

    Returns:
        One of the two. A warning says so where it is not the wanted one.
    """
    if wanted == "float32":
        return wanted
    full, half = _time_step("float32"), _time_step(wanted)
    if half < MUCH_SLOWER * full:
        return wanted
    warnings.warn(
        f"{wanted} is {half / full:.0f} times as slow as float32 on this machine: training "
        "computes in float32",
        stacklevel=2,
    )
    return "float32"


def _time_step(policy: str) -> float:
    """Seconds of a training step of a small convolution: of the fastest of some."""
    size = (16, 16, 32)
    network = keras.Sequential(
        [
            keras.Input(size),
            keras.layers.Conv2D(32, 5, padding="same", dtype=policy),
            keras.layers.Conv2D(32, 5, padding="same", dtype=policy),
            keras.layers.GlobalAveragePooling2D(dtype="float32"),
        ]
    )
    # As training does: TensorFlow's loop is not compiled by XLA.
    is_tensorflow = keras.backend.backend() == "tensorflow"
    network.compile("sgd", "mse", jit_compile=False if is_tensorflow else "auto")
    images, targets = np.ones((16, *size), np.float32), np.ones((16, 32), np.float32)
    seconds = []
    # The first traces and compiles.
    for _ in range(1 + STEPS):
        started = time.perf_counter()
        network.train_on_batch(images, targets)
        seconds.append(time.perf_counter() - started)
    return min(seconds[1:])
