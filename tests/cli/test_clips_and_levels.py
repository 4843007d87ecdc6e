"""Clips and residual levels on the command line."""

import json

import pytest

from tests.cli.conftest import run_command, succeed
from tests.datasets.videos import encode_video
from tfpqn.datasets import encode_frames, read_frames

SMALL = ("--embedding-dim", "8", "--epochs", "1", "--batch-size", "4", "--bits", "24")


@pytest.fixture
def films(tmp_path):
    """Two labels with three short videos each, one file that is none."""
    pytest.importorskip("av")
    for label in ("rise", "fall"):
        (tmp_path / "films" / label).mkdir(parents=True)
        for number in range(3):
            video = encode_video(6 + number + (label == "fall"))
            (tmp_path / "films" / label / f"{number}.mp4").write_bytes(video)
    (tmp_path / "films" / "rise" / "text.mp4").write_text("no video")
    return tmp_path / "films"


@pytest.mark.slow
def test_the_road_of_a_folder_of_videos(films, tmp_path):
    run, index, model = tmp_path / "run", tmp_path / "index", tmp_path / "model" / "1"
    video = films / "fall" / "2.mp4"
    for command in (
        ("train", "--model", "tpqn", "--videos", films, "--image-size", 16, "--num-frames", 4)
        + (*SMALL, "--augment", "--run-dir", run),
        ("index", "--run-dir", run, "--videos", films, "--output", index),
        ("export", "--run-dir", run, "--index", index, "--output", model, "--top-k", 6),
    ):
        result = succeed(*command)
        if command[0] == "index":
            assert "6 items coded" in result.output
            assert "Skipped 1 file that" in result.error and "rise/text.mp4" in result.error
    still = tmp_path / "still"
    still.mkdir()
    for number, frame in enumerate(encode_frames(read_frames(video, 4))):
        (still / f"{number}.png").write_bytes(frame)
    result = succeed("search", "--model", model, "--num-frames", 4, "--json", video, still)
    of_video, of_frames = (answer["neighbours"] for answer in json.loads(result.output))
    assert of_video == of_frames
    ids = [neighbour["id"] for neighbour in of_video]
    assert sorted(ids) == [f"{label}/{n}.mp4" for label in ("fall", "rise") for n in range(3)]
    for wrong, sentence in (
        (films / "rise" / "text.mp4", "text.mp4"),
        (tmp_path / "nothing.mp4", "A query must be a video file or a folder of frames"),
        (films, "must hold its frames as images"),
    ):
        result = run_command("search", "--model", model, wrong)
        assert result.status == 2
        assert sentence in result.error and result.error.count("\n") == 1
