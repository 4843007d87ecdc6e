"""`tfpqn ingest`: what comes is coded once, and searches show all of it, whatever is killed."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf

from tests.cli.conftest import succeed
from tests.export.tiny import IMAGE_SHAPE, make_images, make_network
from tfpqn.cli.ingest import loop
from tfpqn.cli.ingest.arrivals import Arrivals
from tfpqn.cli.ingest.command import open_arrivals
from tfpqn.cli.ingest.loop import IngestLoop
from tfpqn.datasets import ImageFolder, VectorSet, load_protocol
from tfpqn.export.client import ServingError, ShardedSearchClient
from tfpqn.export.ingest.folders import Base
from tfpqn.index import CodeIndex, build_index, remove_from_index
from tfpqn.training import Run, RunConfig

NUM_PHOTOS = 40
# Of a machine that is busy with other work; a failure should not wait forever.
MOST_SECONDS = 600.0


@pytest.fixture
def photos(tmp_path):
    """A folder of three tiny photos, and an index of them."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, image in enumerate(make_images(3)):
        (folder / f"{number}.png").write_bytes(image)
    build_index(make_network(), ImageFolder(folder, IMAGE_SHAPE), tmp_path / "index")
    return folder


def ids_in(path):
    return CodeIndex.load(path).ids.tolist()


def test_what_comes_is_coded_once_and_a_broken_file_again_when_it_has_changed(
    photos, tmp_path, capsys
):
    index, network = tmp_path / "index", make_network()
    opened = []

    def open_items():
        opened.append(ImageFolder(photos, IMAGE_SHAPE))
        return opened[-1]

    arrivals = Arrivals(network, index, open_items)
    assert arrivals.add() == 0
    image = make_images(1, seed=9)[0]
    (photos / "new.png").write_bytes(image)
    (photos / "half.png").write_bytes(image[:40])
    assert arrivals.add() == 1
    assert ids_in(index) == ["0.png", "1.png", "2.png", "new.png"]
    assert "half.png" in capsys.readouterr().err
    assert arrivals.add() == 0
    assert not capsys.readouterr().err, "it is named once"
    (photos / "half.png").write_bytes(image)
    assert arrivals.add() == 1
    assert ids_in(index)[-1] == "half.png"
    # Another process, which knows nothing of all this, finds nothing to do either.
    assert Arrivals(network, index, open_items).add() == 0


def test_a_file_that_comes_under_the_name_of_a_removed_one_is_new(photos, tmp_path):
    index, network = tmp_path / "index", make_network()
    arrivals = Arrivals(network, index, lambda: ImageFolder(photos, IMAGE_SHAPE))
    assert arrivals.add() == 0
    (photos / "0.png").unlink()
    remove_from_index(index, ["0.png"])
    assert arrivals.add() == 0
    (photos / "0.png").write_bytes(make_images(1, seed=9)[0])
    assert arrivals.add() == 1
    assert ids_in(index) == ["1.png", "2.png", "0.png"]


def test_a_table_of_labels_may_name_photos_that_come_later_or_have_gone(photos, tmp_path):
    table, index, network = tmp_path / "labels.csv", tmp_path / "index", make_network()
    table.write_text("file,label\n0.png,cat\n1.png,dog\nlater.png,dog\n")
    run = Run(tmp_path / "run", RunConfig.of(images=str(photos)))
    labels = run.choose_data(images=photos, labels=table)
    items = labels.label(ImageFolder(photos, IMAGE_SHAPE), missing="unlabelled", partial=True)
    build_index(network, items, index, overwrite=True)
    arrivals = open_arrivals(run, network, index, None, images=photos, labels=table)
    (photos / "1.png").unlink()
    (photos / "later.png").write_bytes(make_images(1, seed=9)[0])
    assert arrivals.add() == 1
    names = CodeIndex.load(index).metadata["label_name"].to_pylist()
    assert names == ["cat", "dog", None, "dog"]


def test_an_empty_folder_waits_and_a_missing_one_holds_up_no_delta(photos, tmp_path):
    index, network = tmp_path / "index", make_network()
    arrivals = Arrivals(network, index, lambda: ImageFolder(photos, IMAGE_SHAPE))
    image = (photos / "0.png").read_bytes()
    for path in photos.iterdir():
        path.unlink()
    arrivals.require_source()
    assert arrivals.add() == 0
    (photos / "new.png").write_bytes(image)
    assert arrivals.add() == 1
    photos.rename(tmp_path / "elsewhere")
    with pytest.raises(FileNotFoundError, match="image folder must exist"):
        arrivals.require_source()
    model = Model(index)
    with pytest.raises(FileNotFoundError, match="image folder must exist"):
        IngestLoop(model, index, arrivals, 5, model.export).step()
    assert model.done == [("delta", None)]


def test_vectors_without_ids_and_ids_of_another_type_are_refused(photos, tmp_path):
    vectors = np.ones((2, 4), np.float32)
    numbered = VectorSet(vectors, ids=np.array([7, 8]))
    unnumbered = VectorSet(vectors)
    unnumbered.has_own_ids = False
    for items, words in ((unnumbered, "must have ids"), (numbered, "int64")):
        with pytest.raises(ValueError, match=words):
            Arrivals(None, tmp_path / "index", lambda items=items: items).add()


class Process:
    """A process that ends at once."""

    exitcode = 0

    def is_alive(self):
        return False

    def join(self):
        pass


class Model:
    """Notes what is done, in order."""

    def __init__(self, state):
        self.done, self.bases, self.state, self.changes = [], [], state, (0, 0)

    def list_bases(self):
        return self.bases

    def count_changes(self):
        return self.changes

    def publish_delta(self, pending=None):
        self.done.append(("delta", pending and pending.number))

    def begin_base(self):
        self.done.append(("keep",))
        self.changes = (0, 0)
        return Base(len(self.bases) + 1, "id", self.state)

    def export(self, base):
        self.done.append(("export", base[0]))
        self.bases.append(Base(*base))

    def tidy(self):
        self.done.append(("tidy",))


