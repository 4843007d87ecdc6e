"""Items of which the laws of networks are tried, and what spares JAX its time."""

import os

# Read once, when JAX is first imported. On it these tests compile small programs: it may optimise
# them less.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")

import numpy as np
import pytest

from tests.training.tiny import make_clips, make_images, read_items


@pytest.fixture
def images_and_labels():
    """Images of four labels."""
    images = make_images(24)
    return images.images, images.labels


@pytest.fixture
def clips_and_labels():
    """Clips of a picture that turns into another, and of the reverse: order alone differs."""
    clips = make_clips(24)
    clips = clips.subset(np.flatnonzero(clips.labels % 2 == 0))
    return read_items(clips), clips.labels
