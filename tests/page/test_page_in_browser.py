"""The search page in headless Chromium, as a reader uses it."""

import base64
import io
import re

import av
import numpy as np
import pytest
from PIL import Image

from tests.page.conftest import COLOURS, HOSTILE
from tests.page.fake_model import Collection, make_picture, serve_fake
from tests.serving.calls import call_rest
from tests.serving.models import make_inputs
from tfpqn.export.page import FOLDER
from tfpqn.export.server import running_server

RED = make_picture(COLOURS["red"])
NEAR_RED = ["red/0.png", HOSTILE, "red/1.png", "red/2.png"]
# A file in a DataTransfer, as a drop or a paste brings it.
HAND_OVER = """([type, data, number = 1]) => {
  const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
  const transfer = new DataTransfer();
  for (let i = 0; i < number; i++) {
    transfer.items.add(new File([bytes], "photo.png", { type: "image/png" }));
  }
  const how = { dataTransfer: transfer, clipboardData: transfer, bubbles: true, cancelable: true };
  const event = type === "drop" ? new DragEvent(type, how) : new ClipboardEvent(type, how);
  document.body.dispatchEvent(event);
}"""


def choose(page, data=RED, name="query.png", kind="image/png"):
    page.set_input_files("#files", [{"name": name, "mimeType": kind, "buffer": data}])


def wait_for_answer(page, count=None):
    number = r"\d+" if count is None else count
    status = page.locator("#results[aria-busy=false] #status")
    status.filter(has_text=re.compile(rf"^{number} items? in \d+ ms$")).wait_for()


def ids_of(page):
    return page.locator("#list .id").all_text_contents()


def search_with(page, url, data=RED):
    page.goto(url)
    choose(page, data)
    wait_for_answer(page)


def wait_until(page, script):
    """Playwright's own waiting evaluates text in the page, which the page's policy forbids."""
    for _ in range(600):
        if page.evaluate(script):
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"not within 30 seconds: {script}")


def test_a_chosen_photo_shows_its_nearest_items_with_thumbnails_scores_and_labels(page, photos):
    search_with(page, photos.url)
    assert ids_of(page) == NEAR_RED
    assert page.locator("#list .label").all_text_contents()[0] == "red"
    assert page.locator("#list .score").all_text_contents()[:2] == ["score 4.000", "score 3.875"]
    assert page.locator("#shown-title").text_content() == "query.png"
    wait_until(
        page,
        "[...document.querySelectorAll('#list img')].every((image) => image.naturalWidth === 24)",
    )
    assert page.locator("#list img").count() == 4
    parts = r"reading \d+ ms · network and server \d+ ms · showing \d+ ms"
    assert re.fullmatch(parts, page.locator("#times").text_content())


def test_a_photo_that_is_dropped_or_pasted_anywhere_is_searched_with(page, photos):
    for way in ("drop", "paste"):
        page.goto(photos.url)
        page.evaluate(HAND_OVER, [way, base64.b64encode(RED).decode()])
        wait_for_answer(page)
        assert ids_of(page) == NEAR_RED


def test_a_click_shows_more_like_the_item_and_back_returns_to_the_photo(page, photos):
    search_with(page, photos.url)
    page.get_by_role("link", name="More like red red/1.png").click()
    page.locator("#shown-title", has_text="red/1.png").wait_for()
    wait_for_answer(page)
    assert "red/1.png" not in ids_of(page) and len(ids_of(page)) == 4
    assert page.evaluate("decodeURIComponent(location.hash)") == "#item=red/1.png"
    page.go_back()
    page.locator("#shown-title", has_text="query.png").wait_for()
    wait_for_answer(page)
    assert ids_of(page) == NEAR_RED


@pytest.mark.slow
def test_an_address_with_an_item_shows_what_is_like_it(page, photos):
    page.goto(f"{photos.url}#item=blue%2F1.png")
    wait_for_answer(page)
    assert all(id_.startswith("blue/") for id_ in ids_of(page)[:2])


