"""Laws of growing an index with a network: it ends as if all had been coded together."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.training.tiny import (
    LABEL_NAMES,
    fill_weights_with_nan,
    make_clips,
    make_images,
    make_network,
    make_network_with,
)
from tfpqn.datasets import ImageArrays, ImageFolder
from tfpqn.index import CodeIndex, Growth, add_to_index, build_index, network_layout
from tfpqn.layers import TemporalProductQuantization


@pytest.fixture(scope="module")
def network() -> Any:
    return make_network()


@pytest.fixture(scope="module")
def images() -> ImageArrays:
    return make_images(30)


@pytest.fixture
def path(network: Any, images: ImageArrays, tmp_path: Path) -> Path:
    """An index of the first twenty images."""
    build_index(network, images.subset(np.arange(20)), tmp_path / "index")
    return tmp_path / "index"


@pytest.mark.parametrize("batch_size", [1, 7, 100])
def test_grown_index_equals_that_of_all_items(
    network: Any, images: ImageArrays, path: Path, tmp_path: Path, batch_size: int
) -> None:
    done: list[int] = []
    growth = add_to_index(
        network, images.subset(np.arange(15, 30)), path, batch_size=batch_size, progress=done.append
    )
    assert growth == Growth(num_added=10, num_updated=5)
    assert done[-1] == 15
    assert done == sorted(done)
    build_index(network, images, tmp_path / "all")
    grown, together = CodeIndex.load(path), CodeIndex.load(tmp_path / "all")
    np.testing.assert_array_equal(grown.codes, together.codes)
    np.testing.assert_array_equal(grown.ids, together.ids)
    assert grown.metadata.to_pylist() == together.metadata.to_pylist()
    CodeIndex.verify(path)


def test_known_item_gets_the_codes_of_its_new_image_in_its_place(
    network: Any, images: ImageArrays, path: Path
) -> None:
    before = CodeIndex.load(path)
    changed = ImageArrays(images.images[[25, 26]], [3, 3], np.array([4, 11]), LABEL_NAMES)
    assert add_to_index(network, changed, path) == Growth(num_added=0, num_updated=2)
    after = CodeIndex.load(path)
    np.testing.assert_array_equal(after.ids, before.ids)
    np.testing.assert_array_equal(after.codes[[4, 11]], network.encode(changed.images))
    others = np.setdiff1d(np.arange(20), [4, 11])
    np.testing.assert_array_equal(after.codes[others], before.codes[others])
    assert after.metadata["label_name"].to_pylist()[4] == LABEL_NAMES[3]


def test_labels_of_a_folder_get_the_numbers_that_their_names_have_in_the_index(
    network: Any, images: ImageArrays, tmp_path: Path
) -> None:
    """A folder counts its own subfolders from 0: that is not the count of the collection."""
    for folder, labels in (("old", ("bee", "dog")), ("new", ("auk", "dog"))):
        for number, label in enumerate(labels):
            file = tmp_path / folder / label / f"{folder}.png"
            file.parent.mkdir(parents=True)
            file.write_bytes(images.encoded_image(number))
    (tmp_path / "new" / "loose.png").write_bytes(images.encoded_image(5))
    (tmp_path / "new" / "dog" / "broken.png").write_text("not an image")
    build_index(network, ImageFolder(tmp_path / "old", (8, 8, 1)), tmp_path / "index")
    newer = ImageFolder(tmp_path / "new", (8, 8, 1))
    assert add_to_index(network, newer, tmp_path / "index") == Growth(3, 0)
    assert set(newer.skipped) == {"dog/broken.png"}
    index = CodeIndex.load(tmp_path / "index")
    found = {
        id_: (row["label_name"], row["label"])
        for id_, row in zip(index.ids, index.metadata.to_pylist(), strict=True)
    }
    assert found == {
        "bee/old.png": ("bee", 0),
        "dog/old.png": ("dog", 1),
        "auk/new.png": ("auk", 2),
        "dog/new.png": ("dog", 1),
        "loose.png": (None, -1),
    }


def test_index_keeps_its_columns_whatever_the_items_bring(
    network: Any, images: ImageArrays, path: Path, tmp_path: Path
) -> None:
    unnamed = ImageArrays(images.images[20:22], images.labels[20:22], images.ids[20:22])
    assert add_to_index(network, unnamed, path).num_added == 2
    names = CodeIndex.load(path).metadata["label_name"].to_pylist()
    assert names[20:] == [None, None]
    assert None not in names[:20]
    multi_hot = ImageArrays(images.images, np.eye(4, dtype=np.int64)[images.labels])
    build_index(network, multi_hot, tmp_path / "bare")
    add_to_index(network, images, tmp_path / "bare")
    assert CodeIndex.load(tmp_path / "bare").metadata.num_columns == 0


def test_clips_are_added_like_images(tmp_path: Path) -> None:
    network = make_network_with(TemporalProductQuantization(2, 2, 16))
    clips = make_clips(12)
    build_index(network, clips.subset(np.arange(8)), tmp_path / "index")
    assert add_to_index(network, clips.subset(np.arange(4, 12)), tmp_path / "index") == (4, 4)
    build_index(network, clips, tmp_path / "all")
    grown, together = (CodeIndex.load(tmp_path / name) for name in ("index", "all"))
    np.testing.assert_array_equal(grown.codes, together.codes)
    np.testing.assert_array_equal(grown.ids, together.ids)


def refuse_to_code(*_: Any) -> None:
    raise AssertionError("images were coded in vain")


def test_what_does_not_fit_is_refused_before_any_work(
    network: Any, images: ImageArrays, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = make_network()
    other.quantizer.codebooks.assign(np.array(other.quantizer.codebooks) + 0.1)
    for each in (network, other):
        monkeypatch.setattr(each, "predict_on_batch", refuse_to_code)
    with pytest.raises(ValueError, match="built with other codebooks"):
        add_to_index(other, images, path)
    with pytest.raises(FileNotFoundError, match="folder of an index"):
        add_to_index(network, images, tmp_path / "none")
    words = ImageArrays(images.images, images.labels, np.array([f"{n}" for n in range(30)]))
    with pytest.raises(TypeError, match="ids must hold values of type int64. Received: string"):
        add_to_index(network, words, path)
    double = ImageArrays(images.images, images.labels, np.arange(30) // 2)
    with pytest.raises(ValueError, match="ids must be unique"):
        add_to_index(network, double, path)
    with pytest.raises(ValueError, match="must have the network's shape"):
        add_to_index(network, ImageArrays(np.zeros((1, 9, 8, 1), np.uint8), [0]), path)


def test_failing_coding_leaves_the_index_as_it_was(
    images: ImageArrays, path: Path, tmp_path: Path
) -> None:
    before = {file.name: file.read_bytes() for file in path.iterdir()}
    with pytest.raises(ValueError, match="must be finite"):
        add_to_index(fill_weights_with_nan(make_network()), images, path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "1.png").write_text("not an image")
    with pytest.raises((TypeError, ValueError)):
        add_to_index(make_network(), ImageFolder(tmp_path / "empty", (8, 8, 1)), path)
    assert {file.name: file.read_bytes() for file in path.iterdir()} == before
    assert CodeIndex.load(path).layout == network_layout(make_network())
