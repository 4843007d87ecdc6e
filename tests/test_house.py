"""Laws of the house that neither ruff nor import-linter knows, read from the source files."""

import ast
import re
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
SOURCES = [path for room in ("tfpqn", "export", "training") for path in (ROOT / room).rglob("*.py")]
TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in SOURCES}
# Import name -> the distribution that brings it, where the two differ.
DISTRIBUTION_OF = {
    "faiss": "faiss-cpu",
    "google": "protobuf",
    "grpc": "grpcio",
    "grpc_health": "grpcio-health-checking",
    "PIL": "pillow",
    "sklearn": "scikit-learn",
    "tensorflow_datasets": "tensorflow-datasets",
    "tensorflow_serving": "tensorflow-serving-api",
}
# tensorflow and tensorflow-serving-api both require these, within the bounds that they can bear.
BROUGHT_BY_TENSORFLOW = {"grpcio", "protobuf"}


def imports_of(tree):
    """Name of each package that is imported, and whether the file needs it to be loaded."""
    deferred = {
        id(inner)
        for outer in ast.walk(tree)
        if isinstance(outer, ast.FunctionDef | ast.AsyncFunctionDef)
        for inner in ast.walk(outer)
    }
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module or ""]
        yield from ((name.split(".")[0], id(node) not in deferred) for name in names)


def requirements():
    """What setup.py always installs, and what its extras do."""
    tree = ast.parse((ROOT / "setup.py").read_text(encoding="utf-8"))
    always = [
        leaf.value
        for node in ast.walk(tree)
        if isinstance(node, ast.keyword) and node.arg == "install_requires"
        for leaf in ast.walk(node.value)
        if isinstance(leaf, ast.Constant)
    ]
    lists = [node.value for node in tree.body if isinstance(node, ast.Assign)]
    extras = [
        leaf.value
        for value in lists
        if isinstance(value, ast.List)
        for leaf in ast.walk(value)
        if isinstance(leaf, ast.Constant)
    ]
    return [Requirement(text) for text in always], [Requirement(text) for text in extras]


def test_what_is_imported_is_declared_in_setup():
    always, extras = ({canonicalize_name(one.name) for one in wanted} for wanted in requirements())
    for path, tree in TREES.items():
        for name, at_top in imports_of(tree):
            if name == "tfpqn" or name in sys.stdlib_module_names:
                continue
            distribution = DISTRIBUTION_OF.get(name, name).replace("_", "-")
            is_always = distribution in always | BROUGHT_BY_TENSORFLOW
            # The room of Beam is imported where it is needed, as a whole.
            is_deferred = not at_top or (name, path.parent.name) == ("apache_beam", "beam")
            assert is_always or (distribution in extras and is_deferred), (
                f"{path}: setup.py does not require {distribution}; what only an extra brings is "
                "imported inside the function that needs it"
            )


@pytest.mark.parametrize("python", ["3.10", "3.11", "3.13"])
def test_the_versions_that_ci_installs_are_such_as_setup_allows(python):
    here = {"python_version": python}
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = [Requirement(line) for line in lines if line and not line.startswith("#")]
    held = {
        canonicalize_name(pin.name): next(iter(pin.specifier)).version
        for pin in pinned
        if pin.marker is None or pin.marker.evaluate(here)
    }
    for wanted in (one for several in requirements() for one in several):
        version = held.get(canonicalize_name(wanted.name))
        if version and (wanted.marker is None or wanted.marker.evaluate(here)):
            assert wanted.specifier.contains(version), f"{wanted}: {version} on {python}"


def test_text_files_are_utf_8_whatever_the_machine_is_set_to():
    for path, tree in TREES.items():
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
            name = call.func.attr if isinstance(call.func, ast.Attribute) else ""
            is_open = ast.unparse(call.func) == "open" and "b" not in ast.unparse(call.args[1])
            if is_open or name in ("read_text", "write_text"):
                named = {keyword.arg for keyword in call.keywords}
                assert "encoding" in named, f"{path}:{call.lineno}: say encoding"


def test_what_keras_must_find_again_is_registered_under_tfpqn():
    registered = [
        (path, call)
        for path, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef | ast.FunctionDef)
        for call in map(ast.unparse, node.decorator_list)
        if "register_keras_serializable" in call
    ]
    assert registered
    for path, call in registered:
        assert path.is_relative_to(ROOT / "tfpqn"), f"{path}: could be loaded under two names"
        assert "package='tfpqn'" in call, path


def test_no_second_copy_of_export_or_training_is_loaded():
    assert not {"export", "training"} & sys.modules.keys()


def test_the_version_is_written_once():
    face = (ROOT / "tfpqn" / "__init__.py").read_text(encoding="utf-8")
    (version,) = re.findall(r'^__version__ = "(\d+\.\d+\.\d+\S*)"$', face, re.MULTILINE)
    elsewhere = [ROOT / "setup.py", ROOT / "pyproject.toml", *SOURCES]
    elsewhere.remove(ROOT / "tfpqn" / "__init__.py")
    copies = [path for path in elsewhere if f'"{version}"' in path.read_text(encoding="utf-8")]
    assert not copies
    assert f"## [{version}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_every_make_target_in_the_documents_exists():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z][a-z-]*):", makefile, re.MULTILINE))
    for name in ("README.md", "CONTRIBUTING.md", ".ci/run"):
        text = (ROOT / name).read_text(encoding="utf-8")
        named = set(re.findall(r"^(?:\s*|.*`)make ([a-z][a-z-]*)", text, re.MULTILINE))
        assert named, f"{name} names no make target"
        assert named <= targets, f"{name}: no such target {sorted(named - targets)}"


def test_no_room_of_the_package_has_more_than_twelve_files():
    for folder in {path.parent for path in SOURCES}:
        files = [path for path in folder.glob("*.py") if path.name != "__init__.py"]
        assert len(files) <= 12, f"{folder}: {len(files)} files; part it into rooms"
        assert (folder / "__init__.py").is_file(), f"{folder}: the wheel would lack it"
