"""Laws of a folder of images: files in, labels and ids out, and no broken file is fatal."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.datasets.pictures import PICTURES, save, write_image
from tfpqn.datasets import ImageFolder, make_plain
from tfpqn.datasets.images.decoding import decode_image_bytes
from tfpqn.datasets.labelled_files import describe_kinds

SHAPE = (6, 5, 3)
BROKEN_IDS = {"ant/corrupt.png", "ant/empty.gif", "bee/text.jpg", "bee/truncated.png"}
HIDDEN = ".ipynb_checkpoints .git .@__thumb __MACOSX @eaDir #recycle $RECYCLE.BIN".split()


@pytest.fixture
def folder(tmp_path):
    """Images of several formats and sizes, one of them without a label."""
    names = ["bee/1.png", "bee/2.JPG", "bee/old/3.gif", "ant/4.bmp", "ant/ü b.PNG", "loose.jpeg"]
    for seed, name in enumerate(names):
        write_image(tmp_path / "images" / name, seed, (6 + seed, 5))
    return tmp_path / "images"


@pytest.fixture
def broken(folder):
    """The folder with files in it that cannot be read."""
    whole = (folder / "bee" / "1.png").read_bytes()
    (folder / "ant" / "corrupt.png").write_bytes(whole[:20] + b"\0" * 20 + whole[40:])
    (folder / "ant" / "empty.gif").touch()
    (folder / "bee" / "text.jpg").write_text("not an image")
    (folder / "bee" / "truncated.png").write_bytes(whole[:-30])
    return folder


def read_all(images, batch_size=4):
    batches = list(images.batches(batch_size))
    return (
        np.concatenate([batch.images for batch in batches]),
        np.concatenate([batch.positions for batch in batches]),
    )


def test_ids_and_labels_follow_the_paths_below_the_folder(folder):
    ids = ["ant/4.bmp", "ant/ü b.PNG", "bee/1.png", "bee/2.JPG", "bee/old/3.gif", "loose.jpeg"]
    images = ImageFolder(folder, SHAPE)
    assert images.ids.tolist() == ids
    assert [images.folder / id_ for id_ in images.ids] == images.files.tolist()
    assert (images.label_names, images.labels.tolist()) == (("ant", "bee"), [0, 0, 1, 1, 1, -1])
    assert images.has_labels


def test_one_subfolder_beside_loose_files_is_no_label_to_learn_from(folder):
    shutil.rmtree(folder / "ant")
    images = ImageFolder(folder, SHAPE)
    assert (images.labels.tolist(), images.has_labels) == ([0, 0, 0, -1], False)


def test_names_that_are_not_utf8_give_ids_that_are(tmp_path):
    """Such names come from old disks; reports and indexes hold UTF-8 alone."""
    names = [b"caf\xe9/1.png", b"caf\xe9/\xfc.png", b"caf\xe9/\xff.png"]
    try:
        for seed, name in enumerate(names):
            write_image(tmp_path / os.fsdecode(name), seed)
    except (OSError, UnicodeError):
        pytest.skip("the file system takes UTF-8 names only")
    images = ImageFolder(tmp_path, SHAPE).readable()
    assert len({id_.encode() for id_ in images.ids}) == 3
    assert len(images.label_names[0].encode()) >= 4
    assert images.labels.tolist() == [0, 0, 0]


def test_other_files_are_counted_by_their_kind(folder):
    for name in ("1.HEIC", "2.heic", "notes.txt", "no suffix"):
        (folder / "ant" / name).touch()
    (folder / "bee" / "lost.png").symlink_to("nowhere")
    (folder / "bee" / "folder.png").mkdir()
    images = ImageFolder(folder, SHAPE)
    assert len(images) == 6
    kinds = {".heic": 2, ".txt": 1, "without suffix": 1, "broken links": 1}
    assert images.passed_over == images.subset(np.arange(2)).passed_over == kinds
    assert describe_kinds(images.passed_over).startswith("2 .heic, ")


def test_hidden_folders_and_files_are_neither_labels_nor_items(folder):
    before = ImageFolder(folder, SHAPE)
    for name in HIDDEN:
        write_image(folder / name / "1.png")
        write_image(folder / "bee" / name / "deep" / "1.png")
    for name in (".hidden.png", "._1.png", "ant/.2.jpg"):
        write_image(folder / name)
    after = ImageFolder(folder, SHAPE)
    assert after.ids.tolist() == before.ids.tolist()
    assert after.label_names == ("ant", "bee")
    assert after.passed_over == {}
    # What is asked for by name is read, whatever its name.
    assert len(ImageFolder(folder / ".git", SHAPE)) == 1


def test_links_are_followed_and_circles_end(folder, tmp_path):
    write_image(tmp_path / "elsewhere" / "deep" / "1.png")
    (folder / "cat").symlink_to(tmp_path / "elsewhere")
    (folder / "bee" / "more").symlink_to(folder / "ant")
    (folder / "ant" / "2.png").symlink_to(tmp_path / "elsewhere" / "deep" / "1.png")
    for number, target in enumerate((folder, tmp_path, Path("/"), folder / "bee")):
        (folder / "bee" / f"circle {number}").symlink_to(target)
    (tmp_path / "elsewhere" / "back").symlink_to(tmp_path / "elsewhere")
    images = ImageFolder(folder, SHAPE)
    ants = {"4.bmp", "ü b.PNG", "2.png"}
    assert images.label_names == ("ant", "bee", "cat")
    assert set(images.ids) == {
        *(f"ant/{name}" for name in ants),
        *(f"bee/more/{name}" for name in ants),
        *("bee/1.png", "bee/2.JPG", "bee/old/3.gif", "cat/deep/1.png", "loose.jpeg"),
    }


def test_pictures_of_all_kinds_are_items_and_those_too_large_are_skipped(tmp_path):
    for name, picture in PICTURES.items():
        (tmp_path / name).write_bytes(picture.data)
    (tmp_path / "large.png").write_bytes(save(np.zeros((6000, 6000), bool), "PNG"))
    images = ImageFolder(tmp_path, (32, 48, 3))
    assert set(images.ids[read_all(images)[1]]) == set(PICTURES)
    assert "36000000" in images.skipped.pop("large.png")
    assert not images.skipped


@pytest.mark.parametrize("batch_size", [3, 100])
def test_broken_files_are_skipped_and_named_and_the_others_decoded_in_order(broken, batch_size):
    images = ImageFolder(broken, SHAPE)
    pixels, positions = read_all(images, batch_size)
    assert set(images.skipped) == BROKEN_IDS
    for reason in images.skipped.values():
        assert len(reason.splitlines()) == 1
        assert not any(internal in reason for internal in ("{{", "[Op:", "device:CPU")), reason
    assert set(images.ids[positions]) == set(images.ids) - BROKEN_IDS
    assert np.all(np.diff(positions) > 0)
    for position, image in zip(positions, pixels, strict=True):
        data = images.encoded_image(position)
        assert data == make_plain((broken / images.ids[position]).read_bytes())
        np.testing.assert_array_equal(image, decode_image_bytes(data, SHAPE))


def test_files_that_vanished_or_that_the_system_refuses_are_skipped(folder, monkeypatch):
    read_bytes = Path.read_bytes

    def refuse(path):
        if path.name == "2.JPG":
            raise PermissionError(13, "Permission denied")
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", refuse)
    images = ImageFolder(folder, SHAPE)
    (folder / "bee" / "1.png").unlink()
    assert len(read_all(images)[0]) == 4
    assert images.skipped.keys() == {"bee/1.png", "bee/2.JPG"}
    assert "Permission denied" in images.skipped["bee/2.JPG"]


def test_readable_leaves_the_broken_files_out_and_still_names_them(broken):
    images = ImageFolder(broken, SHAPE).readable()
    assert set(images.skipped) == BROKEN_IDS
    assert len(images) == len(images.labels) == 6
    assert not BROKEN_IDS & set(images.ids)
    assert images.label_names == ("ant", "bee")
    np.testing.assert_array_equal(read_all(images)[1], np.arange(6))
    with pytest.raises(
        ValueError, match=r"at least one readable item.* 2 items, none readable; the first: \('"
    ):
        images = ImageFolder(broken, SHAPE)
        images.subset(np.isin(images.ids, ["ant/empty.gif", "bee/text.jpg"])).readable()
    with pytest.raises(ValueError, match=r"at least one readable item.* 2 items, none readable"):
        images.subset(np.isin(images.ids, ["ant/empty.gif", "bee/text.jpg"])).held_in_memory(10**9)


def test_a_folder_held_in_memory_holds_the_same_items_unless_it_is_too_large(broken):
    images = ImageFolder(broken, SHAPE).readable()
    pixels, _ = read_all(images)
    held = images.held_in_memory(pixels.nbytes)
    assert held.in_memory
    np.testing.assert_array_equal(read_all(held)[0], pixels)
    assert held.ids.tolist() == images.ids.tolist()
    assert held.labels.tolist() == images.labels.tolist()
    assert held.label_names == images.label_names
    assert images.held_in_memory(pixels.nbytes - 1) is images


def test_what_is_no_folder_of_images_is_refused(folder, tmp_path):
    for path in (tmp_path / "nowhere", folder / "bee" / "1.png"):
        with pytest.raises(FileNotFoundError, match=f"must exist. Received: '{path}'"):
            ImageFolder(path, SHAPE)
    (tmp_path / "empty" / "ant").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match=r"\.png.*one subfolder per label.*holds none$"):
        ImageFolder(tmp_path / "empty", SHAPE)
    (tmp_path / "empty" / "1.heic").touch()
    with pytest.raises(FileNotFoundError, match=r"holds none but 1 \.heic"):
        ImageFolder(tmp_path / "empty", SHAPE)
