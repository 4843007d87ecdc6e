"""Laws of the protocols: sizes as named, no image on two sides, the same split every time."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tfpqn.datasets import (
    ImageArrays,
    ImageFolder,
    Splits,
    load_protocol,
    protocol_names,
    split_folder,
)

CIFAR_NAMES = ("cifar10-full", "cifar10-5k", "cifar10-10kq")


@pytest.fixture(scope="module")
def digits() -> Splits:
    return load_protocol("digits").load(None)


def test_protocols_are_known_by_the_names_of_the_documents() -> None:
    assert set(protocol_names()) >= {"digits", *CIFAR_NAMES}
    for name in protocol_names():
        assert load_protocol(name).name == name
        assert load_protocol(name).description


def test_unknown_protocol_lists_the_known() -> None:
    with pytest.raises(ValueError, match="Received: 'mnist'") as caught:
        load_protocol("mnist")
    assert all(repr(name) in str(caught.value) for name in protocol_names())


def test_digits_have_the_sizes_of_their_description(digits: Splits) -> None:
    assert (len(digits.train), len(digits.database), len(digits.query)) == (1437, 1437, 360)
    assert np.bincount(digits.query.labels).tolist() == [36] * 10
    assert digits.database.label_names == tuple("0123456789")


def test_digits_are_on_one_side_each_and_none_is_lost(digits: Splits) -> None:
    ids = np.concatenate([digits.database.ids, digits.query.ids])
    np.testing.assert_array_equal(np.sort(ids), np.arange(1797))


def test_digits_are_pixels_of_the_promised_shape(digits: Splits) -> None:
    for part in (digits.train, digits.database, digits.query):
        assert part.image_shape == load_protocol("digits").image_shape == (8, 8, 1)
        assert part.images.dtype == np.uint8
        assert (part.images.min(), part.images.max()) == (0, 255)


def test_digits_are_split_the_same_way_every_time(digits: Splits) -> None:
    again = load_protocol("digits").load(Path("anything"))
    assert again.describe() == digits.describe()
    np.testing.assert_array_equal(again.query.images, digits.query.images)


def test_description_tells_sizes_and_splits_apart(digits: Splits) -> None:
    described = digits.describe()
    assert {name: part["num_images"] for name, part in described.items()} == {
        "train": 1437,
        "database": 1437,
        "query": 360,
    }
    assert described["train"] == described["database"] != described["query"]


@pytest.mark.parametrize("name", CIFAR_NAMES)
def test_missing_cifar10_says_how_to_get_it(name: str, tmp_path: Path) -> None:
    message = r"tensorflow_datasets\.load\('cifar10', data_dir=.*--data-dir"
    with pytest.raises(FileNotFoundError, match=message) as caught:
        load_protocol(name).load(tmp_path / "nothing here")
    assert re.search("Received: .*nothing here", str(caught.value))
    assert not (tmp_path / "nothing here").exists()


def labelled(*counts: int) -> ImageArrays:
    """So many images of label 0, of label 1, and so on, shuffled."""
    labels = np.repeat(np.arange(len(counts)), counts)
    np.random.default_rng(0).shuffle(labels)
    return ImageArrays(np.zeros((len(labels), 2, 2, 1), np.uint8), labels)


@pytest.mark.parametrize(
    ("share", "queries"), [(0.1, [3, 1, 1]), (0.4, [12, 4, 1]), (0.5, [15, 5, 1])]
)
def test_folder_gives_a_share_of_each_label_as_queries(share: float, queries: list[int]) -> None:
    splits = split_folder(labelled(30, 10, 2), share)
    assert np.bincount(splits.query.labels).tolist() == queries
    assert splits.train is splits.database
    rest = np.array([30, 10, 2]) - queries
    assert np.bincount(splits.database.labels).tolist() == rest.tolist()
    ids = np.concatenate([splits.database.ids, splits.query.ids])
    np.testing.assert_array_equal(np.sort(ids), np.arange(42))


@pytest.mark.parametrize("share", [0.01, 0.9, 0.99])
def test_each_label_of_a_folder_is_on_both_sides(share: float) -> None:
    splits = split_folder(labelled(20, 2, 3), share)
    assert set(splits.query.labels) == set(splits.database.labels) == {0, 1, 2}


@pytest.mark.parametrize("share", [-0.5, 1.0, 3.0])
def test_share_that_leaves_a_side_empty_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match=rf"query_share.*{share}"):
        split_folder(labelled(20, 20), share)


def test_folder_is_split_the_same_way_every_time() -> None:
    assert split_folder(labelled(9, 9)).describe() == split_folder(labelled(9, 9)).describe()


@pytest.mark.parametrize("counts", [(5,), (5, 1)])
def test_folder_needs_two_labels_with_two_images_each(counts: tuple[int, ...]) -> None:
    expected = re.escape(str(dict(enumerate(counts))))
    with pytest.raises(ValueError, match=f"at least two labels .*Received: {expected}"):
        split_folder(labelled(*counts))


def test_unlabelled_images_of_a_folder_take_no_part(tmp_path: Path) -> None:
    names = ["loose.png", *(f"{label}/{i}.png" for label in ("ant", "bee") for i in range(4))]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (4, 4)).save(tmp_path / name)
    splits = split_folder(ImageFolder(tmp_path, (4, 4, 3)).readable())
    assert sorted([*splits.database.ids, *splits.query.ids]) == sorted(names[1:])


def test_all_items_are_split_where_labels_do_not_matter():
    for images in (labelled(30), labelled(25, 1, 4), labelled(30).subset(np.arange(30))):
        splits = split_folder(images, 0.2, labelled=False)
        assert len(splits.query) == 6
        assert len(splits.database) == 24
        assert splits.train is splits.database


def test_a_single_item_cannot_be_split():
    with pytest.raises(ValueError, match="at least two readable items. Received: 1"):
        split_folder(labelled(1), labelled=False)
