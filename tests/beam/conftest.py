"""One run of images that all tests share."""

import pytest


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    from tests.beam.collected import make_image_run

    return make_image_run(tmp_path_factory.mktemp("beam") / "run")
