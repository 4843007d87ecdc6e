"""On JAX, too, two devices train as one."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import tfpqn

ROOT = Path(tfpqn.__file__).parent.parent
ON_JAX = """
    import keras
    import numpy as np

    from tests.training.tiny import arrays_of, compiled_network, make_backbone
    from tests.training.tiny import make_batches
    from tfpqn.layers import ProductQuantization
    from tfpqn.training import fit

    def train(distribution):
        keras.distribution.set_distribution(distribution)
        keras.utils.set_random_seed(7)
        options = {"embedding_dim": 16, "center_embeddings": False}
        network = compiled_network(make_backbone(), ProductQuantization(4, 16), **options)
        schedule = {"epochs": 2, "steps_per_epoch": 4, "progress": False}
        history = fit(network, make_batches(augment=True), **schedule)
        return [*arrays_of(network.variables), np.array([epoch["loss"] for epoch in history])]

    both = train(None), train(keras.distribution.DataParallel())
    print(max(float(np.abs(x - y).max()) for x, y in zip(*both, strict=True)))
"""


@pytest.mark.slow
def test_two_devices_train_as_one_on_jax():
    environment = {
        **os.environ,
        "KERAS_BACKEND": "jax",
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
        "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
    }
    command = [sys.executable, "-c", textwrap.dedent(ON_JAX)]
    output = subprocess.run(
        command, cwd=ROOT, env=environment, check=True, stdout=subprocess.PIPE, timeout=600
    )
    assert float(output.stdout) < 1e-5