def test_a_bad_file_shows_the_servers_sentence_and_no_results(page, photos):
    search_with(page, photos.url)
    choose(page, b"no picture", "notes.jpg", "image/jpeg")
    alert = page.get_by_role("alert")
    alert.wait_for()
    assert "must hold the bytes of image files. Received: 10 other bytes" in alert.text_content()
    assert ids_of(page) == [] and not page.get_by_role("button", name="Try again").is_visible()
    choose(page)
    wait_for_answer(page)
    assert not alert.is_visible()


def test_files_that_make_no_query_are_named_and_no_older_query_is_shown(page, photos):
    search_with(page, photos.url)
    alert = page.get_by_role("alert")
    page.evaluate(HAND_OVER, ["drop", base64.b64encode(RED).decode(), 2])
    alert.filter(has_text="A query must be a picture. Received: 2 files").wait_for()
    assert not page.locator("#shown").is_visible()
    choose(page, b"no picture", "scan.tiff", "image/tiff")
    alert.filter(has_text="This browser cannot read scan.tiff").wait_for()
    assert not page.locator("#shown").is_visible()


def test_a_server_without_a_version_is_said_to_have_none(page, photos):
    page.route("**/metadata", lambda route: route.fulfill(status=404, json={"error": "Latest(a)"}))
    page.goto(photos.url)
    alert = page.get_by_role("alert")
    alert.filter(has_text="The server has no version of the model ready: Latest(a)").wait_for()


@pytest.mark.slow
def test_an_unknown_item_is_refused_in_the_servers_words(page, photos):
    page.goto(photos.url)
    page.get_by_label("Item of the collection").fill("red/99.png")
    page.get_by_role("button", name="Find").click()
    page.get_by_role("alert").wait_for()
    assert "Received: 'red/99.png'" in page.get_by_role("alert").text_content()


def test_an_empty_collection_is_said_to_be_empty(page):
    with serve_fake(Collection([])) as fake:
        page.goto(fake.url)
        choose(page)
        page.locator("#note", has_text="the collection is empty").wait_for()
        assert ids_of(page) == []


def test_a_server_that_is_down_is_said_to_be_and_tried_again(page, photos):
    page.goto(photos.url)
    page.get_by_role("heading", name="birds").wait_for()
    page.context.set_offline(True)
    choose(page)
    page.get_by_role("alert").wait_for()
    assert "The server does not answer" in page.get_by_role("alert").text_content()
    page.context.set_offline(False)
    page.get_by_role("button", name="Try again").click()
    wait_for_answer(page)
    assert ids_of(page) == NEAR_RED


@pytest.mark.slow
def test_a_server_that_is_down_at_first_is_tried_again_too(page, photos):
    page.route("**/metadata", lambda route: route.fulfill(status=502, body="<html>Bad Gateway"))
    page.goto(photos.url)
    page.get_by_role("alert").wait_for()
    assert "The server answered 502" in page.get_by_role("alert").text_content()
    page.unroute("**/metadata")
    page.get_by_role("button", name="Try again").click()
    choose(page)
    wait_for_answer(page)


def test_all_of_it_can_be_done_with_the_keyboard(page, photos):
    page.goto(photos.url)
    # The page has read what the model takes, and moves no more.
    page.get_by_text("Item of the collection").wait_for()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "skip"
    page.keyboard.press("Tab")
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Space")
    chooser.value.set_files([{"name": "query.png", "mimeType": "image/png", "buffer": RED}])
    wait_for_answer(page)
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.matches('#list a')"):
            break
    page.keyboard.press("Enter")
    page.locator("#shown-title", has_text="red/0.png").wait_for()
    wait_for_answer(page)
    # The link is gone with its list: the reader goes on from the new one's title.
    assert page.evaluate("document.activeElement.id") == "results-title"
    page.locator("#skip").focus()
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "results-title"
    assert page.evaluate("location.hash") == "#item=red%2F0.png"


def test_every_control_has_a_name_for_those_who_hear_the_page(page, photos):
    search_with(page, photos.url)
    heard = page.locator("body").aria_snapshot()
    for line in (
        'heading "birds" [level=1]',
        'button "Choose a picture or drop or paste it anywhere on this page"',
        'combobox "Item of the collection": ',
        'spinbutton "Number of results": "4"',
        'combobox "Only items with one of these tags"',
        'spinbutton "Lists to look at"',
        'region "Nearest items"',
        'link "More like red red/0.png score 4.000"',
    ):
        assert line.rstrip(": ") in heard, f"{line} is not in\n{heard}"
    assert re.search(r"status: 4 items in \d+ ms", heard)


