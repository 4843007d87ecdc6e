"""Laws of building an index: it holds what the network makes of each image, and nothing else."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.training.tiny import LABEL_NAMES, fill_weights_with_nan, make_images, make_network
from tfpqn.datasets import ImageArrays, ImageFolder
from tfpqn.datasets.image_set import ImageBatch
from tfpqn.export import Searcher
from tfpqn.index import CodeIndex, add_to_index, build_index, network_layout


@pytest.fixture(scope="module")
def network() -> Any:
    return make_network()


@pytest.fixture(scope="module")
def images() -> ImageArrays:
    return make_images(30)


@pytest.fixture
def folder(tmp_path: Path, images: ImageArrays) -> Path:
    """Ten labelled images as files, one without a label, and two that are none."""
    for position in range(10):
        path = tmp_path / "images" / LABEL_NAMES[images.labels[position]] / f"{position}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(images.encoded_image(position))
    (tmp_path / "images" / "loose.png").write_bytes(images.encoded_image(10))
    (tmp_path / "images" / "ant" / "corrupt.png").write_text("not an image")
    (tmp_path / "images" / "dog" / "empty.png").touch()
    return tmp_path / "images"


@pytest.mark.parametrize("batch_size", [1, 7, 100])
def test_codes_are_those_of_the_network(
    network: Any, images: ImageArrays, tmp_path: Path, batch_size: int
) -> None:
    assert build_index(network, images, tmp_path / "index", batch_size=batch_size) == 30
    index = CodeIndex.load(tmp_path / "index")
    np.testing.assert_array_equal(index.codes, network.encode(images.images))
    np.testing.assert_array_equal(index.ids, images.ids)
    assert index.layout == network_layout(network)
    CodeIndex.verify(tmp_path / "index")


def test_codes_of_large_codebooks_keep_their_upper_bits(
    images: ImageArrays, tmp_path: Path
) -> None:
    network = make_network(num_codewords=1024)
    build_index(network, images, tmp_path / "index")
    index = CodeIndex.load(tmp_path / "index")
    assert index.codes.max() > 255
    np.testing.assert_array_equal(index.codes, network.encode(images.images))


def test_labels_and_their_names_are_kept_as_metadata(
    network: Any, images: ImageArrays, tmp_path: Path
) -> None:
    build_index(network, images, tmp_path / "index", batch_size=8)
    metadata = CodeIndex.load(tmp_path / "index").metadata
    assert metadata.column_names == ["label", "label_name"]
    assert metadata["label"].to_pylist() == images.labels.tolist()
    assert metadata["label_name"].to_pylist() == [LABEL_NAMES[label] for label in images.labels]


def test_labels_without_names_are_kept_as_numbers(
    network: Any, images: ImageArrays, tmp_path: Path
) -> None:
    build_index(network, ImageArrays(images.images, images.labels), tmp_path / "index")
    metadata = CodeIndex.load(tmp_path / "index").metadata
    assert metadata.column_names == ["label"]
    assert metadata["label"].to_pylist() == images.labels.tolist()


def test_multi_hot_labels_are_left_out(network: Any, images: ImageArrays, tmp_path: Path) -> None:
    multi_hot = ImageArrays(images.images, np.eye(4, dtype=np.int64)[images.labels])
    assert build_index(network, multi_hot, tmp_path / "index") == 30
    assert CodeIndex.load(tmp_path / "index").metadata.num_columns == 0


@pytest.mark.parametrize(
    ("ids", "id_type"),
    [
        (np.arange(30) * 10**12, "int64"),
        (np.arange(30, dtype=np.int32), "int64"),
        (np.array([f"image {i}" for i in range(30)]), "string"),
        (np.array([f"ü/{i}.png" for i in range(30)], dtype=object), "string"),
    ],
    ids=["int64", "int32", "fixed width", "objects"],
)
def test_ids_are_integers_or_strings(
    network: Any, images: ImageArrays, tmp_path: Path, ids: np.ndarray, id_type: str
) -> None:
    build_index(network, ImageArrays(images.images, images.labels, ids), tmp_path / "index")
    index = CodeIndex.load(tmp_path / "index")
    assert index.id_type == id_type
    assert index.ids.tolist() == ids.tolist()


def test_folder_is_coded_file_by_file(network: Any, folder: Path, tmp_path: Path) -> None:
    images = ImageFolder(folder, (8, 8, 1))
    assert build_index(network, images, tmp_path / "index", batch_size=4) == 11
    index = CodeIndex.load(tmp_path / "index")
    rows = {
        id_: (code.tolist(), label, name)
        for id_, code, label, name in zip(
            index.ids,
            index.codes,
            index.metadata["label"].to_pylist(),
            index.metadata["label_name"].to_pylist(),
            strict=True,
        )
    }
    for batch in images.batches(1):
        id_ = images.ids[batch.positions[0]]
        code, label, name = rows.pop(id_)
        assert code == np.array(network.encode(batch.images))[0].tolist()
        known = id_.split("/")[0] if "/" in id_ else None
        assert (name, label) == (known, LABEL_NAMES.index(known) if known else -1)
    assert not rows


def test_files_that_cannot_be_read_are_left_out_and_named(
    network: Any, folder: Path, tmp_path: Path
) -> None:
    images = ImageFolder(folder, (8, 8, 1))
    build_index(network, images, tmp_path / "index", batch_size=2)
    assert set(images.skipped) == {"ant/corrupt.png", "dog/empty.png"}
    ids = set(CodeIndex.load(tmp_path / "index").ids)
    assert ids == set(images.ids) - set(images.skipped)


def test_progress_counts_the_images_done(network: Any, images: ImageArrays, tmp_path: Path) -> None:
    done: list[int] = []
    build_index(network, images, tmp_path / "index", batch_size=8, progress=done.append)
    assert done == [8, 16, 24, 30]


class Stream(ImageArrays):
    """An image set that counts the batches it was asked for."""

    asked = 0

    def batches(self, batch_size: int, positions: np.ndarray | None = None) -> Iterator[ImageBatch]:
        for batch in super().batches(batch_size, positions):
            self.asked += 1
            yield batch


def test_a_batch_is_coded_before_the_next_is_asked_for(
    network: Any, images: ImageArrays, tmp_path: Path
) -> None:
    stream = Stream(images.images, images.labels)
    asked: list[int] = []
    build_index(
        network,
        stream,
        tmp_path / "index",
        batch_size=4,
        progress=lambda done: asked.append(stream.asked),
    )
    assert asked == list(range(1, 9))


def refuse_to_code(*_: Any) -> None:
    raise AssertionError("images were coded in vain")


def test_existing_path_is_refused_before_any_work(
    network: Any, images: ImageArrays, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "index").mkdir()
    (tmp_path / "index" / "mine.txt").write_text("mine")
    monkeypatch.setattr(network, "predict_on_batch", refuse_to_code)
    with pytest.raises(FileExistsError, match="index"):
        build_index(network, images, tmp_path / "index")
    assert [path.name for path in tmp_path.rglob("*")] == ["index", "mine.txt"]


def test_index_is_replaced_only_when_told_to(
    network: Any, images: ImageArrays, tmp_path: Path
) -> None:
    build_index(network, images, tmp_path / "index")
    fewer = images.subset(np.array([4, 2]))
    with pytest.raises(FileExistsError):
        build_index(network, fewer, tmp_path / "index")
    assert len(CodeIndex.load(tmp_path / "index")) == 30
    assert build_index(network, fewer, tmp_path / "index", overwrite=True) == 2
    assert CodeIndex.load(tmp_path / "index").ids.tolist() == [4, 2]


def test_embeddings_that_are_not_finite_are_refused_and_the_former_index_stays(
    network: Any, images: ImageArrays, tmp_path: Path
) -> None:
    build_index(network, images, tmp_path / "index")
    broken = fill_weights_with_nan(make_network())
    with pytest.raises(ValueError, match=r"must be finite.*for 30 images, the first with id .*0"):
        build_index(broken, images, tmp_path / "index", overwrite=True)
    assert CodeIndex.load(tmp_path / "index").layout == network_layout(network)
    assert [path.name for path in tmp_path.iterdir()] == ["index"]


@pytest.mark.parametrize("values", [np.nan, np.inf, 0.0])
def test_codebooks_that_cannot_tell_items_apart_are_refused(
    images: ImageArrays, tmp_path: Path, values: float
) -> None:
    """One value that is not finite is enough; zeros are where all are."""
    network = make_network()
    codebooks = np.array(network.quantizer.codebooks)
    codebooks[0, 0, 0] = values
    network.quantizer.codebooks.assign(codebooks if values else np.zeros_like(codebooks))
    message = "codebooks of the quantizer must be finite and not all zero.* Received: "
    with pytest.raises(ValueError, match=message):
        build_index(network, images, tmp_path / "index")
    build_index(make_network(), images, tmp_path / "index")
    with pytest.raises(ValueError, match=message):
        add_to_index(network, images, tmp_path / "index")
    with pytest.raises(ValueError, match=message):
        Searcher(network, CodeIndex.load(tmp_path / "index"))


def test_collection_without_a_readable_image_is_refused(network: Any, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "1.png").write_text("not an image")
    images = ImageFolder(tmp_path / "images", (8, 8, 1))
    with pytest.raises(ValueError, match="at least one readable image. Received: 1 images"):
        build_index(network, images, tmp_path / "index")
    assert not (tmp_path / "index").exists()
    assert images.skipped.keys() == {"1.png"}


def test_id_that_occurs_twice_is_refused(network: Any, images: ImageArrays, tmp_path: Path) -> None:
    ids = np.arange(30)
    ids[29] = 7
    with pytest.raises(ValueError, match="ids must be unique. Received: the id 7 2 times"):
        build_index(
            network,
            ImageArrays(images.images, images.labels, ids),
            tmp_path / "index",
            batch_size=8,
        )
    assert list(tmp_path.iterdir()) == []


def test_index_belongs_to_its_network(network: Any, images: ImageArrays, tmp_path: Path) -> None:
    build_index(network, images, tmp_path / "index")
    index = CodeIndex.load(tmp_path / "index")
    index.require_layout(network_layout(network))
    other = make_network()
    other.quantizer.codebooks.assign(np.array(other.quantizer.codebooks) + 0.1)
    with pytest.raises(ValueError, match="built with other codebooks"):
        index.require_layout(network_layout(other))
