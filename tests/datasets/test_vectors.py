"""Laws of vectors of another model: each kind of file gives the same set; none is guessed at."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tfpqn.datasets import TrainingBatches, VectorSet, open_vectors, split_folder
from tfpqn.datasets.vectors import parquet
from tfpqn.index.schema import to_column

VECTORS = np.random.default_rng(0).normal(size=(50, 6)).astype(np.float32)
LABELS = np.arange(50) % 3


def write_parquet(path, vectors=VECTORS, **columns):
    lists = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])
    pq.write_table(pa.table({"vector": lists, **columns}), path, row_group_size=7)
    return path


def write_npy(path, vectors=VECTORS):
    np.save(path, vectors)
    return path


def read_all(vectors):
    return np.concatenate([batch.images for batch in vectors.batches(8)])


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".parquet"])
def test_every_kind_of_file_gives_the_same_vectors_in_any_order_of_rows(tmp_path, suffix):
    path = tmp_path / f"all{suffix}"
    if suffix == ".parquet":
        write_parquet(path)
    else:
        np.savez(path, vectors=VECTORS) if suffix == ".npz" else np.save(path, VECTORS)
    vectors = open_vectors(path)
    rows = np.random.default_rng(1).permutation(50)[:20]
    np.testing.assert_array_equal(read_all(vectors), VECTORS)
    np.testing.assert_array_equal(vectors.read(rows).images, VECTORS[rows])
    np.testing.assert_array_equal(vectors.ids, np.arange(50))
    assert not vectors.has_labels
    assert vectors.item_shape == (6,)


@pytest.mark.parametrize(
    "given",
    [
        np.asfortranarray(VECTORS),
        VECTORS.astype(">f8"),
        VECTORS.astype(np.float16),
        (VECTORS * 100).astype(np.int16),
        np.repeat(VECTORS, 2, axis=1)[:, ::2],
        VECTORS.tolist(),
    ],
    ids=["Fortran order", "big-endian doubles", "half precision", "integers", "strided", "lists"],
)
def test_numbers_of_any_dtype_and_order_become_float32_rows(given):
    read = read_all(VectorSet(given))
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, np.asarray(given, np.float32))


def test_a_parquet_file_brings_ids_labels_and_metadata_that_a_part_keeps(tmp_path):
    ids = [f"item {row}" for row in range(50)]
    columns = {"id": ids, "label": [f"kind {label}" for label in LABELS], "price": np.arange(50.0)}
    vectors = open_vectors(write_parquet(tmp_path / "all.parquet", **columns))
    part = vectors.subset(np.array([49, 3]))
    assert part.ids.tolist() == ["item 49", "item 3"]
    assert [part.label_names[label] for label in part.labels] == ["kind 1", "kind 0"]
    assert part.metadata["price"].tolist() == [49.0, 3.0]
    np.testing.assert_array_equal(read_all(part), VECTORS[[49, 3]])


def test_metadata_keep_their_type_where_all_of_a_batch_are_missing(tmp_path):
    known = {"flag": [True] * 10, "count": [7] * 10, "share": [0.5] * 10, "name": ["a"] * 10}
    columns = {name: [None] * 40 + values for name, values in known.items()}
    vectors = open_vectors(write_parquet(tmp_path / "all.parquet", **columns))
    part = vectors.subset(np.arange(10, 50))
    for rows in (np.arange(5), np.array([39, 0])):
        found = {name: to_column(values, name) for name, values in part.metadata_at(rows).items()}
        kinds = {name: str(column.type) for name, column in found.items()}
        assert kinds == {"flag": "bool", "count": "int64", "share": "double", "name": "string"}
        for name, column in found.items():
            assert column.to_pylist() == [columns[name][10 + row] for row in rows]


def test_a_column_of_labels_is_one_label_a_vector_and_rows_of_counts_are_refused(
    tmp_path,
):
    np.savez(tmp_path / "a.npz", vectors=VECTORS, label=(LABELS + 254)[:, np.newaxis])
    vectors = open_vectors(tmp_path / "a.npz")
    assert vectors.labels.tolist() == LABELS.tolist()
    assert vectors.label_names == ("254", "255", "256")
    np.savez(tmp_path / "a.npz", vectors=VECTORS, label=np.full((50, 2), 256))
    with pytest.raises(ValueError, match="a.npz: labels must be .* of 0 and 1"):
        open_vectors(tmp_path / "a.npz")


def test_missing_labels_are_none_and_several_are_multi_hot(tmp_path):
    one = write_parquet(tmp_path / "one.parquet", label=[None, "b", "a", ""] + ["b"] * 46)
    vectors = open_vectors(one)
    assert vectors.labels[:4].tolist() == [-1, 1, 0, -1] and vectors.label_names == ("a", "b")
    several = write_parquet(tmp_path / "two.parquet", label=["a|b", "b"] * 25)
    assert open_vectors(several).labels[:2].tolist() == [[1, 1], [0, 1]]
    np.savez(tmp_path / "far.npz", vectors=VECTORS, label=np.where(LABELS, 10**15, 7), id=LABELS)
    with pytest.raises(ValueError, match="ids must be unique. Received: 0 17 times"):
        open_vectors(tmp_path / "far.npz")
    np.savez(tmp_path / "far.npz", vectors=VECTORS, label=np.where(LABELS, 10**15, 7))
    far = open_vectors(tmp_path / "far.npz")
    assert far.label_names == ("7", str(10**15)) and far.labels.max() == 1


def test_columns_that_no_index_keeps_are_left_out_by_name(tmp_path):
    others = {"code": ["x"] * 50, "none": pa.nulls(50), "size": np.arange(50)}
    path = write_parquet(tmp_path / "all.parquet", **others)
    with pytest.warns(UserWarning, match=r"Left out: \['code', 'none'\]"):
        assert list(open_vectors(path).metadata) == ["size"]


@pytest.mark.parametrize("ids", [np.arange(50) / 2, [None, *map(str, range(49))], ["a"] * 50])
def test_ids_that_are_no_names_of_one_item_each_are_refused(tmp_path, ids):
    path = write_parquet(tmp_path / "all.parquet", id=ids)
    with pytest.raises(ValueError, match="ids must be (unique|whole numbers of 64 bits, or text)"):
        open_vectors(path)


def test_a_parquet_file_too_large_to_hold_is_trained_on_by_rows_spread_over_it(
    tmp_path,
):
    vectors = open_vectors(write_parquet(tmp_path / "all.parquet", label=LABELS))
    held = vectors.held_in_memory(5 * 6 * 4)
    assert held.ids.tolist() == [0, 12, 24, 36, 49]
    np.testing.assert_array_equal(read_all(held), VECTORS[held.ids])
    np.testing.assert_array_equal(held.labels, LABELS[held.ids])
    assert len(vectors.held_in_memory(10**6)) == 50


def test_training_batches_of_vectors_are_float32_with_the_labels_of_their_rows():
    splits = split_folder(VectorSet(VECTORS, LABELS))
    batches = TrainingBatches(splits.train, 8, seed=3)
    for vectors, labels in (next(batches.arrays()), next(iter(batches.dataset()))):
        vectors, labels = np.asarray(vectors), np.asarray(labels)
        rows = (vectors[:, None] == VECTORS).all(axis=2).argmax(axis=1)
        assert vectors.dtype == np.float32
        np.testing.assert_array_equal(LABELS[rows], labels)


def test_vectors_without_pixels_are_not_augmented():
    with pytest.raises(ValueError, match=r"augment must be False.*shape \[6\]"):
        TrainingBatches(VectorSet(VECTORS, LABELS), 8, augment=True)


def write_twice(path):
    """A file of which two columns have one name."""
    columns = [pa.array(VECTORS.tolist()), pa.array(LABELS), pa.array(LABELS)]
    pq.write_table(pa.Table.from_arrays(columns, ["vector", "size", "size"]), path)
    return path


NAN = np.where(np.arange(50)[:, None] == 33, np.nan, VECTORS)


def write_lists(path, rows):
    pq.write_table(pa.table({"vector": pa.array(rows, pa.list_(pa.float32()))}), path)
    return path


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda at: at / "none.npy", "which does not exist"),
        (lambda at: at, "a folder"),
        (lambda at: write_npy(at / "a.npy").rename(at / "a.txt"), "one of .npy, .npz, .parquet"),
        (lambda at: write_npy(at / "a.npy", np.array([{}, {}])), "plain numbers"),
        (lambda at: write_npy(at / "a.npy", np.array([["a"]])), "real numbers"),
        (lambda at: write_npy(at / "a.npy", VECTORS + 1j), "complex"),
        (lambda at: write_npy(at / "a.npy", VECTORS[0]), r"\[num_vectors, dim\].*\[6\]"),
        (lambda at: write_npy(at / "a.npy", NAN), "finite.*1 of 50 rows.*row 33"),
        (lambda at: write_npy(at / "a.npy", VECTORS.astype(float) * 1e300), "finite.*float32"),
        (lambda at: write_parquet(at / "a.parquet", NAN), "group 4 must be finite"),
        (lambda at: write_parquet(at / "a.parquet", b=VECTORS.tolist()), "vectors.*2 columns"),
        (lambda at: write_twice(at / "a.parquet"), "several columns of one name"),
        (lambda at: write_lists(at / "a.parquet", [[1.0, 2.0], [1.0]]), "differ in width"),
        (lambda at: write_lists(at / "a.parquet", [[1.0], None]), "missing or differ in width"),
    ],
)
def test_what_is_no_file_of_vectors_is_refused_by_name(tmp_path, make, message):
    path = make(tmp_path)
    with pytest.raises((FileNotFoundError, ValueError), match=message) as caught:
        open_vectors(path)
    assert str(path) in str(caught.value)


def test_vectors_of_a_large_parquet_file_are_checked_as_they_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "CHECKED_BYTES", 0)
    path = write_parquet(tmp_path / "a.parquet", NAN)
    vectors = open_vectors(path)
    np.testing.assert_array_equal(vectors.read(np.arange(28)).images, VECTORS[:28])
    with pytest.raises(ValueError, match="a.parquet.*row group 4 must be finite"):
        vectors.read(np.array([34]))
    lists = pa.array([*VECTORS.tolist(), [1.0]], pa.list_(pa.float32()))
    pq.write_table(pa.table({"vector": lists}), path, row_group_size=10)
    vectors = open_vectors(path)
    np.testing.assert_array_equal(vectors.read(np.arange(50)).images, VECTORS)
    with pytest.raises(ValueError, match="a.parquet.*of the widths 6 and 1"):
        vectors.read(np.array([50]))
