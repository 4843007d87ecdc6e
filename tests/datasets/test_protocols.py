"""Laws of the protocols: sizes as named, no image on two sides, the same split every time."""

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.datasets.pictures import write_image
from tfpqn.datasets import ImageArrays, ImageFolder, load_protocol, protocol_names, split_folder


@pytest.fixture(scope="module")
def digits():
    return load_protocol("digits").load(None)


def test_unknown_protocol_lists_the_known():
    with pytest.raises(ValueError, match="Received: 'mnist'") as caught:
        load_protocol("mnist")
    assert all(repr(name) in str(caught.value) for name in protocol_names())


def test_digits_have_the_sizes_of_their_description(digits):
    assert (len(digits.train), len(digits.database), len(digits.query)) == (1437, 1437, 360)
    assert np.bincount(digits.query.labels).tolist() == [36] * 10
    assert digits.database.label_names == tuple("0123456789")
    ids = np.concatenate([digits.database.ids, digits.query.ids])
    np.testing.assert_array_equal(np.sort(ids), np.arange(1797))
    for part in (digits.train, digits.query):
        assert part.image_shape == load_protocol("digits").image_shape == (8, 8, 1)
        assert (part.images.min(), part.images.max()) == (0, 255)


def test_digits_are_split_the_same_way_every_time(digits):
    again = load_protocol("digits").load(Path("anything"))
    assert again.describe() == digits.describe()
    np.testing.assert_array_equal(again.query.images, digits.query.images)


def test_missing_cifar10_says_how_to_get_it(tmp_path):
    message = r"tensorflow_datasets\.load\('cifar10', data_dir=.*--data-dir"
    with pytest.raises(FileNotFoundError, match=message) as caught:
        load_protocol("cifar10-5k").load(tmp_path / "nothing here")
    assert re.search("Received: .*nothing here", str(caught.value))
    assert not (tmp_path / "nothing here").exists()


def labelled(*counts):
    """So many images of label 0, of label 1, and so on, shuffled."""
    labels = np.repeat(np.arange(len(counts)), counts)
    np.random.default_rng(0).shuffle(labels)
    return ImageArrays(np.zeros((len(labels), 2, 2, 1), np.uint8), labels)


def sides(splits):
    """Id as text -> whether the item is a query; an item is on one side."""
    query, rest = set(map(str, splits.query.ids)), set(map(str, splits.database.ids))
    assert not query & rest
    assert splits.train is splits.database
    return dict.fromkeys(query, True) | dict.fromkeys(rest, False)


def named(labels, seed):
    """Images with random ids that look like paths."""
    numbers = np.random.default_rng(seed).permutation(10**6)[: len(labels)]
    ids = np.array([f"photos/{number}.jpg" for number in numbers], object)
    return ImageArrays(np.zeros((len(labels), 2, 2, 1), np.uint8), labels, ids)


@pytest.mark.parametrize("share", [0.1, 0.4])
def test_folder_gives_a_share_of_each_label_as_queries(share):
    splits = split_folder(labelled(2000, 900, 2), share)
    assert len(sides(splits)) == 2902
    queries = np.bincount(splits.query.labels)
    # Four standard deviations of a draw item by item.
    for count, found in ((2000, queries[0]), (900, queries[1])):
        assert abs(found - share * count) < 4 * (share * (1 - share) * count) ** 0.5
    assert queries[2] == 1


