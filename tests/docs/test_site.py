"""The pages of the site name what there is."""

import importlib
import re
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parent.parent.parent
API = {
    "networks": ["models", "layers", "losses"],
    "datasets": ["datasets"],
    "training": ["training"],
    "collections": ["index"],
    "retrieval": ["retrieval"],
    "export": ["export"],
    "clients": ["export.client", "export.server"],
    "metrics": ["metrics"],
    "ops": ["ops"],
    "beam": ["beam"],
}


def public_names(room):
    module = importlib.import_module(f"tfpqn.{room}")
    names = getattr(module, "__all__", None) or dir(module)
    return {
        f"tfpqn.{room}.{name}"
        for name in names
        if name[0] != "_" and not isinstance(getattr(module, name), ModuleType)
    }


@pytest.mark.parametrize("page", API)
def test_the_reference_lists_every_public_name_once(page):
    if page == "beam":
        pytest.importorskip("apache_beam")
    text = (ROOT / "docs" / "api" / f"{page}.md").read_text(encoding="utf-8")
    listed = re.findall(r"^::: (\S+)$", text, re.MULTILINE)
    assert len(listed) == len(set(listed))
    assert set(listed) == set().union(*map(public_names, API[page]))
    for name in listed:
        room, _, own_name = name.rpartition(".")
        assert getattr(importlib.import_module(room), own_name).__doc__, f"{name} has no docstring"
