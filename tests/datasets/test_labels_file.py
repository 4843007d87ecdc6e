"""Laws of label tables: an item gets what a person wrote in its row, or an error says why."""

import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from tests.datasets.pictures import patches, save
from tfpqn.datasets import ImageArrays, ImageFolder, LabelsFile, read_labels

ROWS = [("a/b.jpg", "cat"), ("a/c.jpg", "dog | cat"), ("d.jpg", "")]


def write(folder, text, name="labels.csv"):
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def make_items(ids):
    """Images whose own labels are all -1."""
    images = np.arange(len(ids), dtype=np.uint8).reshape(-1, 1, 1, 1).repeat(2, axis=1)
    return ImageArrays(images, np.full(len(ids), -1), np.array(ids))


def write_as(folder, form, rows):
    if form == "parquet":
        path = folder / "labels.parquet"
        columns = zip(*rows, strict=True)
        parquet.write_table(pa.table(dict(zip(("item", "label"), columns, strict=True))), path)
        return path
    mark = {"csv": ",", "tsv": "\t"}[form]
    lines = [mark.join(row) for row in [("item", "label"), *rows]]
    return write(folder, "\n".join(lines) + "\n", f"labels.{form}")


# Reading


@pytest.mark.parametrize("form", ["csv", "tsv", "parquet"])
def test_every_form_of_a_table_tells_the_same(tmp_path, form):
    found = read_labels(write_as(tmp_path, form, ROWS))
    assert found.ids == ("a/b.jpg", "a/c.jpg", "d.jpg")
    assert found.labels == (("cat",), ("dog", "cat"), ())
    assert found.splits is found.groups is None
    assert found.label_names == ("cat", "dog")


def test_tables_of_spreadsheets_are_read(tmp_path):
    """A mark of byte order, line ends of Windows, quotes, blank lines, spaces after commas."""
    text = '\ufefffile, label\r\n"a,b.jpg", "x"\r\n\r\né.jpg,  y |  | y\r\nc.jpg,NA\r\n'
    path = tmp_path / "labels.CSV"
    path.write_bytes(text.encode())
    found = read_labels(path)
    assert found.ids == ("a,b.jpg", "é.jpg", "c.jpg")
    assert found.labels == (('"x"',), ("y",), ("NA",))


def test_numbers_stay_the_text_that_they_are_and_sort_as_numbers(tmp_path):
    found = read_labels(write(tmp_path, "id,label\n0,10\n1,9\n2,007\n3,b2\n4,b10\n5,1e3\n"))
    assert found.label_names == ("1e3", "007", "9", "10", "b2", "b10")
    assert found.labels[2] == ("007",)


@given(st.lists(st.integers(0, 10**30), unique=True))
def test_whole_numbers_as_text_sort_by_their_size(numbers):
    labels_file = LabelsFile(Path("x"), tuple(map(str, numbers)), tuple((str(n),) for n in numbers))
    assert labels_file.label_names == tuple(map(str, sorted(numbers)))


def test_columns_of_parquet_may_hold_numbers_and_gaps(tmp_path):
    path = tmp_path / "labels.parquet"
    columns = {
        "row": pa.array([2, 0, 1]),
        "label": pa.array(["a", None, "b"]).dictionary_encode(),
        "group": pa.array([7, None, 7]),
        "embedding": pa.array([[0.5], [1.0], None]),
    }
    parquet.write_table(pa.table(columns), path)
    found = read_labels(path)
    assert found.ids == ("2", "0", "1")
    assert found.labels == (("a",), (), ("b",))
    assert found.groups == ("7", "", "7")


def test_several_columns_are_put_together_under_their_names(tmp_path):
    path = write(
        tmp_path, "file,fine,coarse,kind\n1,Gala,Apple,x\n2,Anjou,Pear|Fruit,y\n3,,Pear,\n"
    )
    found = read_labels(path, ["fine", "coarse"])
    assert found.labels == (
        ("fine=Gala", "coarse=Apple"),
        ("fine=Anjou", "coarse=Pear", "coarse=Fruit"),
        ("coarse=Pear",),
    )
    assert read_labels(path, ["fine"]).labels == (("Gala",), ("Anjou",), ())


