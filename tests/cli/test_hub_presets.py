"""A preset of KerasHub on the command line, to a model that needs none."""

import pytest

from tests.cli.conftest import SMALL, succeed
from tests.core.tiny_presets import make_resnet, save_preset


@pytest.mark.slow
def test_the_road_of_photos_on_a_preset(photos, tmp_path):
    keras_hub = pytest.importorskip("keras_hub", reason="needs KerasHub")
    converter = keras_hub.layers.ResNetImageConverter(image_size=(24, 24), scale=1 / 255)
    preset = save_preset(make_resnet(keras_hub), converter, tmp_path / "preset")
    start, run, index = tmp_path / "start", tmp_path / "run", tmp_path / "index"
    given = ("train", "--images", photos, "--weights", preset, *SMALL)
    first = succeed(*given, "--run-dir", start)
    assert "Backbone keras_hub" in first.output and "at 24 pixels" in first.output
    tuned = succeed(*given, "--initial-run", start, "--fine-tune", 0.5, "--run-dir", run)
    indexed = succeed("index", "--run-dir", run, "--images", photos, "--output", index)
    # What learns is so in the file, and the optimizer with it.
    assert "warning" not in tuned.error + indexed.error
    succeed("export", "--run-dir", run, "--index", index, "--output", tmp_path / "model" / "1")
    found = succeed("search", "--model", tmp_path / "model" / "1", photos / "cat" / "0.png")
    assert "cat/0.png" in found.output
