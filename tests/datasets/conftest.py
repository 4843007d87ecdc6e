"""The two ways of taking training batches, which obey the same laws."""

import pytest

from tests.datasets.taking import Take, take_arrays, take_dataset


@pytest.fixture(params=[take_dataset, take_arrays], ids=["dataset", "arrays"])
def take(request: pytest.FixtureRequest) -> Take:
    return request.param
