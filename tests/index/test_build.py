"""Laws of building and growing an index with a network: it holds the codes of the items."""

import numpy as np
import pytest

from tests.index.small_index import contents_of, names_in
from tests.training.tiny import LABEL_NAMES, fill_weights_with_nan, make_images, make_network
from tfpqn.datasets import ImageArrays, ImageFolder
from tfpqn.export import Searcher
from tfpqn.index import (
    CodeIndex,
    Growth,
    add_to_index,
    build_index,
    compare_index,
    network_layout,
    remove_from_index,
    update_index,
)
from tfpqn.index.number_rows import read_embeddings


@pytest.fixture(scope="module")
def network():
    return make_network()


@pytest.fixture(scope="module")
def images():
    return make_images(30)


@pytest.fixture
def path(network, images, tmp_path):
    """An index of the first twenty images."""
    build_index(network, images.subset(np.arange(20)), tmp_path / "index")
    return tmp_path / "index"


def write_files(folder, images, names):
    for position, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(images.encoded_image(position))
    return ImageFolder(folder, (8, 8, 1))


def rows_of(index):
    """Id -> (name of the label, its number)."""
    rows = index.metadata.to_pylist()
    pairs = [(row["label_name"], row["label"]) for row in rows]
    return dict(zip(index.ids, pairs, strict=True))


def test_codes_ids_and_labels_are_those_of_network_and_items(images, tmp_path):
    network, path, done = make_network(num_codewords=1024), tmp_path / "index", []
    assert build_index(network, images, path, batch_size=7, progress=done.append) == 30
    assert done == [7, 14, 21, 28, 30]
    index = CodeIndex.load(path)
    np.testing.assert_array_equal(index.codes, network.encode(images.images))
    np.testing.assert_array_equal(index.ids, images.ids)
    assert index.layout == network_layout(network)
    assert list(rows_of(index).values()) == [(LABEL_NAMES[n], n) for n in images.labels]
    CodeIndex.verify(path)


@pytest.mark.parametrize(
    ("labels", "columns"), [(np.arange(30) % 4, ["label"]), (np.eye(30, dtype=np.int64), [])]
)
def test_labels_without_names_are_numbers_and_multi_hot_ones_are_left_out(
    network, images, tmp_path, labels, columns
):
    build_index(network, ImageArrays(images.images, labels), tmp_path / "index")
    assert CodeIndex.load(tmp_path / "index").metadata.column_names == columns
    add_to_index(network, make_images(40), tmp_path / "index")
    assert CodeIndex.load(tmp_path / "index").metadata.column_names == columns


def test_several_labels_of_an_item_are_kept_by_their_names(network, images, tmp_path):
    labels = np.stack([np.arange(30) % 2, np.arange(30) % 3 == 0], axis=1).astype(np.int64)
    named = ImageArrays(images.images, labels, label_names=("odd", "third"))
    build_index(network, named, tmp_path / "index")
    column = CodeIndex.load(tmp_path / "index").metadata["labels"]
    assert column.to_pylist()[:4] == [["third"], ["odd"], [], ["odd", "third"]]


@pytest.mark.parametrize("values", [np.nan, 0.0])
def test_codebooks_that_cannot_code_are_refused(images, path, tmp_path, values):
    network = make_network()
    codebooks = np.array(network.quantizer.codebooks)
    codebooks[0, 0, 0] = values
    network.quantizer.codebooks.assign(codebooks if values else np.zeros_like(codebooks))
    message = "codebooks of the quantizer must be finite and not all zero.* Received: "
    with pytest.raises(ValueError, match=message):
        build_index(network, images, tmp_path / "new")
    with pytest.raises(ValueError, match=message):
        add_to_index(network, images, path)
    with pytest.raises(ValueError, match=message):
        Searcher(network, CodeIndex.load(path))


def test_what_fails_while_it_codes_leaves_the_index_as_it_was(network, images, path, tmp_path):
    before = contents_of(path)
    broken = fill_weights_with_nan(make_network())
    with pytest.raises(ValueError, match=r"must be finite.*for 30 items, the first with id .*0"):
        build_index(broken, images, path, overwrite=True)
    with pytest.raises(ValueError, match="must be finite"):
        add_to_index(broken, images, path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "1.png").write_text("not an image")
    empty = ImageFolder(tmp_path / "empty", (8, 8, 1))
    with pytest.raises(ValueError, match="at least one readable item. Received: 1 items"):
        build_index(network, empty, path, overwrite=True)
    assert empty.skipped.keys() == {"1.png"}
    assert contents_of(path) == before
    assert names_in(tmp_path) == ["empty", "index"]


