"""Draw `docs/search-page.png`: the search page over generated pictures, on a desk and on a phone.

    python tools/draw_search_page.py

Draws pictures of eight kinds of things, goes the whole road of the README with them (train, index,
export, serve), and drops one more picture on the page in headless Chromium. Needs the extra
`browser` and Debian's package chromium. Takes a minute or two.
"""

from __future__ import annotations

import io
import math
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw
from playwright.sync_api import Browser, sync_playwright

from tfpqn.export.server import running_server

TARGET = Path(__file__).resolve().parent.parent / "docs" / "search-page.png"
PICTURES_OF_A_KIND = 40
SIDE, FINER = 240, 2
DESK, PHONE = (1200, 740), (390, 740)
# Height and gap of both in the picture.
SCALE, MARGIN = 0.8, 24

# Shapes in a unit square, each with the colour that it has: main, dark or light.
Shape = tuple[str, list[tuple[float, float]], str]
_PETALS = [
    (0.5 + 0.2 * math.cos(angle), 0.47 + 0.2 * math.sin(angle))
    for angle in np.linspace(0, 2 * math.pi, 7)[:-1]
]
_LEAF = [
    (t, 0.5 - 0.24 * math.sin(math.pi * (t - 0.15) / 0.7)) for t in np.linspace(0.15, 0.85, 30)
]
KINDS: dict[str, list[Shape]] = {
    "boat": [
        ("polygon", [(0.18, 0.63), (0.82, 0.63), (0.7, 0.8), (0.3, 0.8)], "dark"),
        ("polygon", [(0.52, 0.18), (0.52, 0.59), (0.78, 0.59)], "main"),
        ("polygon", [(0.47, 0.26), (0.47, 0.59), (0.28, 0.59)], "light"),
    ],
    "house": [
        ("rectangle", [(0.28, 0.46), (0.72, 0.8)], "main"),
        ("polygon", [(0.2, 0.48), (0.5, 0.2), (0.8, 0.48)], "dark"),
        ("rectangle", [(0.44, 0.58), (0.56, 0.8)], "light"),
    ],
    "fish": [
        ("polygon", [(0.62, 0.5), (0.85, 0.34), (0.85, 0.66)], "dark"),
        ("ellipse", [(0.18, 0.34), (0.7, 0.66)], "main"),
        ("ellipse", [(0.28, 0.43), (0.35, 0.5)], "light"),
    ],
    "mug": [
        ("ellipse", [(0.5, 0.36), (0.85, 0.68)], "dark"),
        ("ellipse", [(0.58, 0.43), (0.77, 0.61)], "light"),
        ("rectangle", [(0.26, 0.3), (0.66, 0.76)], "main"),
        ("ellipse", [(0.26, 0.24), (0.66, 0.36)], "light"),
    ],
    "leaf": [
        ("polygon", [*_LEAF, *((x, 1 - y) for x, y in reversed(_LEAF))], "main"),
        ("polygon", [(0.08, 0.51), (0.8, 0.495), (0.8, 0.505), (0.08, 0.53)], "dark"),
    ],
    "flower": [
        *(("ellipse", [(x - 0.14, y - 0.14), (x + 0.14, y + 0.14)], "main") for x, y in _PETALS),
        ("ellipse", [(0.38, 0.35), (0.62, 0.59)], "light"),
    ],
    "tree": [
        ("rectangle", [(0.45, 0.6), (0.55, 0.84)], "dark"),
        ("ellipse", [(0.24, 0.3), (0.56, 0.64)], "main"),
        ("ellipse", [(0.44, 0.3), (0.76, 0.64)], "main"),
        ("ellipse", [(0.33, 0.14), (0.67, 0.5)], "main"),
    ],
    "balloon": [
        ("polygon", [(0.3, 0.5), (0.7, 0.5), (0.55, 0.72), (0.45, 0.72)], "light"),
        ("ellipse", [(0.24, 0.14), (0.76, 0.64)], "main"),
        ("ellipse", [(0.42, 0.14), (0.58, 0.64)], "light"),
        ("rectangle", [(0.44, 0.72), (0.56, 0.84)], "dark"),
    ],
}


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        draw_collection(folder / "pictures")
        make_model(folder)
        query = draw_picture("flower", np.random.default_rng(99))
        with running_server(
            folder / "pictures-model",
            model_name="pictures",
            port=0,
            rest_api_port=0,
            ui=True,
            images=folder / "pictures",
        ) as server:
            shots = photograph(f"http://127.0.0.1:{server.rest_port}/", to_png(query))
    save(shots)


