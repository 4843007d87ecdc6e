"""Laws of the precision that training computes in."""

import dataclasses
import json

import pytest

from tfpqn.training import Run, RunConfig, train
from tfpqn.training.runs import precision as module
from tfpqn.training.runs.machine import note_machine
from tfpqn.training.runs.precision import choose_precision

HALF = "mixed_bfloat16"
CONFIG = RunConfig(bits=8, embedding_dim=16, epochs=1, batch_size=512, precision=HALF)


@pytest.fixture
def seconds(monkeypatch):
    """Seconds of a step by policy, which a test may change."""
    taken = {"float32": 1.0, HALF: 0.6}
    monkeypatch.setattr(module, "_time_step", taken.__getitem__)
    choose_precision.cache_clear()
    yield taken
    choose_precision.cache_clear()


@pytest.mark.parametrize("half", [0.5, 1.0, 2.5])
def test_half_precision_is_taken_unless_it_is_much_slower(seconds, half):
    seconds[HALF] = half
    assert choose_precision(HALF) == HALF


def test_float32_takes_the_place_of_half_precision_that_is_much_slower(seconds):
    seconds[HALF] = 12.0
    with pytest.warns(UserWarning, match="mixed_bfloat16 is 12 times as slow as float32"):
        assert choose_precision(HALF) == "float32"


def test_float32_is_taken_untried(seconds):
    seconds.clear()
    assert choose_precision("float32") == "float32"


@pytest.mark.parametrize("policy", ["float32", HALF])
def test_a_trial_takes_its_time(policy):
    assert 0 < module._time_step(policy) < 60


@pytest.mark.filterwarnings("ignore:mixed_bfloat16 is")
@pytest.mark.parametrize(("half", "taken"), [(0.6, HALF), (12.0, "float32")])
def test_a_run_trains_and_is_saved_in_the_precision_that_was_chosen(seconds, tmp_path, half, taken):
    seconds[HALF] = half
    run = Run.start(tmp_path / "run", CONFIG)
    train(run, run.load_splits(), progress=False)
    network = Run.open(run.folder).load_network()
    policies = {layer.dtype_policy.name for layer in network.backbone.layers}
    assert (HALF in policies) == (taken == HALF)


@pytest.mark.filterwarnings("ignore:mixed_bfloat16 is")
def test_a_run_goes_on_in_the_precision_that_it_began_with(seconds, tmp_path):
    for half in (12.0, 0.6):
        seconds[HALF] = half
        choose_precision.cache_clear()
        assert note_machine(tmp_path, CONFIG)["precision"] == "float32"


def test_settings_that_take_the_place_of_others_are_noted_anew(seconds, tmp_path):
    """Before the first checkpoint, when a folder binds nothing."""
    first = Run.start(tmp_path, CONFIG)
    assert note_machine(first.folder, first.config)["precision"] == HALF
    other = Run.start(tmp_path, dataclasses.replace(CONFIG, precision="float32"))
    assert note_machine(other.folder, other.config)["precision"] == "float32"


def test_a_run_that_was_begun_before_there_was_a_choice_keeps_to_its_settings(seconds, tmp_path):
    seconds[HALF] = 12.0
    former = {"backend": "jax", "hardware": "2 cores", "versions": {}, "commit": "abc"}
    (tmp_path / "machine.json").write_text(json.dumps(former))
    assert note_machine(tmp_path, CONFIG) == {**former, "precision": HALF}
