"""Hooks of `mkdocs build`: one source tree for the API pages, and links that leave docs/.

README, CONTRIBUTING, CHANGELOG and deploy/README lie where users look for them and are pages of the
site too. Other files that a page links to, such as records of measurements, are copied.
"""

import os
import re
import shutil
from pathlib import Path

from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "CHANGELOG.md": "project/changelog.md",
    "deploy/README.md": "project/deploying.md",
}
LINK = re.compile(r"(!?\[[^\]]*\])\(([^)\s#]+)(#[^)\s]*)?\)")


def on_startup(command, dirty):
    """Lay export/ and training/ inside tfpqn/, as in the wheel: mkdocstrings reads folders."""
    package = ROOT / "build" / "docs-source" / "tfpqn"
    shutil.rmtree(package, ignore_errors=True)
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "tfpqn", package, ignore=ignored)
    for room in ("export", "training"):
        shutil.copytree(ROOT / room, package / room, ignore=ignored)


def on_files(files, config):
    for source, uri in PAGES.items():
        files.append(File.generated(config, uri, abs_src_path=str(ROOT / source)))
    for path in sorted(_linked_files(files)):
        uri = _uri_of(path)
        if uri not in files.src_uris:
            files.append(File.generated(config, uri, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown, page, config, files):
    folder = Path(page.file.abs_src_path).parent

    def rewrite(match):
        text, target, anchor = match.groups()
        path = _inside(folder, target)
        if path is None:
            return match[0]
        if path.is_dir():
            return text.strip("[]")
        return f"{text}({_between(page.file.src_uri, _uri_of(path))}{anchor or ''})"

    return LINK.sub(rewrite, markdown)


def _linked_files(files):
    for file in files.documentation_pages():
        folder = Path(file.abs_src_path).parent
        for _, target, _ in LINK.findall(file.content_string):
            path = _inside(folder, target)
            if path is not None and path.is_file():
                yield path


def _inside(folder, target):
    """The file of the checkout that a relative link names, or None."""
    if re.match(r"[a-z]+:", target):
        return None
    path = (folder / target).resolve()
    return path if path.exists() and path.is_relative_to(ROOT) else None


def _uri_of(path):
    if path.is_relative_to(DOCS):
        return path.relative_to(DOCS).as_posix()
    name = path.relative_to(ROOT).as_posix()
    return PAGES.get(name, f"project/{name}")


def _between(page_uri, uri):
    return Path(os.path.relpath(uri, Path(page_uri).parent)).as_posix()