def draw_collection(folder: Path) -> None:
    rng = np.random.default_rng(0)
    for kind in KINDS:
        (folder / kind).mkdir(parents=True)
        for number in range(PICTURES_OF_A_KIND):
            draw_picture(kind, rng).save(folder / kind / f"{number:02}.png")


def draw_picture(kind: str, rng: np.random.Generator) -> Image.Image:
    """One thing of a kind, in a colour, a size and a place of its own."""
    hue = rng.integers(360)
    ground = f"hsl({(hue + rng.integers(140, 220)) % 360}, {rng.integers(25, 60)}%, 88%)"
    light = f"hsl({hue}, 80%, {rng.integers(86, 94)}%)"
    colours = {"main": f"hsl({hue}, 62%, 52%)", "dark": f"hsl({hue}, 55%, 32%)", "light": light}
    side = SIDE * FINER
    image = Image.new("RGB", (side, side), ground)
    draw = ImageDraw.Draw(image)
    size = side * rng.uniform(0.8, 1.05)
    x0, y0 = (side - size) / 2 + rng.uniform(-0.06, 0.06, 2) * side
    for shape, points, colour in KINDS[kind]:
        placed = [(x0 + x * size, y0 + y * size) for x, y in points]
        getattr(draw, shape)(placed, fill=colours[colour])
    turned = image.rotate(rng.uniform(-14, 14), Image.Resampling.BICUBIC, fillcolor=ground)
    return turned.resize((SIDE, SIDE), Image.Resampling.LANCZOS)


def make_model(folder: Path) -> None:
    run, index, pictures = folder / "run", folder / "index", folder / "pictures"
    for command in (
        ["train", "--images", pictures, "--run-dir", run, "--bits", 64, "--epochs", 8],
        ["index", "--run-dir", run, "--images", pictures, "--output", index],
        ["export", "--run-dir", run, "--index", index, "--output", folder / "pictures-model" / "1"]
        + ["--tags", "label", "--top-k", 8],
    ):
        subprocess.run([sys.executable, "-m", "tfpqn", *map(str, command)], check=True)


def photograph(url: str, query: bytes) -> list[Image.Image]:
    chromium = shutil.which("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        return [
            search_and_shoot(browser, url, query, DESK, "light"),
            search_and_shoot(browser, url, query, PHONE, "dark"),
        ]


def search_and_shoot(
    browser: Browser, url: str, query: bytes, size: tuple[int, int], scheme: Any
) -> Image.Image:
    width, height = size
    page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
    page.goto(url)
    for _ in range(3):  # The first answers of a server are slow.
        page.set_input_files(
            "#files", [{"name": "flower.png", "mimeType": "image/png", "buffer": query}]
        )
        page.wait_for_timeout(1000)
    page.locator("#list a").nth(1).hover()
    page.evaluate("scrollTo(0, 0)")
    page.wait_for_timeout(500)
    return Image.open(io.BytesIO(page.screenshot())).convert("RGB")


def save(shots: list[Image.Image]) -> None:
    """Both pictures side by side, in few colours."""
    shots = [shot.resize([round(SCALE * n) for n in shot.size]) for shot in shots]
    width = sum(shot.width + MARGIN for shot in shots) + MARGIN
    sheet = Image.new("RGB", (width, shots[0].height + 2 * MARGIN), "#c9cde0")
    left = MARGIN
    for shot in shots:
        sheet.paste(shot, (left, MARGIN))
        left += shot.width + MARGIN
    sheet.quantize(256).save(TARGET, optimize=True)
    print(f"{TARGET}: {TARGET.stat().st_size / 1000:.0f} kB")


def to_png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


if __name__ == "__main__":
    main()