@pytest.mark.usefixtures("photos")
def test_a_delta_that_goes_with_the_next_base_comes_before_it(tmp_path, monkeypatch):
    process = Process()
    monkeypatch.setattr(loop, "start_aside", lambda export, base: export(base) or process)
    index = tmp_path / "index"
    model = Model(index)
    work = IngestLoop(model, index, None, 5, model.export)
    work.run(None)
    first = [("keep",), ("delta", 1), ("export", 1), ("tidy",), ("delta", None)]
    assert model.done == first
    model.changes = (5, 0)
    remove_from_index(index, ["0.png"])
    work.run(None)
    begun = [("delta", None), ("keep",), ("delta", 2), ("export", 2), ("tidy",), ("delta", None)]
    assert model.done[len(first) :] == begun
    model.changes, process.exitcode = (5, 0), 2
    remove_from_index(index, ["1.png"])
    with pytest.raises(ValueError, match="export of base 3 must end well.* Received: status 2"):
        work.run(None)
    # Nor is a base that deltas do not go with exported again and again.
    work, process.exitcode = IngestLoop(model, index, None, 5, lambda base: None), 0
    model.changes = (5, 0)
    with pytest.raises(ValueError, match="no base that deltas go with"):
        work.run(None)


@pytest.mark.usefixtures("photos")
def test_a_full_disk_is_told_once_and_tried_again(tmp_path, capsys, monkeypatch):
    model, names = Model(tmp_path / "index"), iter(("1291c24d", "77aab3c1"))

    def publish(pending=None):
        raise tf.errors.ResourceExhaustedError(None, None, f"{next(names)}.pb; No space left")

    monkeypatch.setattr(model, "publish_delta", publish)
    work = IngestLoop(model, tmp_path / "index", None, 5, model.export)
    work._try(work.step)
    work._try(work.step)
    assert capsys.readouterr().err == "tfpqn: error: 1291c24d.pb; No space left\n"


@contextlib.contextmanager
def started(*arguments):
    """A `tfpqn` process, and its lines."""
    command = [sys.executable, "-m", "tfpqn", *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_for(process, words):
    for line in process.stdout:
        if found := re.search(words, line):
            return found
    raise AssertionError(f"no line with {words!r}")


def serve(stack, model, name):
    ports = ("--port", 0, "--rest-api-port", -1, "--file-system-poll-wait-seconds", 0.1)
    options = ("--model-base-path", model, "--model-name", name, *ports)
    process = stack.enter_context(started("serve", *options))
    return wait_for(process, r"gRPC on (\S+?),?\s")[1]


def write_photos(folder, numbers):
    digits = load_protocol("digits").load().database
    for number in numbers:
        (folder / f"{number}.png").write_bytes(digits.encoded_image(number))


@pytest.mark.slow
def test_searches_show_all_that_came_while_exports_are_killed_and_bases_follow(folder, tmp_path):
    photos, index, model = tmp_path / "photos", tmp_path / "index", tmp_path / "models" / "digits"
    photos.mkdir()
    write_photos(photos, range(NUM_PHOTOS))
    run = ("--run-dir", folder / "run", "--images", photos)
    succeed("index", *run, "--output", index)
    ingest = ("ingest", *run, "--index", index, "--output", model, "--new-base-after", 10)
    assert "Base 1: 40 items" in succeed(*ingest).output
    query = [(photos / "0.png").read_bytes()]
    with contextlib.ExitStack() as stack:
        base = serve(stack, tmp_path / "models" / "digits-shard-0-of-1", "digits")
        delta = serve(stack, tmp_path / "models" / "digits-delta", "digits-delta")
        client = ShardedSearchClient([base], "digits", delta=delta, timeout=60.0)
        stack.enter_context(client)

        def find():
            ids = client.search(query, k=200).ids[0]
            ids = ids[ids != ""].tolist()
            assert len(set(ids)) == len(ids), "none is double"
            return set(ids)

        def wait_until(wanted, at_least, never=frozenset()):
            end = time.monotonic() + MOST_SECONDS
            while (found := find()) != wanted:
                assert found >= at_least
                assert not found & never
                assert time.monotonic() < end, wanted ^ found
                time.sleep(0.05)

        expected = {f"{number}.png" for number in range(NUM_PHOTOS)}
        assert find() == expected
        with started(*ingest, "--watch", 0.2) as watching:
            write_photos(photos, range(100, 105))
            more = expected | {f"{number}.png" for number in range(100, 105)}
            wait_until(more, expected)
            succeed("remove", "--index", index, "0.png", "100.png")
            (photos / "0.png").unlink()
            (photos / "100.png").unlink()
            rest = more - {"0.png", "100.png"}
            wait_until(rest, rest)
            write_photos(photos, range(200, 212))
            wait_for(watching, "Exporting base 2")
            os.kill(watching.pid, signal.SIGKILL)
        whole = rest | {f"{number}.png" for number in range(200, 212)}
        assert rest <= find() <= whole
        with started(*ingest, "--watch", 0.2) as watching:
            wait_until(whole, rest, {"0.png", "100.png"})
            wait_for(watching, "Base [23]: 55 items")
            while client.search(query).version == 1:
                assert find() == whole
            write_photos(photos, [300])
            wait_until(whole | {"300.png"}, whole, {"0.png"})
        for address in (base, delta):
            with pytest.raises((ServingError, ValueError)):
                ShardedSearchClient([address], "unheard", timeout=2.0).search(query)
