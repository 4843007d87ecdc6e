"""Laws of data sets in one file, and of CIFAR-10 where the real data lies prepared."""

import dataclasses
import functools
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from tfpqn.datasets import load_protocol, protocols
from tfpqn.datasets.prepared_images import PreparedImages


@pytest.fixture
def few_images(monkeypatch):
    few = dataclasses.replace(protocols.CIFAR10, num_train=20, num_test=10)
    monkeypatch.setattr(protocols, "CIFAR10", few)


@pytest.fixture
def arrays(rng, few_images):
    return {
        "x_train": rng.integers(0, 256, (20, 32, 32, 3), dtype=np.uint8),
        "y_train": np.arange(20, dtype=np.uint8) % 10,
        "x_test": rng.integers(0, 256, (10, 32, 32, 3), dtype=np.uint8),
        "y_test": np.arange(10),
    }


def test_protocols_read_the_file_where_it_lies(arrays, tmp_path):
    np.savez(tmp_path / "cifar10.npz", **arrays)
    splits = load_protocol("cifar10-train").load(tmp_path)
    np.testing.assert_array_equal(splits.train.images, arrays["x_train"])
    np.testing.assert_array_equal(splits.train.labels, arrays["y_train"])
    np.testing.assert_array_equal(splits.query.images, arrays["x_test"])
    np.testing.assert_array_equal(splits.query.labels, arrays["y_test"])
    assert splits.train.labels.dtype == splits.query.labels.dtype == np.int64
    np.testing.assert_array_equal(splits.train.ids, np.arange(20))
    np.testing.assert_array_equal(splits.query.ids, np.arange(20, 30))
    assert splits.train.label_names[:3] == ("airplane", "automobile", "bird")


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("x_train", lambda x: x[:7], r"uint8 \(20, 32, 32, 3\)\. Received: uint8 \(7, 32"),
        ("x_test", lambda x: x / 255, r"uint8 .* Received: float64 \(10, 32, 32, 3\)"),
        ("y_train", lambda y: y[:, None], r"integers \(20,\) in 0 \.\. 9\..*: uint8 \(20, 1\)"),
        ("y_test", lambda y: y + 1, r"integers .* in 0 \.\. 9\. Received: 1 \.\. 10"),
    ],
)
def test_other_arrays_are_refused(arrays, tmp_path, name, change, message):
    np.savez(tmp_path / "cifar10.npz", **{**arrays, name: change(arrays[name])})
    with pytest.raises(ValueError, match=rf"{name} of .*cifar10\.npz must be {message}"):
        load_protocol("cifar10-train").load(tmp_path)


def test_without_tensorflow_datasets_the_file_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(FileNotFoundError, match=r"as cifar10\.npz where .* is not installed"):
        load_protocol("cifar10-full").load(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"fashion_mnist\.npz .* FASHION_MNIST\.write_file"):
        load_protocol("fashion-mnist").load(tmp_path)


# The real data

BESIDE_THE_CHECKOUT = Path(__file__).parents[2].parent / "shared" / "data" / "tfds"


@pytest.fixture(scope="module")
def data_dir():
    folder = Path(os.environ.get("TFPQN_DATA_DIR", BESIDE_THE_CHECKOUT))
    if not (folder / "cifar10").is_dir():
        pytest.skip(
            "needs CIFAR-10 as tensorflow-datasets prepares it; name its folder in TFPQN_DATA_DIR"
        )
    return folder


@pytest.fixture(scope="module")
def load(data_dir):
    """Loads a protocol by name, and reads the data once for all of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PreparedImages, "load", functools.cache(PreparedImages.load))
        yield lambda name: load_protocol(name).load(data_dir)


def counts(labels):
    return np.bincount(labels, minlength=10).tolist()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "train", "database", "query", "total"),
    [
        ("cifar10-full", 5000, 900, 100, 60_000),
        ("cifar10-5k", 500, 5400, 100, 60_000),
        ("cifar10-10kq", 5000, 5000, 1000, 60_000),
    ],
)
def test_each_label_has_its_number_of_images_and_no_query_is_searched_or_learned_from(
    load, name, train, database, query, total
):
    splits = load(name)
    ids = [set(part.ids.tolist()) for part in (splits.train, splits.database, splits.query)]
    assert set.union(*ids) == set(range(total))
    assert not ids[2] & (ids[0] | ids[1])
    assert (splits.train is splits.database) == bool(ids[0] & ids[1])
    assert counts(splits.train.labels) == [train] * 10
    assert counts(splits.database.labels) == [database] * 10
    assert counts(splits.query.labels) == [query] * 10
    for part in (splits.train, splits.database, splits.query):
        assert part.image_shape == load_protocol(name).image_shape == (32, 32, 3)
        assert part.label_names[:3] == ("airplane", "automobile", "bird")
        assert len(set(part.ids.tolist())) == len(part)
    assert load(name).describe() == splits.describe()


@pytest.mark.slow
def test_the_file_holds_what_was_prepared_in_the_same_order(load, data_dir, tmp_path):
    (tmp_path / "cifar10").symlink_to(data_dir / "cifar10")
    assert protocols.CIFAR10.write_file(tmp_path) == tmp_path / "cifar10.npz"
    # Where it lies, nothing else is read.
    (tmp_path / "cifar10").unlink()
    from_file, prepared = load_protocol("cifar10-5k").load(tmp_path), load("cifar10-5k")
    assert from_file.describe() == prepared.describe()
    for name in ("train", "database", "query"):
        one, other = getattr(from_file, name), getattr(prepared, name)
        np.testing.assert_array_equal(one.images, other.images)
        np.testing.assert_array_equal(one.labels, other.labels)
        assert one.label_names == other.label_names
