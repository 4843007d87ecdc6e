"""A network's file is read as what it is, or refused by one sentence that names it."""

import random
import zipfile

import keras
import numpy as np
import pytest

from tests.training.tiny import assert_bit_equal, make_images, make_network
from tfpqn.training.runs.network_file import read_network, save_network

REFUSED = r"network\.keras' must be a network, as training saves it"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("network") / "network.keras"
    network = make_network()
    network.optimizer.build(network.trainable_variables)
    save_network(network, path)
    assert_bit_equal(read_network(path).weights, network.weights)
    assert [file.name for file in path.parent.iterdir()] == ["network.keras"]
    return path.read_bytes()


def test_flipped_bit_is_refused_or_changes_nothing(whole, tmp_path):
    path = tmp_path / "network.keras"
    images = make_images(4).images
    codes = np.array(make_network().encode(images))
    rng = random.Random(0)
    # What tells a zip's parts stands at its end.
    places = [rng.randrange(len(whole)) for _ in range(4)]
    places += [rng.randrange(len(whole) - 400, len(whole)) for _ in range(8)]
    refused = 0
    for place in places:
        flipped = bytearray(whole)
        flipped[place] ^= 1 << rng.randrange(8)
        path.write_bytes(flipped)
        try:
            network = read_network(path)
        except ValueError as error:
            assert str(path) in str(error)
            refused += 1
        else:
            np.testing.assert_array_equal(network.encode(images), codes)
    assert refused > 5


@pytest.mark.parametrize("length", [0, 4, 1000])
def test_half_a_file_is_refused(whole, tmp_path, length):
    (tmp_path / "network.keras").write_bytes(whole[:length])
    with pytest.raises(ValueError, match=REFUSED):
        read_network(tmp_path / "network.keras")


def test_model_of_another_class_is_refused_before_it_is_built(tmp_path, monkeypatch):
    keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]).save(tmp_path / "network.keras")
    monkeypatch.delattr(keras.saving, "load_model")
    with pytest.raises(ValueError, match=f"{REFUSED}.*of the class 'Sequential'"):
        read_network(tmp_path / "network.keras")


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"config.json": b"{}", "model.weights.h5": bytes(2**25)}, "unpacks to 33,554,434 bytes"),
        ({"config.json": b"{}", "../outside": b""}, "parts that lie outside of it"),
        ({"config.json": b"{}", "/outside": b""}, "parts that lie outside of it"),
        ({"config.json": b"[" * 100_000}, "recursion"),
        ({"config.json": b"[]"}, "AttributeError"),
        ({}, "no item named 'config.json'"),
    ],
    ids=["bomb", "above", "root", "deep", "list", "empty"],
)
def test_forged_file_is_refused_before_it_is_unpacked(tmp_path, monkeypatch, parts, message):
    with zipfile.ZipFile(tmp_path / "network.keras", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    monkeypatch.delattr(keras.saving, "load_model")
    with pytest.raises(ValueError, match=f"{REFUSED}.*{message}"):
        read_network(tmp_path / "network.keras")