@pytest.mark.parametrize("keep_embeddings", [False, True])
def test_grown_index_equals_that_of_all_items(network, images, path, tmp_path, keep_embeddings):
    done: list[int] = []
    build_index(
        network, images.subset(np.arange(20)), path, overwrite=True, keep_embeddings=keep_embeddings
    )
    newer = images.subset(np.arange(15, 30))
    growth = add_to_index(network, newer, path, batch_size=7, progress=done.append)
    assert growth == Growth(num_added=10, num_updated=5)
    assert done == [7, 14, 15]
    build_index(network, images, tmp_path / "all", keep_embeddings=keep_embeddings)
    grown, together = CodeIndex.load(path), CodeIndex.load(tmp_path / "all")
    assert grown.table.equals(together.table)
    CodeIndex.verify(path)
    if keep_embeddings:
        expected = np.asarray(network.embed(images.images)).astype(np.float16)
        embeddings = read_embeddings(grown.metadata, expected.shape[1])
        np.testing.assert_allclose(embeddings, expected, rtol=1e-3, atol=1e-4)
        bare = CodeIndex(grown.layout, grown.codes[:1], [0])
        with pytest.raises(ValueError, match="must have embeddings, as those of the index"):
            update_index(path, bare)
        assert remove_from_index(path, [3]).metadata_columns["embedding"] == "float16[16]"
        assert compare_index(path, [tmp_path / "all"], ["embedding"]).hidden.to_pylist() == [3]


def test_folder_is_coded_without_broken_files_and_labels_keep_the_numbers_of_the_index(
    network, images, tmp_path
):
    """A folder counts its own subfolders from 0: that is not the count of the collection."""
    path = tmp_path / "index"
    (tmp_path / "old" / "dog").mkdir(parents=True)
    (tmp_path / "old" / "dog" / "broken.png").write_text("not an image")
    older = write_files(tmp_path / "old", images, ["dog/1.png", "bee/1.png"])
    newer = write_files(tmp_path / "new", images, ["auk/2.png", "dog/2.png", "loose.png"])
    assert build_index(network, older, path) == 2
    assert set(older.skipped) == {"dog/broken.png"}
    np.testing.assert_array_equal(CodeIndex.load(path).codes, network.encode(images.images[[1, 0]]))
    assert add_to_index(network, newer, path) == Growth(3, 0)
    assert rows_of(CodeIndex.load(path)) == {
        "bee/1.png": ("bee", 0),
        "dog/1.png": ("dog", 1),
        "auk/2.png": ("auk", 2),
        "dog/2.png": ("dog", 1),
        "loose.png": (None, -1),
    }


def refuse_to_code(*_):
    raise AssertionError("images were coded in vain")


def test_what_does_not_fit_is_refused_before_any_work(network, images, path, tmp_path, monkeypatch):
    other = make_network()
    other.quantizer.codebooks.assign(np.array(other.quantizer.codebooks) + 0.1)
    for each in (network, other):
        monkeypatch.setattr(each, "predict_on_batch", refuse_to_code)
    with pytest.raises(ValueError, match="built with other codebooks"):
        add_to_index(other, images, path)
    with pytest.raises(FileNotFoundError, match="folder of an index"):
        add_to_index(network, images, tmp_path / "none")
    words = ImageArrays(images.images, images.labels, np.array([f"{n}" for n in range(30)]))
    with pytest.raises(TypeError, match="'ids' must hold values of type int64. Received: string"):
        add_to_index(network, words, path)
    with pytest.raises(FileExistsError):
        build_index(network, images, path)
    double = ImageArrays(images.images, images.labels, np.arange(30) // 2)
    for write in (add_to_index, lambda *given: build_index(*given, overwrite=True)):
        with pytest.raises(ValueError, match="ids must be unique. Received: the id 0 2 times"):
            write(network, double, path)
        with pytest.raises(ValueError, match="must have the network's shape"):
            write(network, ImageArrays(np.zeros((1, 9, 8, 1), np.uint8), [0]), path)
