"""Laws of codebook usage and perplexity."""

import keras
import numpy as np
import pytest

from tfpqn.metrics import CodebookPerplexity, CodebookUsage

both = pytest.mark.parametrize("metric_class", [CodebookUsage, CodebookPerplexity])


def usage_of(codes, num_codewords):
    used = {(position, codeword) for code in codes for position, codeword in enumerate(code)}
    return len(used) / (len(codes[0]) * num_codewords)


def perplexity_of(codes, num_codewords):
    perplexities = []
    for column in np.transpose(codes):
        shares = [np.mean(column == k) for k in range(num_codewords)]
        perplexities.append(np.exp(-sum(p * np.log(p) for p in shares if p > 0)))
    return np.mean(perplexities)


@both
@pytest.mark.parametrize(("num_codewords", "dtype"), [(256, "uint8"), (300, "uint16")])
def test_batches_add_up_to_the_count_of_all_codes(rng, metric_class, num_codewords, dtype):
    codes = rng.integers(0, num_codewords, size=(30, 3)).astype(dtype)
    whole, parts = metric_class(3, num_codewords), metric_class(3, num_codewords)
    whole.update_state(codes)
    for batch in np.split(codes, [1, 17]):
        parts.update_state(batch)
    assert float(parts.result()) == float(whole.result())
    expected = usage_of if metric_class is CodebookUsage else perplexity_of
    assert float(whole.result()) == pytest.approx(expected(codes.tolist(), num_codewords), rel=1e-5)


@both
def test_before_the_first_code_and_after_a_reset_the_result_is_zero(metric_class):
    metric = metric_class(2, 4)
    assert float(metric.result()) == 0.0
    metric.update_state(np.zeros((3, 2), "uint8"))
    assert float(metric.result()) > 0.0
    metric.reset_state()
    assert float(metric.result()) == 0.0


@both
def test_the_configuration_comes_back(metric_class):
    metric = metric_class(3, 5, name="health")
    again = keras.metrics.deserialize(keras.metrics.serialize(metric))
    assert isinstance(again, metric_class)
    assert again.get_config() == metric.get_config()
    assert (again.name, again.code_length, again.num_codewords) == ("health", 3, 5)


@both
def test_positions_of_which_nothing_was_counted_do_not_count(rng, metric_class):
    """In training the codes are those of the first level alone."""
    codes = rng.integers(0, 4, size=(6, 2))
    short, long = metric_class(2, 4), metric_class(6, 4)
    for metric in (short, long):
        metric.update_state(codes)
    assert float(long.result()) == pytest.approx(float(short.result()), rel=1e-6)
