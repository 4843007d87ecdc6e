"""Laws of the CIFAR-10 protocols, on the real data where it lies prepared."""

import functools
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from tfpqn.datasets import Splits, load_protocol
from tfpqn.datasets.prepared_images import CIFAR10, PreparedImages

pytestmark = pytest.mark.slow

BESIDE_THE_CHECKOUT = Path(__file__).parents[2].parent / "shared" / "data" / "tfds"


@pytest.fixture(scope="module")
def data_dir() -> Path:
    folder = Path(os.environ.get("TFPQN_DATA_DIR", BESIDE_THE_CHECKOUT))
    if not (folder / "cifar10").is_dir():
        pytest.skip(
            "needs CIFAR-10 as tensorflow-datasets prepares it; name its folder in TFPQN_DATA_DIR"
        )
    return folder


@pytest.fixture(scope="module")
def load(data_dir: Path) -> Iterator[Callable[[str], Splits]]:
    """Loads a protocol by name, and reads the data once for all of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PreparedImages, "load", functools.cache(PreparedImages.load))
        yield lambda name: load_protocol(name).load(data_dir)


def counts(labels: np.ndarray) -> list[int]:
    return np.bincount(labels, minlength=10).tolist()


@pytest.mark.parametrize(
    ("name", "train", "database", "query", "total"),
    [
        ("cifar10-full", 5000, 900, 100, 60_000),
        ("cifar10-5k", 500, 5400, 100, 60_000),
        ("cifar10-10kq", 5000, 5000, 1000, 60_000),
    ],
)
def test_each_label_has_its_number_of_images_and_no_query_is_searched_or_learned_from(
    load: Callable[[str], Splits], name: str, train: int, database: int, query: int, total: int
) -> None:
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


def test_the_file_holds_what_was_prepared_in_the_same_order(
    load: Callable[[str], Splits], data_dir: Path, tmp_path: Path
) -> None:
    (tmp_path / "cifar10").symlink_to(data_dir / "cifar10")
    assert CIFAR10.write_file(tmp_path) == tmp_path / "cifar10.npz"
    # Where it lies, nothing else is read.
    (tmp_path / "cifar10").unlink()
    from_file, prepared = load_protocol("cifar10-5k").load(tmp_path), load("cifar10-5k")
    assert from_file.describe() == prepared.describe()
    for name in ("train", "database", "query"):
        one, other = getattr(from_file, name), getattr(prepared, name)
        np.testing.assert_array_equal(one.images, other.images)
        np.testing.assert_array_equal(one.labels, other.labels)
        assert one.label_names == other.label_names