@pytest.mark.slow
def test_a_phone_scrolls_down_and_never_sideways(page, collection, pictures):
    ids = [*collection.ids[:2], "long" * 60 + ".png", "W" * 90]
    labels = ["red", "red", "label" * 40, "with many words " * 9]
    for images in (pictures, None):
        with serve_fake(Collection(ids, labels), images) as fake:
            page.set_viewport_size({"width": 320, "height": 640})
            search_with(page, fake.url)
            widths = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
            assert widths[0] <= widths[1] == 320
            assert page.locator("#results-title").bounding_box()["y"] < 640


def test_a_hostile_id_and_label_are_text(page, photos):
    search_with(page, photos.url)
    assert ids_of(page)[1] == HOSTILE
    assert page.locator("#list .label").all_text_contents()[1] == "<b>red</b>"
    assert page.locator("#list b, #list img[src=x]").count() == 0
    page.locator("#list a").nth(1).click()
    page.locator("#shown-title", has_text="<img").wait_for()
    wait_for_answer(page)
    assert page.title() == f"{HOSTILE} · birds"


def test_the_number_of_results_and_tags_choose_the_signature_that_takes_them(page, photos):
    search_with(page, photos.url)
    page.get_by_label("Number of results").fill("6")
    page.keyboard.press("Enter")
    wait_for_answer(page, 6)
    assert photos.requests[-1][0] == "search_k"
    page.get_by_label("Number of results").fill("-4")
    page.keyboard.press("Enter")
    wait_for_answer(page, 1)
    assert page.get_by_label("Number of results").input_value() == "1", "what was asked for"
    page.get_by_label("Number of results").fill("2")
    page.get_by_label("No items with any of these tags").fill("label=red, label=<b>red</b>")
    page.keyboard.press("Enter")
    wait_for_answer(page, 2)
    assert {id_.split("/")[0] for id_ in ids_of(page)} == {"green"}
    assert photos.requests[-1][0] == "search_with_filters"
    page.get_by_label("No items with any of these tags").fill("city=Washington, D.C., label=red")
    page.keyboard.press("Enter")
    wait_for_answer(page, 2)
    assert photos.requests[-1][1]["deny_tags"].tolist() == [
        [b"city=Washington, D.C.", b"label=red"]
    ]
    page.get_by_label("Only items with one of these tags").fill("label=red")
    page.keyboard.press("Enter")
    page.locator("#note", has_text="No item passes these filters").wait_for()


@pytest.mark.slow
def test_the_number_of_lists_to_look_at_has_a_field(page, photos):
    search_with(page, photos.url)
    page.get_by_label("Number of results").fill("9")
    page.get_by_label("Lists to look at").fill("2")
    page.keyboard.press("Enter")
    page.locator("#note", has_text="This search finds at most 4 items").wait_for()
    asked, inputs = photos.requests[-1]
    assert asked == "search_with_probes" and inputs["num_probes"] == 2
    page.get_by_label("Lists to look at").fill("")
    page.keyboard.press("Enter")
    wait_for_answer(page, 9)


def test_ids_that_javascript_would_round_stay_whole(page):
    first = 2**53 + 1
    with serve_fake(Collection(list(range(first, first + 9)))) as fake:
        search_with(page, fake.url)
        assert ids_of(page) == [str(first + i) for i in range(4)]
        page.locator("#list a").nth(1).click()
        page.locator("#shown-title", has_text=str(first + 1)).wait_for()
        wait_for_answer(page)
        assert ids_of(page)[:2] == [str(first), str(first + 2)]


@pytest.mark.slow
def test_frames_of_a_clip_are_sent_in_the_order_of_their_names(page):
    frames = {f"frame-{n}.png": make_picture((n, n, n)) for n in (10, 9, 1)}
    with serve_fake(Collection(["walk.mp4"], item_input="frames")) as fake:
        page.goto(fake.url)
        page.locator("#files[multiple]").wait_for(state="attached")
        page.set_input_files(
            "#files",
            [{"name": n, "mimeType": "image/png", "buffer": data} for n, data in frames.items()],
        )
        wait_for_answer(page)
        (sent,) = fake.requests[-1][1]["frames"]
        assert list(sent) == [frames[f"frame-{n}.png"] for n in (1, 9, 10)]


