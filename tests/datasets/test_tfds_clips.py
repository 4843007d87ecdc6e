"""Laws of prepared clips: sampled frames alone are decoded, in any order."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds

from tfpqn.datasets import TfdsClips, TrainingBatches, sample_jittered, sample_uniformly
from tfpqn.datasets.clips import tfds_clips

SHAPE = (16, 20, 3)
LENGTHS = {"train": (9, 1, 30, 4, 6, 5), "test": (3, 12)}


class TfpqnFakeVideos(tfds.core.GeneratorBasedBuilder):
    """Videos with the features of UCF-101; frame i of a video is grey of level 8 * i."""

    VERSION = tfds.core.Version("2.0.0")

    def _info(self) -> tfds.core.DatasetInfo:
        features = {
            "video": tfds.features.Video((None, *SHAPE), encoding_format="jpeg"),
            "label": tfds.features.ClassLabel(names=["ant", "bee", "cat"]),
        }
        return tfds.core.DatasetInfo(
            builder=self, description="Fake.", features=tfds.features.FeaturesDict(features)
        )

    def _split_generators(self, dl_manager: object) -> dict[str, Iterator]:
        return {part: self._generate_examples(part) for part in LENGTHS}

    def _generate_examples(self, part: str) -> Iterator[tuple[str, dict]]:
        for number, length in enumerate(LENGTHS[part]):
            levels = 8 * np.arange(length, dtype=np.uint8)
            video = levels[:, None, None, None] * np.ones(SHAPE, np.uint8)
            yield f"{number}", {"video": video, "label": length % 3}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prepared")
    prepare(folder, "array_record")
    return folder


def prepare(folder: Path, file_format: str) -> None:
    builder = tfds.builder("tfpqn_fake_videos", data_dir=folder)
    builder.download_and_prepare(
        file_format=file_format,
        download_config=tfds.download.DownloadConfig(try_download_gcs=False),
    )


def make(folder: Path, split: str = "train", **changes: object) -> TfdsClips:
    return TfdsClips("tfpqn_fake_videos", split, SHAPE, 4, data_dir=folder, **changes)


def lengths_of(clips: TfdsClips) -> list[int]:
    """Number of frames of each clip, in the order that preparing has given them."""
    return [len(clips._features(row)["video"].bytes_list.value) for row in range(len(clips))]


def levels(clip: np.ndarray) -> list[int]:
    return np.rint(clip.mean(axis=(1, 2, 3)) / 8).astype(int).tolist()


def test_labels_ids_and_names_are_known_at_once(prepared: Path) -> None:
    clips = make(prepared, "test", first_id=6, mirrors_alike=False)
    assert clips.ids.tolist() == [6, 7]
    assert clips.labels.tolist() == [length % 3 for length in lengths_of(clips)]
    assert clips.label_names == ("ant", "bee", "cat")
    assert not clips.mirrors_alike
    assert sorted(lengths_of(make(prepared))) == sorted(LENGTHS["train"])


def test_batches_hold_the_uniformly_sampled_frames(prepared: Path) -> None:
    clips = make(prepared)
    lengths = lengths_of(clips)
    for batch in clips.batches(4, np.array([5, 0, 3, 3, 1])):
        for position, clip in zip(batch.positions.tolist(), batch.images, strict=True):
            assert clip.shape == (4, *SHAPE)
            assert levels(clip) == sample_uniformly(lengths[position], 4).tolist()


def test_seed_draws_the_frames(prepared: Path) -> None:
    clips = make(prepared)
    for position, length in enumerate(lengths_of(clips)):
        expected = sample_jittered(length, 4, 3).tolist()
        assert levels(clips.read_item(position, 3)) == expected


def test_only_the_sampled_frames_are_decoded(
    prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded = []

    def count(data: object, shape: tuple[int, int, int]) -> object:
        decoded.append(data)
        return decode_image_bytes(data, shape)

    decode_image_bytes = tfds_clips.decode_image_bytes
    monkeypatch.setattr(tfds_clips, "decode_image_bytes", count)
    clips = make(prepared)
    assert not decoded
    clips.read_item(lengths_of(clips).index(30))
    assert len(decoded) == 4


def test_subset_keeps_frames_labels_and_ids_together(prepared: Path) -> None:
    clips = make(prepared)
    part = clips.subset(np.array([4, 1])).subset(np.array([1]))
    assert (part.ids.tolist(), part.labels.tolist()) == ([1], [clips.labels[1]])
    np.testing.assert_array_equal(part.read_item(0), clips.read_item(1))


def test_prepared_clips_can_be_trained_on(prepared: Path) -> None:
    batches = TrainingBatches(make(prepared).readable(), 4, augment=True)
    first, second = ([next(batches.dataset(2).as_numpy_iterator())[0]] for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_set_without_random_access_is_refused_with_the_remedy(tmp_path: Path) -> None:
    prepare(tmp_path, "tfrecord")
    with pytest.raises(FileNotFoundError, match="lies as tfrecord") as caught:
        make(tmp_path)
    assert (
        "tfds.builder('tfpqn_fake_videos', data_dir='DIR')"
        ".download_and_prepare(file_format='array_record')"
    ) in str(caught.value)


def test_number_of_frames_must_be_positive(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="num_frames must be at least 1. Received: 0"):
        TfdsClips("tfpqn_fake_videos", "train", SHAPE, 0, data_dir=tmp_path)