REFUSED = {
    "no label column": ("file,tag\na,b\n", r"column 'label' after the first.*\['file', 'tag'\]"),
    "labels alone": (
        "label\na\n",
        r"column 'label' after the first.*Received: columns \['label'\]",
    ),
    "semicolons": ("file;label\na;b\n", "Received: columns .'file;label'"),
    "two columns": ("file,label,label\na,b,c\n", "must have one column 'label'"),
    "no rows": ("file,label\n", "must hold rows below its header"),
    "nothing": ("", "table of UTF-8 text.*Received: Empty CSV file"),
    "a name twice": ("file,label\na,x\nb,y\na,z\n", "'file'.*'a' in row 4, as row 2"),
    "no name": ("file,label\na,x\n ,y\n", "'file'.* must name an item.*'' in row 3"),
    "too many cells": ("file,label\na,x\nb,y,z\n", "Row #3: Expected 2 columns, got 3: b,y,z"),
    "another split": (
        "file,label,split\na,x,train\nb,x,val\n",
        "'split'.*one of train, database, query. Received: 'val' in row 3",
    ),
    "a parted group": (
        "file,label,split,group\na,x,train,g\nb,x,query,\nc,x,query,g\n",
        r"group 'g' in train \(row 2\) and in query \(row 4\)",
    ),
}


@pytest.mark.parametrize(("text", "message"), REFUSED.values(), ids=REFUSED)
def test_tables_that_cannot_be_meant_are_refused(tmp_path, text, message):
    path = write(tmp_path, text)
    with pytest.raises(ValueError, match=message) as raised:
        read_labels(path)
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_files_of_other_forms_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="must be a file.*none.csv', which does not exist"):
        read_labels(tmp_path / "none.csv")
    with pytest.raises(FileNotFoundError, match="Received: .*, a folder"):
        read_labels(tmp_path)
    with pytest.raises(ValueError, match=r"must end in one of .csv, .tsv, .parquet. Received: .*x"):
        read_labels(write(tmp_path, "file,label\n", "labels.xlsx"))
    with pytest.raises(ValueError, match=r"or in Parquet.*Received: Parquet magic bytes"):
        read_labels(write(tmp_path, "file,label\na,b\n", "labels.parquet"))
    latin = tmp_path / "latin.csv"
    latin.write_bytes("file,label\na,caf\xe9\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"UTF-8 text.*column #1: Row #2.*invalid UTF8"):
        read_labels(latin)
    with pytest.raises(ValueError, match="at least one column. Received: none"):
        read_labels(latin, [])


def test_lists_are_no_text_and_rows_of_parquet_count_from_one(tmp_path):
    path = tmp_path / "labels.parquet"
    parquet.write_table(pa.table({"id": ["a"], "label": [["x", "y"]]}), path)
    with pytest.raises(ValueError, match=r"Column 'label' of .* text or numbers. Received: list"):
        read_labels(path)
    parquet.write_table(pa.table({"id": ["a", "a"], "label": ["x", "y"]}), path)
    with pytest.raises(ValueError, match="'a' in row 2, as row 1"):
        read_labels(path)


# Labels of a set


def test_items_of_at_most_one_label_get_numbers_in_the_order_of_the_set(tmp_path):
    labels_file = read_labels(write(tmp_path, "id,label\n2,10\n0,9\n1,\n3,9\n"))
    items = make_items([0, 1, 2, 3])
    found = labels_file.apply(items)
    assert found.label_names == ("9", "10")
    assert found.labels.dtype == np.int64
    np.testing.assert_array_equal(found.labels, [0, -1, 1, 0])
    np.testing.assert_array_equal(found.read(np.array([2])).images, items.images[2:3])
    np.testing.assert_array_equal(items.labels, -1)
    assert items.label_names == ()


def test_items_of_several_labels_get_multi_hot_rows(tmp_path):
    labels_file = read_labels(write_as(tmp_path, "csv", ROWS))
    found = labels_file.apply(make_items(["d.jpg", "a/c.jpg", "a/b.jpg"]))
    assert found.label_names == ("cat", "dog")
    np.testing.assert_array_equal(found.labels, [[0, 0], [1, 1], [1, 0]])


def test_a_folder_is_labelled_by_its_relative_paths(tmp_path):
    for name in ("a/b.png", "a/c.png", "d.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(save(patches(), "PNG"))
    (tmp_path / "a" / "c.png").write_bytes(b"torn")
    path = write(tmp_path, "file,label,split\nd.png,x,query\na/b.png,y,train\na/c.png,x,train\n")
    images = read_labels(path).apply(ImageFolder(tmp_path, (8, 8, 3)))
    assert images.ids.tolist() == ["a/b.png", "a/c.png", "d.png"]
    assert images.label_names == ("x", "y")
    np.testing.assert_array_equal(images.labels, [1, 0, 0])
    np.testing.assert_array_equal(images.readable().labels, [1, 0])
    splits = read_labels(path).split(images.readable(), labelled=False)
    assert (splits.train.ids.tolist(), splits.query.ids.tolist()) == (["a/b.png"], ["d.png"])


def test_items_without_a_row_are_an_error_or_have_no_label(tmp_path):
    labels_file = read_labels(write_as(tmp_path, "csv", ROWS[:1]))
    items = make_items(["x.jpg", "a/b.jpg", "y.jpg"])
    with pytest.raises(ValueError, match="2 of 3 items without a row, the first 'x.jpg'"):
        labels_file.apply(items)
    np.testing.assert_array_equal(
        labels_file.apply(items, missing="unlabelled").labels, [-1, 0, -1]
    )
    several = read_labels(write_as(tmp_path, "csv", ROWS[1:2])).apply(
        make_items(["a/c.jpg", "x.jpg"]), missing="unlabelled"
    )
    np.testing.assert_array_equal(several.labels, [[1, 1], [0, 0]])
    with pytest.raises(ValueError, match="'error' or 'unlabelled'. Received: 'drop'"):
        labels_file.apply(items, missing="drop")  # type: ignore[arg-type]


def test_rows_without_an_item_are_an_error_that_shows_an_id_of_the_set(tmp_path):
    labels_file = read_labels(write_as(tmp_path, "csv", ROWS))
    message = "such as 'a/b.jpg'. Received: 2 of 3 names that it does not .* 'a/c.jpg' in row 3"
    for missing in ("error", "unlabelled"):
        with pytest.raises(ValueError, match=message):
            labels_file.apply(make_items(["a/b.jpg"]), missing=missing)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=re.escape("such as '0'. Received: 3 of 3")):
        labels_file.apply(make_items(range(3)))
    part = labels_file.apply(make_items(["a/b.jpg"]), partial=True)
    assert part.label_names == labels_file.label_names


# Splits


def split(tmp_path, text, ids, **options):
    labels_file = read_labels(write(tmp_path, text))
    splits = labels_file.split(labels_file.apply(make_items(ids)), **options)
    return {name: getattr(splits, name).ids.tolist() for name in ("train", "database", "query")}


def test_the_training_items_are_searched_unless_there_is_a_database(tmp_path):
    text = "id,label,split\n0,a,train\n1,b, train \n2,a,query\n"
    assert split(tmp_path, text, range(3)) == {"train": [0, 1], "database": [0, 1], "query": [2]}
    found = split(tmp_path, text + "3,b,database\n", range(4))
    assert found == {"train": [0, 1], "database": [3], "query": [2]}


def test_unlabelled_items_are_searched_but_not_trained_on(tmp_path):
    text = "id,label,split\n0,a,train\n1,b,train\n2,,train\n3,a,query\n4,,query\n"
    found = split(tmp_path, text, range(5))
    assert found == {"train": [0, 1], "database": [0, 1, 2], "query": [3, 4]}
    assert split(tmp_path, text, range(5), labelled=False)["train"] == [0, 1, 2]


def test_a_part_without_items_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"an item that can be read.*'query': 0"):
        split(tmp_path, "id,label,split\n0,a,train\n1,b,train\n", range(2))
    with pytest.raises(ValueError, match=r"two or more labels. Received: 2 of 3 items"):
        split(tmp_path, "id,label,split\n0,a,train\n1,a,train\n2,,train\n3,a,query\n", range(4))