@pytest.mark.slow
def test_of_a_video_frames_are_sent_from_equal_stretches_of_its_time(page):
    file = io.BytesIO()
    with av.open(file, "w", "webm") as container:
        stream = container.add_stream("libvpx", rate=16)
        stream.width = stream.height = 32
        for number in range(32):
            pixels = np.full((32, 32, 3), 8 * number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, "rgb24")))
        container.mux(stream.encode())
    with serve_fake(Collection(["walk.webm"], item_input="frames")) as fake:
        page.goto(fake.url)
        choose(page, file.getvalue(), "walk.webm", "video/webm")
        wait_for_answer(page)
        (sent,) = fake.requests[-1][1]["frames"]
        shades = [np.asarray(Image.open(io.BytesIO(frame))).mean() for frame in sent]
        np.testing.assert_allclose(shades, 16 * np.arange(16) + 8, atol=14)


@pytest.mark.slow
def test_a_vector_is_pasted_as_json(page):
    with serve_fake(Collection(["a", "b"], item_input="embeddings")) as fake:
        page.goto(fake.url)
        page.get_by_label("Vector", exact=True).fill("[0.5, -2e-1, 3]")
        page.get_by_role("button", name="Search with this vector").click()
        wait_for_answer(page)
        assert fake.requests[-1][1]["embeddings"].tolist() == [pytest.approx([0.5, -0.2, 3])]
        page.get_by_label("Vector", exact=True).fill("[one, two]")
        page.get_by_role("button", name="Search with this vector").click()
        page.get_by_role("alert").wait_for()
        assert "must be a list of numbers" in page.get_by_role("alert").text_content()


def test_behind_a_static_host_the_page_asks_the_stock_api_of_its_own_origin(page, photos):
    site = "http://static.example/search/"
    thumbnail = make_picture((9, 9, 9))

    def answer(route):
        path = route.request.url.removeprefix(site)
        if path.startswith("v1/"):
            # The proxy names the server, not the site that the reader sees.
            headers = {"content-type": route.request.headers.get("content-type", "")}
            body = route.request.post_data_buffer
            answer = call_rest(photos.port, f"/{path}", body, headers)
            route.fulfill(status=answer.status_code, body=answer.content)
        elif path == "settings.json":
            route.fulfill(json={"model": "birds", "thumbnails": "thumbnails/"})
        elif path.startswith("thumbnails/"):
            route.fulfill(body=thumbnail, content_type="image/png")
        else:
            route.fulfill(path=FOLDER / (path or "index.html"))

    page.route(f"{site}**", answer)
    search_with(page, site)
    assert ids_of(page) == NEAR_RED
    wait_until(page, "document.querySelector('#list img').naturalWidth === 24")


@pytest.mark.slow
def test_a_model_that_was_exported_is_searched_by_the_page(page, models, own_folder):
    image = make_inputs(models["images"], "search", 1)["images"][0]
    expected = models["images"].searcher([image])
    options = {"port": 0, "rest_api_port": 0, "ui": True}
    with running_server(own_folder.folder, **options) as server:
        search_with(page, f"http://127.0.0.1:{server.rest_port}/", image)
        assert ids_of(page) == [str(id_) for id_ in expected.ids[0]]
        like_first = models["images"].searcher.search_by_id(expected.ids[0, :1])
        page.locator("#list a").first.click()
        page.locator("#shown-title", has_text=str(expected.ids[0, 0])).wait_for()
        wait_for_answer(page)
        assert ids_of(page) == [str(id_) for id_ in like_first.ids[0]]
        page.get_by_label("Number of results").fill("3")
        page.go_back()
        page.locator("#shown-title", has_text="query.png").wait_for()
        page.get_by_label("Only items with one of these tags").fill("label=1")
        page.keyboard.press("Enter")
        wait_for_answer(page, 3)
