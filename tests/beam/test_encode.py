"""Laws of coding with Beam: the index that one process makes, whatever happened on the way."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

pytest.importorskip("apache_beam", reason="needs the extra beam")

from tests.beam.collected import (
    DIM,
    make_clip_run,
    make_vector_run,
    parts_in,
    write_photos,
    write_records,
    write_vectors,
    write_videos,
)
from tests.cli.conftest import run_command, succeed
from tests.training.tiny import make_images
from tfpqn.beam import finish_job, prepare_job, run_pipeline, storage
from tfpqn.beam.records import read_columns
from tfpqn.beam.worker import Worker
from tfpqn.datasets.plain_images import encode_png
from tfpqn.index import CodeIndex, build_index
from tfpqn.items import CLIPS

SMALL = {"batch_size": 8, "rows_per_part": 16}


def encode(run, output, **options):
    """Index, summary and counters of a whole job."""
    job = prepare_job(run, f"{output}.staging", **{**SMALL, **options})
    counters = run_pipeline(job)
    summary = finish_job(job, output)
    assert not Path(f"{output}.staging").exists()
    CodeIndex.verify(output)
    return CodeIndex.load(output), summary, counters


def build(run, output, **source):
    """The index that one process makes, and what it could not read."""
    data = run.choose_data(**source)
    network = run.load_network()
    num_frames = 4 if data.items is CLIPS else None
    items = data.label(data.open_folder(num_frames, network.image_shape), missing="unlabelled")
    build_index(network, items, output, batch_size=8)
    return CodeIndex.load(output), items.skipped


def broken_in(path):
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [(line["id"], line["reason"]) for line in lines]


def test_parts_hold_what_one_process_codes_and_what_is_broken_is_listed(run, tmp_path):
    photos = write_photos(tmp_path / "photos", broken=(3, 16, 17, *range(32, 60, 4)))
    expected, skipped = build(run, tmp_path / "plain", images=photos)
    index, summary, counters = encode(run, tmp_path / "index", images=photos)
    assert index.table.equals(expected.table)
    assert broken_in(summary.broken_file) == sorted(skipped.items())
    assert summary[:3] == (50, 4, 10)
    milliseconds = counters.pop("milliseconds")
    assert counters == {"items": 50, "broken": 10, "batches": 8} and milliseconds > 0


@pytest.mark.parametrize("kind", ["vectors", pytest.param("videos", marks=pytest.mark.slow)])
def test_vectors_and_videos_are_coded_as_one_process_codes_them(tmp_path, kind):
    if kind == "videos":
        pytest.importorskip("av")
        run, path = make_clip_run(tmp_path / "run"), write_videos(tmp_path / "videos")
    else:
        run, path = make_vector_run(tmp_path / "run"), write_vectors(tmp_path / "all.parquet")
    expected, skipped = build(run, tmp_path / "plain", **{kind: path})
    options = {"num_frames": 4, "rows_per_part": 2} if kind == "videos" else {}
    index, summary, _ = encode(run, tmp_path / "index", **{kind: path}, **options)
    assert index.table.equals(expected.table)
    assert summary.num_broken == len(skipped)
    if skipped:
        assert broken_in(summary.broken_file) == list(skipped.items())


def test_a_table_gives_labels_and_items_without_a_row_have_none(run, tmp_path):
    photos, table = write_photos(tmp_path / "photos", 6), tmp_path / "labels.csv"
    table.write_text("file,label\nant/000.png,wood\nbee/001.png,wood|stone\n", "utf-8")
    source = {"images": photos, "labels": table}
    expected, _ = build(run, tmp_path / "plain", **source)
    index, *_ = encode(run, tmp_path / "index", **source)
    assert index.table.equals(expected.table)
    labels = index.metadata["labels"].to_pylist()
    assert labels == [["wood"], [], ["stone", "wood"], [], [], []]


def test_records_have_their_own_ids_and_labels_and_a_torn_file_gives_what_it_holds(run, tmp_path):
    images = make_images(30)
    examples = [
        {
            "image/encoded": images.encoded_image(row),
            "image/class/label": row % 3,
            "id": b"%d" % row,
        }
        for row in range(30)
    ]
    del examples[4]["image/encoded"]
    examples[5]["image/encoded"] = b"no image"
    shards = {"a.tfrecord": examples[:10], "b.tfrecord": examples[10:20], "c": examples[20:]}
    folder = write_records(tmp_path / "records", shards)
    torn = bytearray((folder / "b.tfrecord").read_bytes())
    torn[-20] ^= 1
    (folder / "b.tfrecord").write_bytes(torn)
    index, summary, _ = encode(run, tmp_path / "index", tfrecords=f"{folder}/*.tfrecord")
    rows = np.array([*range(4), *range(6, 19)])
    np.testing.assert_array_equal(index.codes, run.load_network().encode(images.images[rows]))
    assert index.ids.tolist() == [str(row) for row in rows]
    assert index.metadata["label"].to_pylist() == (rows % 3).tolist()
    places, reasons = zip(*broken_in(summary.broken_file), strict=True)
    assert places == ("a.tfrecord:4", "5", "b.tfrecord:9")
    assert "one image as 'image'" in reasons[0] and "cannot be read from here on" in reasons[2]


def test_images_in_parquet_files_are_records_too_and_a_torn_file_is_one_line(run, tmp_path):
    images = make_images(5)
    data = [{"bytes": images.encoded_image(row), "path": None} for row in range(4)] + [None]
    table = pa.table({"image": data, "id": [9, 8, 7, 6, 5], "label": [None, 0, 1, 1, 0]})
    pq.write_table(table, tmp_path / "a.parquet")
    (tmp_path / "b.parquet").write_bytes(b"PAR1 torn")
    index, summary, _ = encode(run, tmp_path / "index", parquet=f"{tmp_path}/*.parquet")
    np.testing.assert_array_equal(index.codes, run.load_network().encode(images.images[:4]))
    assert index.ids.tolist() == [9, 8, 7, 6]
    assert index.metadata["label"].to_pylist() == [-1, 0, 1, 1]
    places, reasons = zip(*broken_in(summary.broken_file), strict=True)
    assert places == ("a.parquet:4", "b.parquet:0") and "from here on" in reasons[1]


@pytest.mark.parametrize(
    ("ids", "labels", "kept", "reason"),
    [
        (pa.array(["a", "", "b"]), [0, 1, 2], ["a", "b"], "not -1 or ''. Received: ''"),
        (pa.array([5, -1, 6]), [0, 1, 2], [5, 6], "not -1 or ''. Received: -1"),
        (pa.array([5, 2**63, 6], pa.uint64()), [0, 1, 2], [5, 6], "64 bits.*: 9223372036854775808"),
        (pa.array(["a", "b", "c"]), pa.array([0, 2**63, 2], pa.uint64()), ["a", "c"], "64 bits"),
        (
            pa.array([b"a", b"\xe9", b"c"]).view(pa.string()),
            [0, 1, 2],
            ["a", "c"],
            "a whole record. Received: 'utf-8' codec can't decode byte 0xe9",
        ),
        (pa.array([True]), [0], [], "an id of the type int, .* Received: True"),
        (pa.array(["a"]), [False], ["a"], None),
        (pa.array(["a", "b"]), [0.0, 2.0], ["a", "b"], None),
        (pa.array(["a"]), [0.5], [], "a whole number as label. Received: 0.5"),
    ],
)
def test_a_record_that_an_index_cannot_keep_costs_no_other(tmp_path, ids, labels, kept, reason):
    table = pa.table({"image": [b"image"] * len(ids), "id": ids, "label": labels})
    pq.write_table(table, tmp_path / "a.parquet")
    id_type = pa.large_string() if ids.type == pa.string() else pa.int64()
    schema = pa.schema({"id": id_type, "label": pa.int64()})
    _, columns, broken = read_columns(str(tmp_path / "a.parquet"), schema)
    assert columns["id"].to_pylist() == kept
    assert columns["label"].to_pylist() == [2 * row for row in range(len(kept))]
    assert [place for place, _ in broken] == ([f"a.parquet:{len(kept) // 2}"] if reason else [])
    assert all(re.search(reason, text) for _, text in broken)


def test_an_id_in_two_files_is_named_and_records_without_ids_are_numbered(run, tmp_path):
    image = make_images(1).encoded_image(0)
    shards = {"a": [{"image": image, "id": 7}, {"image": image, "id": 9}]}
    shards["b"] = [{"image": image, "id": 8}, {"image": image, "id": 7}]
    folder = write_records(tmp_path / "records", shards)
    with pytest.raises(ValueError, match="ids must be unique. Received: the id 7 2 times"):
        encode(run, tmp_path / "index", tfrecords=f"{folder}/*")
    write_records(folder, {"a": [{"image": image}], "b": [{"image": image}] * 2})
    index, *_ = encode(run, tmp_path / "other", tfrecords=f"{folder}/*")
    assert index.ids.tolist() == ["a:0", "b:0", "b:1"]


def test_only_parts_that_are_missing_or_damaged_are_made_again_with_the_same_bytes(run, tmp_path):
    photos = write_photos(tmp_path / "photos", broken=(3,))
    staging = tmp_path / "staging"
    job = prepare_job(run, staging, images=photos, **SMALL)
    run_pipeline(job)
    before = parts_in(staging)
    assert len(before) == 4
    # As if a crash had left them; and what came since is none of the job's.
    (staging / "unit-000001.json").unlink()
    (staging / "unit-000002.parquet").write_bytes(before["unit-000002.parquet"][:-1])
    write_photos(tmp_path / "photos", 64, broken=(3,))
    job = prepare_job(run, staging, images=photos, **SMALL)
    counters = run_pipeline(job)
    assert (counters["parts_found"], counters["items"]) == (2, 31)
    assert parts_in(staging) == before
    assert finish_job(job, tmp_path / "index")[:3] == (59, 4, 1)


def test_units_whose_files_changed_or_have_gone_are_coded_again(run, tmp_path):
    photos, staging = write_photos(tmp_path / "photos"), tmp_path / "staging"
    job = prepare_job(run, staging, images=photos, **SMALL)
    run_pipeline(job)
    files = sorted(photos.rglob("*.png"))
    files[0].write_bytes(files[40].read_bytes() + b" ")
    files[20].unlink()
    job = prepare_job(run, staging, images=photos, **SMALL)
    assert run_pipeline(job)["parts_found"] == 2
    assert finish_job(job, tmp_path / "index")[:3] == (59, 4, 1)
    expected, _ = build(run, tmp_path / "plain", images=photos)
    assert CodeIndex.load(tmp_path / "index").table.equals(expected.table)


def test_a_job_goes_on_only_with_the_same_file_of_vectors(tmp_path):
    run, staging = make_vector_run(tmp_path / "run"), tmp_path / "staging"
    for number in (50, 49):
        path = write_vectors(tmp_path / "all.parquet", number)
        if number == 50:
            prepare_job(run, staging, vectors=path)
    with pytest.raises(ValueError, match="own settings.* Received: contents='.* bytes of "):
        prepare_job(run, staging, vectors=path)


def test_a_file_of_vectors_that_took_the_place_of_another_is_never_taken_for_it(tmp_path):
    run, path = make_vector_run(tmp_path / "run"), tmp_path / "all.npy"
    for seed, staging in enumerate(("first", "second")):
        vectors = np.random.default_rng(seed).normal(size=(20, DIM)).astype(np.float32)
        np.save(tmp_path / "new.npy", vectors)
        os.replace(tmp_path / "new.npy", path)
        job = prepare_job(run, tmp_path / staging, vectors=path, **SMALL)
        Worker(job.staging).code(0)
        codes = pq.read_table(tmp_path / staging / "unit-000000.parquet")["code"]
        expected = np.asarray(run.load_network().encode(vectors[:16]))
        assert codes.to_pylist() == [code.tobytes() for code in expected]
    np.save(path, vectors[:10])
    with pytest.raises(ValueError, match="must stay as it was when the job began: 1088 bytes"):
        Worker(job.staging).code(1)


@pytest.mark.parametrize("kind", ["images", "videos"])
def test_what_a_file_system_refuses_once_is_asked_for_again(tmp_path, monkeypatch, kind):
    from tests.datasets.videos import encode_frames
    from tfpqn.beam import listed_items

    shape = (8, 8, 3)
    pixels = np.full(shape, 200, np.uint8)
    file = tmp_path / "item"
    if kind == "images":
        file.write_bytes(encode_png(pixels))
        items = listed_items.ListedImages([file], np.array(["item"]), shape, "stretch")
    else:
        pytest.importorskip("av")
        file.write_bytes(encode_frames([pixels] * 2, "mkv"))
        items = listed_items.ListedClips([file], np.array(["item"]), shape, "stretch", 2)
    answers = iter([OSError(5, "Input/output error")])
    read = Path.open

    def open_at_last(path, *arguments, **options):
        if error := next(answers, None):
            raise error
        return read(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", open_at_last)
    monkeypatch.setattr(listed_items, "_SECONDS_BEFORE_RETRY", 0)
    batch = items.read(np.array([0]))
    assert batch.positions.tolist() == [0] and not items.skipped
    np.testing.assert_allclose(batch.images, 200, atol=12)


def test_a_kill_while_a_job_is_removed_leaves_none_that_fails(run, tmp_path, monkeypatch):
    photos, staging = write_photos(tmp_path / "photos", 3), tmp_path / "staging"
    job = prepare_job(run, staging, images=photos, **SMALL)
    run_pipeline(job)

    def remove_all_but_one(paths, remove=storage.remove):
        remove(list(paths)[:-1])
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(storage, "remove", remove_all_but_one)
        finish_job(job, tmp_path / "index")
    job = prepare_job(run, staging, images=photos, **SMALL)
    run_pipeline(job)
    assert finish_job(job, tmp_path / "other")[:3] == (3, 1, 0)
    assert not staging.exists()


def test_a_job_whose_items_are_all_broken_is_mended_by_mending_them(run, tmp_path):
    photos = write_photos(tmp_path / "photos", 3, broken=(0, 1, 2))
    job = prepare_job(run, tmp_path / "staging", images=photos, **SMALL)
    run_pipeline(job)
    with pytest.raises(
        ValueError, match="run the job again.*: 3 items, none readable, the .*000.png"
    ):
        finish_job(job, tmp_path / "index")
    assert not (tmp_path / "index").exists()
    whole = write_photos(tmp_path / "whole", 3)
    for path in photos.rglob("*.png"):
        path.write_bytes((whole / path.relative_to(photos)).read_bytes())
    run_pipeline(job)
    assert finish_job(job, tmp_path / "index")[:3] == (3, 1, 0)


def test_a_job_of_other_settings_or_with_missing_parts_is_refused(run, tmp_path):
    photos, staging = write_photos(tmp_path / "photos"), tmp_path / "staging"
    job = prepare_job(run, staging, images=photos, **SMALL)
    with pytest.raises(RuntimeError, match="no part of unit 0 in .*run the job again"):
        finish_job(job, tmp_path / "index")
    for address in ("gs://bucket/index", Path("gs://bucket/index")):
        with pytest.raises(ValueError, match="output must be a folder of a local or mounted"):
            finish_job(job, address)
    with pytest.raises(ValueError, match="own settings.* Received: rows_per_part=99, not 16"):
        prepare_job(run, staging, images=photos, batch_size=8, rows_per_part=99)
    (staging / "job.json").write_text("{}")
    with pytest.raises(ValueError, match="must be the job of a staging folder"):
        prepare_job(run, staging, images=photos, **SMALL)
    for wrong in ({}, {"images": photos, "vectors": photos}):
        with pytest.raises(ValueError, match="one of images, videos, vectors, tfrecords, parquet"):
            prepare_job(run, tmp_path / "other", **wrong)
    with pytest.raises(ValueError, match=r"must end in .parquet.*ant/000.png' as parquet"):
        prepare_job(run, tmp_path / "other", parquet=f"{photos}/ant/*.png")
    with pytest.raises(FileNotFoundError, match="must match files of records"):
        prepare_job(run, tmp_path / "other", tfrecords=f"{photos}/*.tfrecord")


def test_a_staging_folder_may_lie_on_another_file_system(run, tmp_path):
    from apache_beam.io.filesystem import BeamIOError
    from apache_beam.io.localfilesystem import LocalFileSystem

    def local(path):
        return path.removeprefix("elsewhere://")

    class Elsewhere(LocalFileSystem):
        """Paths of `elsewhere://` are those of this machine."""

        @classmethod
        def scheme(cls):
            return "elsewhere"

        def create(self, path, *args, **options):
            Path(local(path)).parent.mkdir(exist_ok=True)
            return super().create(local(path), *args, **options)

        def open(self, path, *args, **options):
            return super().open(local(path), *args, **options)

        def exists(self, path):
            return super().exists(local(path))

        def rename(self, sources, targets):
            if any(map(self.exists, targets)):  # as HDFS answers
                raise BeamIOError(f"there is a file already: {targets}")
            return super().rename(list(map(local, sources)), list(map(local, targets)))

        def delete(self, paths):
            return super().delete(list(map(local, paths)))

    photos = write_photos(tmp_path / "photos", broken=(3,))
    expected, _ = build(run, tmp_path / "plain", images=photos)
    job = prepare_job(run, f"elsewhere://{tmp_path}/far", images=photos, **SMALL)
    run_pipeline(job)
    # As if a crash had come between a part and its receipt.
    (tmp_path / "far" / "unit-000001.json").unlink()
    assert run_pipeline(job)["parts_found"] == 3
    finish_job(job, tmp_path / "index")
    assert CodeIndex.load(tmp_path / "index").table.equals(expected.table)
    assert not list((tmp_path / "far").iterdir())


def test_the_command_says_what_it_made(run, tmp_path):
    photos = write_photos(tmp_path / "photos", broken=(3,))
    arguments = ("--run-dir", run.folder, "--images", photos, "--output", tmp_path / "index")
    (photos / "note.txt").touch()
    (photos / "plain.png").write_bytes(next(photos.glob("bee/*.png")).read_bytes())
    result = succeed("encode", *arguments, "--rows-per-part", 32)
    assert "Passed over 1 file of other kinds: 1 .txt" in result.error
    assert "Indexed without a label: 1 item" in result.error
    assert "60 items coded, in 2 parts. The index is in" in " ".join(result.output.split())
    assert "index.broken.jsonl" in result.error
    refused = run_command("encode", *arguments)
    assert refused.status == 2 and "unless --overwrite is given" in refused.error
    slip = ("--run-dir", run.folder, "--images", photos, "--output", photos, "--overwrite")
    assert "replaces only the folder of an index" in run_command("encode", *slip).error
    refused = run_command("encode", *arguments, "--overwrite", "photos")
    assert "must be options of the runner" in refused.error
    other = (*arguments[:-1], tmp_path / "other")
    assert (
        "Unexpected pipeline runner: Foo" in run_command("encode", *other, "--runner", "Foo").error
    )
    refused = run_command("encode", *other, "--", "--foo=3")
    assert refused.status == 2 and "pipeline options of Beam. Received: foo" in refused.error
    assert not (tmp_path / "other.staging").exists()


@pytest.mark.slow
def test_after_a_kill_nothing_is_lost_or_doubled(run, tmp_path):
    photos = write_photos(tmp_path / "photos", 6000, broken=range(0, 6000, 100))
    options = ("--run-dir", run.folder, "--images", photos, "--rows-per-part", 256)
    succeed("encode", *options, "--output", tmp_path / "whole")
    command = [sys.executable, "-m", "tfpqn", "encode", *map(str, options)]
    command += ["--output", str(tmp_path / "index")]
    process = subprocess.Popen(command)
    staging = tmp_path / "index.staging"
    while len(list(staging.glob("unit-*.json"))) < 3:
        assert process.poll() is None
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "index").exists()
    before = {path: path.stat().st_mtime_ns for path in staging.glob("unit-*.json")}
    assert 3 <= len(before) < 24
    result = succeed("encode", *options, "--output", tmp_path / "index")
    assert f"{len(before)} of them from before" in " ".join(result.output.split())
    assert parts_in(tmp_path / "index") == parts_in(tmp_path / "whole")
    lists = [(tmp_path / f"{name}.broken.jsonl").read_bytes() for name in ("index", "whole")]
    assert lists[0] == lists[1] and len(lists[0].splitlines()) == 60
