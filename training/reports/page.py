"""A report as one HTML page that names nothing outside itself."""

from __future__ import annotations

import base64
import html
import io
import string
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from tfpqn._command_line import printable

from .gallery import GalleryRow, Shown

# Two pixels of the picture for one of the page, so that text is sharp on fine screens.
DOTS_PER_INCH = 192
PAGE_DOTS_PER_INCH = 96

# Figures are drawn on white: where a reader prefers dark, they are inverted, and the hues are kept.
PAGE = string.Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
:root { color-scheme: light dark; --back: #fff; --text: #1c1c1c; --faint: #5a5a5a; --line: #d5d5d5;
 --right: #1d7d46; --wrong: #c0313f; }
@media (prefers-color-scheme: dark) {
 :root { --back: #1a1a1a; --text: #e6e6e6; --faint: #a8a8a8; --line: #444; --right: #57c785;
  --wrong: #ff8088; }
 img.figure { filter: invert(0.898) hue-rotate(180deg); }
}
body { margin: 0 auto; max-width: 60rem; padding: 1rem; background: var(--back);
 color: var(--text); font: 1rem/1.5 system-ui, sans-serif; }
h1, h2 { line-height: 1.2; overflow-wrap: anywhere; }
h2 { margin: 2.5rem 0 0.5rem; }
p { max-width: 45rem; margin: 0.4rem 0; }
img.figure { max-width: 100%; height: auto; }
table { border-collapse: collapse; font-size: 0.85rem; }
th, td { padding: 0.25rem 0.6rem; border-bottom: 1px solid var(--line); text-align: left;
 vertical-align: top; overflow-wrap: anywhere; }
thead th { color: var(--faint); font-weight: normal; }
.wide { overflow-x: auto; }
.gallery th, .gallery td { padding: 0.25rem; min-width: 4.2rem; max-width: 14rem; }
.gallery img { display: block; height: 4rem; image-rendering: pixelated; margin-bottom: 0.2rem;
 border: 3px solid var(--line); }
.right img { border-color: var(--right); }
.wrong img { border-color: var(--wrong); }
.right .mark { color: var(--right); }
.wrong .mark { color: var(--wrong); }
.faint { color: var(--faint); font-weight: normal; }
pre { overflow-x: auto; font-size: 0.8rem; }
</style>
</head>
<body>
<main>
<h1>$title</h1>
$content
</main>
</body>
</html>
""")


class Part(NamedTuple):
    """A part of a page: a heading, sentences, and what follows them.

    Attributes:
        heading: Its heading, plain text.
        sentences: Plain text, a paragraph.
        content: HTML, such as `figure_html` and its siblings make.
    """

    heading: str
    sentences: str
    content: str


def render_page(title: str, parts: Iterable[Part]) -> str:
    """The page as HTML."""
    texts = [
        f"<section>\n<h2>{_text(part.heading)}</h2>\n<p>{_text(part.sentences)}</p>\n"
        f"{part.content}\n</section>"
        for part in parts
    ]
    return PAGE.substitute(title=_text(title), content="\n".join(texts))


def figure_html(figure: Any, description: str) -> str:
    """A matplotlib Figure as an image.

    Args:
        figure: The figure.
        description: What it shows, for those who cannot see it.
    """
    content = io.BytesIO()
    with warnings.catch_warnings():
        # Of a layout in which long names leave the axes little room.
        warnings.filterwarnings("ignore", "constrained_layout not applied", UserWarning)
        figure.savefig(content, format="png", dpi=DOTS_PER_INCH, metadata={"Software": None})
    width, height = figure.get_size_inches() * PAGE_DOTS_PER_INCH
    return (
        f'<img class="figure" width="{width:.0f}" height="{height:.0f}" '
        f'alt="{_text(description)}" src="{_data_uri(content.getvalue())}">'
    )


def facts_html(facts: Mapping[str, Any]) -> str:
    """Names with their values, as a table."""
    rows = [
        f'<tr><th scope="row">{_text(name)}</th><td>{_text(value)}</td></tr>'
        for name, value in facts.items()
    ]
    return _table("", rows)


def table_html(heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table with a line of heads."""
    body = [f"<tr>{''.join(f'<td>{_text(cell)}</td>' for cell in row)}</tr>" for row in rows]
    return _table(_head(heads), body)


def details_html(summary: str, text: str) -> str:
    """Text as it is, that is seen when its summary is chosen."""
    lines = "\n".join(_text(line) for line in text.splitlines())
    return f"<details>\n<summary>{_text(summary)}</summary>\n<pre>{lines}</pre>\n</details>"


def gallery_html(rows: Sequence[GalleryRow], quality: str) -> str:
    """Rows of a query and what was found.

    Args:
        rows: The rows.
        quality: What the quality of a query is.
    """
    most = max(len(row.found) for row in rows)
    heads = ["query", *(str(rank) for rank in range(1, most + 1))]
    body = []
    for row in rows:
        note = f'<br><span class="faint">{_text(quality)} {row.quality:.2f}</span>'
        cells = [_cell(item, "td") for item in row.found]
        body.append(f"<tr>{_cell(row.query, 'th', note)}{''.join(cells)}</tr>")
    return _table(_head(heads), body, "gallery")


def _cell(item: Shown, tag: str, note: str = "") -> str:
    """An item: its picture, where it has one, whether it is right, its labels and its id."""
    judged = {None: "", True: "right", False: "wrong"}[item.is_right]
    mark = {None: "", True: "✓ ", False: "✗ "}[item.is_right]
    names, id_ = ", ".join(item.labels), item.id
    picture = ""
    if item.picture is not None:
        picture = f'<img alt="{_text(f"{judged} {id_}")}" src="{_data_uri(item.picture)}">'
    # An item of vectors has nothing but its name.
    shown = names if picture and names else f"{names} ({id_})" if names else id_
    label = f'<span class="mark">{mark}</span>{_text(shown)}'
    scope = ' scope="row"' if tag == "th" else ""
    return f'<{tag}{scope} class="{judged}" title="{_text(id_)}">{picture}{label}{note}</{tag}>'


def _table(head: str, rows: Iterable[str], kind: str = "facts") -> str:
    body = "\n".join(rows)
    return f'<div class="wide"><table class="{kind}">{head}<tbody>\n{body}\n</tbody></table></div>'


def _head(heads: Iterable[str]) -> str:
    cells = "".join(f'<th scope="col">{_text(head)}</th>' for head in heads)
    return f"<thead><tr>{cells}</tr></thead>"


def _data_uri(picture: bytes) -> str:
    kind = "png" if picture.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(picture).decode()}"


def _text(value: Any) -> str:
    """Any text, such as a label or a file's name of anyone's making, as HTML that shows it."""
    return html.escape(printable(str(value)))