@given(
    counts=st.lists(st.integers(2, 40), min_size=2, max_size=5),
    share=st.sampled_from([0.0, 0.1, 0.5, 0.9]),
    seed=st.integers(0, 99),
)
def test_an_item_that_comes_or_goes_moves_no_other(counts, share, seed):
    """But one of its label, where the label has no query, or no other item, by the hash alone."""
    images = named(np.repeat(np.arange(len(counts)), counts), seed)
    everything = sides(split_folder(images, share))
    gone = np.random.default_rng(seed).integers(len(images))
    if counts[images.labels[gone]] == 2:
        return
    rest = images.subset(np.delete(np.arange(len(images)), gone))
    moved = [
        id_ for id_, side in sides(split_folder(rest, share)).items() if everything[id_] != side
    ]
    label_of = dict(zip(images.ids, images.labels, strict=True))
    mates = [side for id_, side in everything.items() if label_of[id_] == images.labels[gone]]
    assert len(moved) <= (sum(mates) == 1 or sum(mates) == len(mates) - 1)
    assert all(label_of[id_] == images.labels[gone] for id_ in moved)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.9, 0.99])
def test_each_label_of_a_folder_is_on_both_sides(share):
    for seed in range(20):
        splits = split_folder(named(np.repeat(np.arange(3), (20, 2, 3)), seed), share)
        assert set(splits.query.labels) == set(splits.database.labels) == {0, 1, 2}


def test_items_of_a_group_are_never_parted():
    rng = np.random.default_rng(1)
    images, groups = named(np.arange(400) % 4, 0), rng.integers(60, size=400)
    splits = split_folder(images, groups=groups)
    group_of = dict(zip(images.ids, groups.tolist(), strict=True))
    query, rest = ({group_of[id_] for id_ in part.ids} for part in (splits.query, splits.train))
    assert not query & rest
    assert set(splits.query.labels) == set(splits.train.labels) == {0, 1, 2, 3}
    assert 10 < len(splits.query) < 100
    with pytest.raises(ValueError, match="one entry for each of 400 items. Received: 3"):
        split_folder(images, groups=groups[:3])
    with pytest.raises(ValueError, match="A split needs .* Received: 0 queries among 400 items"):
        split_folder(images, groups=np.zeros(400))


def test_items_of_several_labels_are_split_too():
    rng = np.random.default_rng(2)
    labels = (rng.random((300, 5)) < 0.3).astype(np.int64)
    splits = split_folder(named(labels, 0))
    assert len(sides(splits)) == labels.any(axis=1).sum()
    assert (splits.query.labels.sum(axis=0) > 0).all()
    assert (splits.train.labels.sum(axis=0) > 0).all()


def test_known_items_keep_their_side_and_the_hash_decides_on_others():
    images = named(np.arange(60) % 2, 3)
    expected = sides(split_folder(images))
    known = {id_: not side for id_, side in list(expected.items())[:30]}
    assert sides(split_folder(images, known=known)) == expected | known


@pytest.mark.parametrize("share", [-0.5, 1.0, 3.0])
def test_share_that_leaves_a_side_empty_is_refused(share):
    with pytest.raises(ValueError, match=rf"query_share.*{share}"):
        split_folder(labelled(20, 20), share)


@pytest.mark.parametrize("counts", [(5,), (5, 1)])
def test_folder_needs_two_labels_with_two_images_each(counts):
    expected = re.escape(str(dict(enumerate(counts))))
    with pytest.raises(ValueError, match=f"at least two labels .*Received: {expected}"):
        split_folder(labelled(*counts))
    with pytest.raises(ValueError, match="at least two readable items. Received: 1"):
        split_folder(labelled(1), labelled=False)


def test_unlabelled_images_of_a_folder_take_no_part(tmp_path):
    names = ["loose.png", *(f"{label}/{i}.png" for label in ("ant", "bee") for i in range(4))]
    for name in names:
        write_image(tmp_path / name)
    splits = split_folder(ImageFolder(tmp_path, (4, 4, 3)).readable())
    assert sorted([*splits.database.ids, *splits.query.ids]) == sorted(names[1:])


def test_all_items_are_split_where_labels_do_not_matter():
    for images in (labelled(30), labelled(25, 1, 4), labelled(30).subset(np.arange(30))):
        splits = split_folder(images, 0.2, labelled=False)
        assert len(sides(splits)) == 30
        assert 1 <= len(splits.query) <= 14