def test_a_database_that_cannot_be_read_is_not_replaced_by_the_training_items(
    tmp_path,
):
    path = write(tmp_path, "id,label,split\n0,a,train\n1,b,train\n2,a,query\n3,b,database\n")
    items = read_labels(path).apply(make_items(range(4)))
    with pytest.raises(ValueError, match="'database': 0"):
        read_labels(path).split(items.subset(np.arange(3)))


def grouped_rows(num_items):
    """Id, label and group; five items a group, and every tenth item has none."""
    return [
        (str(i), "ab"[i // 5 % 2], "" if i % 10 == 0 else f"sender {i // 5}")
        for i in range(num_items)
    ]


def test_groups_are_not_parted_and_items_without_one_stand_alone(tmp_path):
    rows = grouped_rows(200)
    # In another order than that of the items.
    text = "id,label,group\n" + "".join(",".join(row) + "\n" for row in rows[::-1])
    sides = split(tmp_path, text, range(200), query_share=0.4)
    assert sorted(sides["database"] + sides["query"]) == list(range(200))
    group_of = {int(id_): group for id_, _, group in rows}
    groups = [{group_of[id_] for id_ in sides[side]} - {""} for side in ("database", "query")]
    assert groups[0] and groups[1] and not groups[0] & groups[1]
    alone = [sum(not group_of[id_] for id_ in sides[side]) for side in ("database", "query")]
    assert min(alone) > 0


def test_what_a_run_has_recorded_stays_where_it_was(tmp_path):
    text = "id,label\n" + "".join(f"{i},{'ab'[i % 2]}\n" for i in range(20))
    known = {str(i): i < 4 for i in range(20)}
    assert split(tmp_path, text, range(20), known=known)["query"] == [0, 1, 2, 3]
