"""Laws of `--set`: any setting without an option of its own, of its own kind."""

import pytest

from tfpqn.cli.settings import DEFAULTS, read_settings
from tfpqn.training import RunConfig
from tfpqn.training.settings.run_config import FEWEST_EPOCHS, IMAGES_SEEN, MOST_EPOCHS

WITH_OPTION = ("bits", "augment")


def test_named_settings_are_read_as_what_they_are():
    texts = ["optimizer=sgd", "weight_decay=0.005", "classification_weight=1", "cutout=4"]
    settings = read_settings([*texts, "unit_codewords=false"], RunConfig, WITH_OPTION)
    assert settings == {
        "optimizer": "sgd",
        "weight_decay": 0.005,
        "classification_weight": 1.0,
        "cutout": 4,
        "unit_codewords": False,
    }
    assert type(settings["classification_weight"]) is float


def test_the_help_names_the_defaults_of_a_run():
    # The number of epochs is chosen for the data; the help says how.
    known = {name: getattr(RunConfig(), name) for name in DEFAULTS if name != "epochs"}
    assert known == {name: value for name, value in DEFAULTS.items() if name != "epochs"}
    for number in (IMAGES_SEEN, FEWEST_EPOCHS, MOST_EPOCHS):
        assert f"{number:,}" in DEFAULTS["epochs"]


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["cutout"], "takes NAME=VALUE, where NAME is one of .*'cutout'.*Received: 'cutout'"),
        (["cut=4"], "where NAME is one of .*Received: 'cut=4'"),
        (["bits=8"], "settings without an option; bits has one: --bits. Received: 'bits=8'"),
        (["cutout=big"], "cutout must be a whole number. Received: cutout='big'"),
        (["cutout=1.5"], "cutout must be a whole number. Received: cutout='1.5'"),
        (["cutout=true"], "cutout must be a whole number. Received: cutout='true'"),
        (["weight_decay=big"], "weight_decay must be a number. Received: weight_decay='big'"),
        (["center_embeddings=0"], "center_embeddings must be true or false. Received"),
        (["optimizer=3"], "optimizer must be text. Received: optimizer='3'"),
        (["cutout=4", "cutout=4"], "takes each name once. Received: 'cutout' twice"),
    ],
)
def test_what_does_not_fit_is_refused(texts, message):
    with pytest.raises(ValueError, match=message):
        read_settings(texts, RunConfig, WITH_OPTION)
