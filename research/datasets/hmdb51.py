"""HMDB-51 for tensorflow-datasets: importing this module makes the builder `hmdb51` known."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import tensorflow as tf
import tensorflow_datasets as tfds

from tfpqn.datasets.images.decoding import fit_frame

SHORTER_SIDE = 240
LABEL_NAMES = (
    "brush_hair cartwheel catch chew clap climb climb_stairs dive draw_sword dribble drink eat "
    "fall_floor fencing flic_flac golf handstand hit hug jump kick kick_ball kiss laugh pick pour "
    "pullup punch push pushup ride_bike ride_horse run shake_hands shoot_ball shoot_bow shoot_gun "
    "sit situp smile smoke somersault stand swing_baseball sword sword_exercise talk throw turn "
    "walk wave"
).split()
# How the lists of a split name its parts; videos with a 0 take no part.
MARK_OF = {"train": "1", "test": "2"}


class Hmdb51(tfds.core.GeneratorBasedBuilder):
    """HMDB-51: 51 actions, three splits of 70 training and 30 test clips per action.

    Every frame is stored as a JPEG of its own, its shorter side 240 pixels long, so that single
    frames can be read.

    References:
        H. Kuehne, H. Jhuang, E. Garrote, T. Poggio, T. Serre, "HMDB: A large video database for
        human motion recognition", ICCV 2011.
    """

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = [
        tfds.core.BuilderConfig(name=f"split_{number}", description=f"Official split {number}.")
        for number in (1, 2, 3)
    ]
    MANUAL_DOWNLOAD_INSTRUCTIONS = """
    Get hmdb51_org.rar and test_train_splits.rar from the site of HMDB (Serre lab, Brown
    University). Unpack hmdb51_org.rar, which holds one .rar per action, into the folder
    hmdb51_org, and each of those there: hmdb51_org/wave/NAME.avi. Unpack test_train_splits.rar:
    testTrainMulti_7030_splits/wave_test_split1.txt. Put both folders into the manual directory.
    """

    def _info(self) -> Any:
        features = {
            "video": tfds.features.Video(shape=(None, None, None, 3), encoding_format="jpeg"),
            "label": tfds.features.ClassLabel(names=LABEL_NAMES),
        }
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(features),
            homepage="https://serre-lab.clps.brown.edu/resource/hmdb-a-large-human-motion-database",
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        folder = Path(dl_manager.manual_dir)
        return {part: self._generate_examples(folder, part) for part in MARK_OF}

    def _generate_examples(self, folder: Path, part: str) -> Iterator[tuple[str, dict[str, Any]]]:
        number = self.builder_config.name.removeprefix("split_")
        for path in list_videos(folder, int(number), part):
            example = {"video": list(_encode_frames(path)), "label": path.parent.name}
            yield f"{path.parent.name}/{path.name}", example


def list_videos(folder: Path, split_number: int, part: str) -> list[Path]:
    """The videos of `"train"` or `"test"` in the manual directory, sorted.

    Raises:
        FileNotFoundError: There are no lists of the split, or a video that they name is missing.
    """
    lists = sorted((folder / "testTrainMulti_7030_splits").glob(f"*_test_split{split_number}.txt"))
    if not lists:
        raise FileNotFoundError(
            f"{folder} must hold testTrainMulti_7030_splits with the lists of split "
            f"{split_number}. Received: none"
        )
    videos = []
    for path in lists:
        label = path.name.removesuffix(f"_test_split{split_number}.txt")
        rows = [line.split() for line in path.read_text(encoding="utf-8").splitlines()]
        names = [row[0] for row in rows if row[1:] == [MARK_OF[part]]]
        videos += [folder / "hmdb51_org" / label / name for name in names]
    if missing := [video for video in videos if not video.is_file()]:
        raise FileNotFoundError(
            f"Every video that the lists name must lie in hmdb51_org. Received: {len(missing)} of "
            f"{len(videos)} missing, the first: {missing[0]}"
        )
    return sorted(videos)


def _encode_frames(path: Path) -> Iterator[io.BytesIO]:
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            scale = SHORTER_SIDE / min(frame.height, frame.width)
            shape = (round(frame.height * scale), round(frame.width * scale), 3)
            scaled = fit_frame(frame.to_ndarray(format="rgb24"), shape)
            yield io.BytesIO(tf.io.encode_jpeg(scaled, quality=95).numpy())
