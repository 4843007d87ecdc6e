"""The examples in docstrings run, and print what they say."""

import doctest
import importlib
import pkgutil

import keras
import numpy as np
import pytest

import tfpqn
from tfpqn.datasets import load_protocol
from tfpqn.index import CodeIndex, network_layout

ROOMS = (
    "datasets",
    "export",
    "index",
    "layers",
    "losses",
    "metrics",
    "models",
    "retrieval",
    "training",
)


def modules_of(room):
    package = importlib.import_module(f"tfpqn.{room}")
    found = pkgutil.walk_packages(package.__path__, f"tfpqn.{room}.")
    return [package, *(importlib.import_module(module.name) for module in found)]


@pytest.fixture(scope="module")
def names():
    splits = load_protocol("digits").load()
    backbone = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten()])
    quantizer = tfpqn.layers.ProductQuantization(num_subspaces=4, num_codewords=16)
    network = tfpqn.models.ProductQuantizationNetwork(backbone, quantizer, embedding_dim=16)
    index = CodeIndex(network_layout(network), np.zeros((9, 4), int), np.arange(9))
    known = {"keras": keras, "np": np, "tfpqn": tfpqn}
    return {**known, "splits": splits, "network": network, "index": index}


def test_the_examples_in_docstrings_run(names):
    finder, runner = doctest.DocTestFinder(exclude_empty=True), doctest.DocTestRunner()
    for room in ROOMS:
        for module in modules_of(room):
            for example in finder.find(module, globs={}):
                example.globs = dict(names)
                runner.run(example, clear_globs=False)
    attempted = runner.summarize(verbose=False).attempted
    assert runner.failures == 0
    assert attempted > 10
