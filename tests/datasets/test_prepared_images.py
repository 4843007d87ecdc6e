"""Laws of data sets in one file: it is read as it stands, or refused by name."""

import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tfpqn.datasets import load_protocol, protocols

Arrays = dict[str, Any]


@pytest.fixture(autouse=True)
def _few_images(monkeypatch: pytest.MonkeyPatch) -> None:
    few = dataclasses.replace(protocols.CIFAR10, num_train=20, num_test=10)
    monkeypatch.setattr(protocols, "CIFAR10", few)


@pytest.fixture
def arrays(rng: np.random.Generator) -> Arrays:
    return {
        "x_train": rng.integers(0, 256, (20, 32, 32, 3), dtype=np.uint8),
        "y_train": np.arange(20, dtype=np.uint8) % 10,
        "x_test": rng.integers(0, 256, (10, 32, 32, 3), dtype=np.uint8),
        "y_test": np.arange(10),
    }


def test_protocols_read_the_file_where_it_lies(arrays: Arrays, tmp_path: Path) -> None:
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
    ("change", "message"),
    [
        (lambda a: a.pop("y_test"), r"must hold the arrays .*without \['y_test'\]"),
        (
            lambda a: a.update(x_train=a["x_train"][:7]),
            r"x_train of .*cifar10\.npz must be uint8 \(20, 32, 32, 3\)\. Received: uint8 \(7, 32",
        ),
        (
            lambda a: a.update(x_test=a["x_test"] / 255),
            r"x_test of .* must be uint8 .* Received: float64 \(10, 32, 32, 3\)",
        ),
        (
            lambda a: a.update(y_train=a["y_train"][:, None]),
            r"y_train of .* must be integers \(20,\) in 0 \.\. 9\. Received: uint8 \(20, 1\)",
        ),
        (
            lambda a: a.update(y_test=a["y_test"] + 1),
            r"y_test of .* in 0 \.\. 9\. Received: 1 \.\. 10",
        ),
        (
            lambda a: a.update(y_test=np.array(["cat"] * 10, dtype=object)),
            r"must be an \.npz of plain arrays",
        ),
    ],
    ids=["missing", "too few", "floats", "a column", "out of range", "objects"],
)
def test_other_arrays_are_refused(
    arrays: Arrays, tmp_path: Path, change: Callable[[Arrays], Any], message: str
) -> None:
    change(arrays)
    np.savez(tmp_path / "cifar10.npz", **arrays)
    with pytest.raises(ValueError, match=message):
        load_protocol("cifar10-train").load(tmp_path)


def test_without_tensorflow_datasets_the_file_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(FileNotFoundError, match=r"as cifar10\.npz where .* is not installed"):
        load_protocol("cifar10-full").load(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"fashion_mnist\.npz .* FASHION_MNIST\.write_file"):
        load_protocol("fashion-mnist").load(tmp_path)
