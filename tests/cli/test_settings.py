"""Laws of `--set`: any setting without an option of its own, of its own kind."""

import pytest

from tfpqn.cli.settings import read_settings
from tfpqn.training import RunConfig

WITH_OPTION = ("bits", "augment")
CONFIG = RunConfig(augment=True)


def test_named_settings_change_and_others_stay():
    texts = ["optimizer=sgd", "weight_decay=0.005", "classification_weight=1", "cutout=4"]
    config = read_settings([*texts, "center_embeddings=false"], CONFIG, WITH_OPTION)
    assert config == RunConfig(
        augment=True,
        optimizer="sgd",
        weight_decay=0.005,
        classification_weight=1.0,
        cutout=4,
        center_embeddings=False,
    )
    assert type(config.classification_weight) is float


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
        (["optimizer=lion"], "optimizer must be one of"),
    ],
)
def test_what_does_not_fit_is_refused(texts, message):
    with pytest.raises(ValueError, match=message):
        read_settings(texts, CONFIG, WITH_OPTION)
