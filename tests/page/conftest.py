"""A folder of pictures, a server of them, and one browser for all tests of the page."""

import os
import shutil

import numpy as np
import pytest

from tests.page.fake_model import Collection, make_picture, serve_fake

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
COLOURS = {"red": (200, 20, 30), "green": (20, 160, 60), "blue": (30, 60, 200)}
HOSTILE = "red/<img src=x onerror=document.title='owned'>.png"


# Of each picture by its id: three colours in four shades, and a file of a hostile name.
SHADES = {
    f"{name}/{number}.png": np.array(colour) + 10 * number
    for name, colour in COLOURS.items()
    for number in range(4)
}
SHADES[HOSTILE] = SHADES["red/0.png"] + 5


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    """The folder of the pictures."""
    folder = tmp_path_factory.mktemp("pictures")
    for item_id, shade in SHADES.items():
        (folder / item_id).parent.mkdir(exist_ok=True)
        (folder / item_id).write_bytes(make_picture(shade))
    return folder


@pytest.fixture(scope="session")
def collection():
    """The pictures as a collection of images with labels."""
    labels = ["<b>red</b>" if id_ == HOSTILE else id_.split("/")[0] for id_ in SHADES]
    return Collection(list(SHADES), labels, np.array(list(SHADES.values())))


@pytest.fixture(scope="session")
def photos(collection, pictures):
    """A server of the pictures with their thumbnails."""
    with serve_fake(collection, pictures) as fake:
        yield fake


# Of a module: it keeps an event loop running, beside which `asyncio.run` of other tests fails.
@pytest.fixture(scope="module")
def browser():
    """Headless Chromium; where it is missing the tests are skipped, in CI they fail."""
    if CHROMIUM is None and not os.environ.get("CI"):
        pytest.skip("The tests of the search page need Chromium: apt-get install chromium")
    if not os.environ.get("CI"):
        pytest.importorskip("playwright", reason="needs the extra browser: pip install playwright")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as started:
        # Without a sandbox: root may not have one, and only our own page is opened.
        yield started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])


@pytest.fixture
def page(browser):
    """A page of its own; an error in its console or a dialog fails the test."""
    size = {"width": 1200, "height": 800}
    context = browser.new_context(viewport=size, reduced_motion="reduce")
    context.set_default_timeout(10_000)
    page = context.new_page()
    problems = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("dialog", lambda dialog: problems.append(dialog.message))
    page.on("console", lambda message: problems.append(message.text) if is_problem(message) else 0)
    yield page
    context.close()
    assert not problems


def is_problem(message):
    """Whether a line of the console tells more than that a request failed."""
    return message.type == "error" and "Failed to load resource" not in message.text
