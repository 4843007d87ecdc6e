"""What the page's routes send and to whom, without a browser."""

import io
import os
import re

import numpy as np
import pytest
from PIL import Image

from tests.page.conftest import HOSTILE
from tests.page.fake_model import Collection, make_picture, serve_fake
from tests.serving.calls import call_rest
from tfpqn.export.page.routes import CONTENT_POLICY, FILES, FOLDER
from tfpqn.export.page.thumbnails import THUMBNAIL_SIDE, find_image, make_thumbnail
from tfpqn.export.server import ModelServer

OUTSIDE = [
    *("../secret.png", "red/../../secret.png", "./../secret.png", "..", "/", ""),
    *("..\\secret.png", "red/..%2f..%2fsecret.png", "red/0.png/../../../secret.png"),
    *("link.png", "links/secret.png", "loop.png", "pipe.png", "a\0.png", "x" * 5000 + ".png"),
    *(".hidden.png", ".git/1.png", "__MACOSX/1.png", "notes.txt", "notes.png/", "red", "7"),
]


@pytest.fixture
def folder(tmp_path):
    """A folder with one picture in `red`, and traps."""
    folder = tmp_path / "photos"
    (folder / "red").mkdir(parents=True)
    secret = tmp_path / "secret.png"
    for path in (secret, folder / "red" / "0.png", folder / ".hidden.png"):
        path.write_bytes(make_picture((1, 2, 3)))
    for name in (".git", "__MACOSX"):
        (folder / name).mkdir()
        (folder / name / "1.png").write_bytes(make_picture((1, 2, 3)))
    (folder / "notes.txt").write_text("a secret")
    (folder / "link.png").symlink_to(secret)
    (folder / "links").symlink_to(tmp_path)
    (folder / "loop.png").symlink_to(folder / "loop.png")
    (folder / "inner.png").symlink_to(folder / "red" / "0.png")
    os.mkfifo(folder / "pipe.png")
    return folder


@pytest.mark.parametrize("item_id", OUTSIDE, ids=lambda item_id: ascii(item_id)[:20])
def test_no_id_leads_out_of_the_folder_or_to_another_file_than_an_image(folder, item_id):
    with pytest.raises(LookupError, match="there is no such image"):
        find_image(folder, item_id)


def test_an_absolute_path_is_no_way_out(folder, tmp_path):
    with pytest.raises(LookupError):
        find_image(folder, str(tmp_path / "secret.png"))


def test_images_of_the_folder_and_links_that_stay_in_it_are_found(folder):
    for item_id in ("red/0.png", "inner.png"):
        assert find_image(folder, item_id) == folder / "red" / "0.png"


def test_a_file_that_is_too_large_is_not_read(folder, monkeypatch):
    monkeypatch.setattr("tfpqn.export.page.thumbnails.MAX_FILE_BYTES", 10)
    with pytest.raises(LookupError):
        find_image(folder, "red/0.png")


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "GIF", "TIFF", "BMP", "WEBP"])
def test_a_thumbnail_is_a_small_webp_of_the_same_colour_and_aspect(tmp_path, file_format):
    path = tmp_path / "picture"
    path.write_bytes(make_picture((200, 100, 50), (1600, 800), file_format))
    small = Image.open(io.BytesIO(make_thumbnail(path)))
    assert (small.format, small.size) == ("WEBP", (THUMBNAIL_SIDE, THUMBNAIL_SIDE // 2))
    np.testing.assert_allclose(np.asarray(small)[9, 9], (200, 100, 50), atol=8)


def test_a_thumbnail_stands_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 20)).save(tmp_path / "lying.jpg", exif=exif)
    assert Image.open(io.BytesIO(make_thumbnail(tmp_path / "lying.jpg"))).size == (20, 40)


def test_a_broken_file_has_no_thumbnail(tmp_path):
    path = tmp_path / "broken.jpg"
    path.write_bytes(make_picture((1, 2, 3), (64, 64), "JPEG")[:200])
    with pytest.raises(ValueError, match="expected a whole image file"):
        make_thumbnail(path)


def test_every_answer_of_the_page_forbids_what_it_does_not_need(photos):
    for path in ("/", *(f"/{name}" for name in FILES), "/settings.json", "/thumbnails/red/0.png"):
        answer = call_rest(photos.port, path)
        assert answer.status_code == 200, path
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy and "*" not in policy


def test_the_page_states_the_same_policy_for_hosts_without_headers():
    html = (FOLDER / "index.html").read_text(encoding="utf-8")
    assert f'http-equiv="Content-Security-Policy" content="{CONTENT_POLICY}"' in html


def test_the_page_is_made_of_its_own_files_and_of_text():
    names = {path.name for path in FOLDER.iterdir() if path.suffix not in (".py", "")}
    assert names == FILES.keys()
    for name in names:
        text = (FOLDER / name).read_text(encoding="utf-8")
        assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(", text)
        assert not re.search(r" style=| on[a-z]+=\"|<script>", text)
        assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", text), name


def test_the_route_sends_images_of_the_folder_alone(folder, photos):
    answer = call_rest(photos.port, f"/thumbnails/{HOSTILE.replace('<', '%3C')}")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/webp")
    with serve_fake(Collection(["a"]), folder) as fake:
        for item_id in ("%2e%2e/secret.png", "..%2fsecret.png", "link.png", "notes.txt", "%00.png"):
            answer = call_rest(fake.port, f"/thumbnails/{item_id}")
            assert answer.status_code == 404 and b"secret" not in answer.content, item_id
        assert call_rest(fake.port, "/thumbnails/red/0.png").status_code == 200


def test_without_a_folder_no_file_of_the_disk_is_sent():
    with serve_fake(Collection(["a"])) as fake:
        assert call_rest(fake.port, "/settings.json").json()["thumbnails"] is None
        assert call_rest(fake.port, "/thumbnails/red/0.png").status_code == 404


def test_without_ui_there_is_no_page():
    with serve_fake(Collection(["a"]), ui=False) as fake:
        for path in ("/", "/index.html", "/settings.json"):
            assert call_rest(fake.port, path).status_code == 404
        assert call_rest(fake.port, "/v1/models/birds").status_code == 200


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"images": "photos"}, ValueError, "give ui as well"),
        ({"ui": True, "host": "0.0.0.0"}, ValueError, "on the loopback address"),
        ({"ui": True, "rest_api_port": None}, ValueError, "needs REST"),
        ({"ui": True, "images": "nowhere"}, FileNotFoundError, "folder of images must exist"),
    ],
)
def test_a_page_that_cannot_be_shown_is_refused(tmp_path, options, error, words):
    with pytest.raises(error, match=words):
        ModelServer(tmp_path, **options)
