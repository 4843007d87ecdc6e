"""Laws of the house, read from the source files: nothing here imports the package."""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent

FLOORS = (
    ("locks", "foreign_files"),
    ("partials",),
    ("files", "npz", "_command_line"),
    ("ops",),
    ("layers", "losses", "metrics"),
    ("models",),
    ("datasets", "index"),
    ("export", "training"),
    ("cli",),
)
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
CORE = (
    "locks",
    "foreign_files",
    "partials",
    "files",
    "npz",
    "_command_line",
    "ops",
    "layers",
    "losses",
    "metrics",
    "models",
)
PACKAGE_FOLDERS = {"tfpqn": "tfpqn", "export": "tfpqn.export", "training": "tfpqn.training"}
OTHER_FOLDERS = ("tests", "benchmarks", "examples", "docs", "tools")

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


class Import(NamedTuple):
    """One imported thing: `from module import name`, or `import module` with an empty name."""

    module: str
    name: str
    line: int
    at_top: bool


class Source(NamedTuple):
    """One parsed file and the dotted name under which it is imported."""

    path: Path
    module: str
    tree: ast.Module

    @property
    def package(self) -> str:
        is_package = self.path.name == "__init__.py"
        return self.module if is_package else self.module.rpartition(".")[0]

    @property
    def room(self) -> str:
        """The second part of the name; empty for the face, `tfpqn/__init__.py`."""
        return room_of(self.module)

    def at(self, line: int) -> str:
        return f"{self.path.relative_to(ROOT)}:{line}"


def room_of(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def parse(path: Path, module: str) -> Source:
    return Source(path, module, ast.parse(path.read_text(encoding="utf-8"), str(path)))


def package_sources() -> list[Source]:
    sources = []
    for folder, package in PACKAGE_FOLDERS.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            parts = parts[:-1] if parts[-1] == "__init__" else parts
            sources.append(parse(path, ".".join((package, *parts))))
    return sources


def other_sources() -> list[Source]:
    paths = [path for folder in OTHER_FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]
    return [parse(path, ".".join(path.relative_to(ROOT).with_suffix("").parts)) for path in paths]


def imports_of(source: Source) -> Iterator[Import]:
    """Every import of a file, relative ones spelled out."""
    deferred = {
        id(inner)
        for outer in ast.walk(source.tree)
        if isinstance(outer, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for inner in ast.walk(outer)
    }
    for node in ast.walk(source.tree):
        at_top = id(node) not in deferred
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, "", node.lineno, at_top)
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if node.level:
                parents = source.package.split(".")
                base = parents[: len(parents) - node.level + 1]
                module = ".".join([*base, module] if module else base)
            for alias in node.names:
                yield Import(module, alias.name, node.lineno, at_top)


SOURCES = package_sources()
OTHERS = other_sources()
MODULES = {source.module for source in SOURCES}


def target_of(imported: Import) -> str:
    """The module of ours that an import leads to; empty where it leads out of the house."""
    if imported.module.split(".")[0] != "tfpqn":
        return ""
    inner = f"{imported.module}.{imported.name}"
    is_room = imported.module == "tfpqn" and imported.name in FLOOR_OF
    return inner if inner in MODULES or is_room else imported.module


def by_file(source: Source) -> str:
    return str(source.path.relative_to(ROOT))


every_source = pytest.mark.parametrize("source", SOURCES, ids=by_file)
every_room_source = pytest.mark.parametrize(
    "source", [source for source in SOURCES if source.room in FLOOR_OF], ids=by_file
)


def test_every_room_has_its_floor_and_every_floor_its_rooms():
    found = {source.room for source in SOURCES} - {"", "__main__"}
    assert found == set(FLOOR_OF)


def test_every_folder_of_the_package_is_a_package():
    folders = {source.path.parent for source in SOURCES}
    left_out = [folder for folder in folders if not (folder / "__init__.py").is_file()]
    assert not left_out, f"the wheel would lack what has no __init__.py: {left_out}"


@every_room_source
def test_imports_run_down_the_floors(source):
    for imported in imports_of(source):
        target = target_of(imported)
        if not target or imported.name == "__version__":
            continue
        room = room_of(target)
        assert room in FLOOR_OF, (
            f"{source.at(imported.line)}: name the room that is meant, `from tfpqn.ROOM import ...`"
        )
        assert room == source.room or FLOOR_OF[room] < FLOOR_OF[source.room], (
            f"{source.at(imported.line)}: {source.room} must not import {room}"
        )


def test_no_files_import_each_other_in_a_circle():
    arrows = {
        source.module: {
            target
            for imported in imports_of(source)
            if (target := target_of(imported)) in MODULES - {"tfpqn", source.module}
        }
        for source in SOURCES
    }
    while leaves := [module for module, targets in arrows.items() if not targets & arrows.keys()]:
        for module in leaves:
            del arrows[module]
    assert not arrows, f"these import each other, or lead to such files: {sorted(arrows)}"


@every_room_source
def test_siblings_in_export_and_training_import_relatively_and_others_absolutely(source):
    for node in ast.walk(source.tree):
        if isinstance(node, ast.ImportFrom) and source.room in ("export", "training"):
            # One dot is the package itself; from a room within the room it is one more.
            depth = len(source.package.split("."))
            assert node.level <= depth - 1, f"{source.at(node.lineno)}: name the core absolutely"
            assert not (node.module or "").startswith(f"tfpqn.{source.room}"), (
                f"{source.at(node.lineno)}: mypy does not see siblings named absolutely"
            )


@pytest.mark.parametrize(
    "source", [source for source in SOURCES if source.room in CORE], ids=by_file
)
def test_the_core_stands_on_keras_and_numpy_alone(source):
    allowed = {"keras", "numpy", "tfpqn", *sys.stdlib_module_names}
    for imported in imports_of(source):
        assert imported.module.split(".")[0] in allowed, (
            f"{source.at(imported.line)}: {imported.module} would tie the core to one backend"
        )


def declared_requirements() -> tuple[set[str], set[str]]:
    """Names in setup.py: always installed, and in some extra."""
    tree = ast.parse((ROOT / "setup.py").read_text(encoding="utf-8"))
    texts = {
        node.arg: [leaf.value for leaf in ast.walk(node.value) if isinstance(leaf, ast.Constant)]
        for node in ast.walk(tree)
        if isinstance(node, ast.keyword) and node.arg == "install_requires"
    }
    extras = [
        leaf.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.List)
        for leaf in ast.walk(node.value)
        if isinstance(leaf, ast.Constant)
    ]

    def bare(requirements: list[str]) -> set[str]:
        return {re.match(r"[\w.-]+", requirement).group(0).lower() for requirement in requirements}

    return bare(texts["install_requires"]), bare(extras)


def test_the_versions_that_ci_installs_are_such_as_setup_allows():
    tree = ast.parse((ROOT / "setup.py").read_text(encoding="utf-8"))
    texts = [leaf.value for leaf in ast.walk(tree) if isinstance(leaf, ast.Constant)]
    texts = [text for text in texts if isinstance(text, str) and re.fullmatch(r"[\w.-]+>=.*", text)]
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = [Requirement(line) for line in lines if line and not line.startswith("#")]
    for python in ("3.10", "3.11", "3.13"):
        here = {"python_version": python}
        held = {
            canonicalize_name(pin.name): next(iter(pin.specifier)).version
            for pin in pinned
            if pin.marker is None or pin.marker.evaluate(here)
        }
        for wanted in map(Requirement, texts):
            version = held.get(canonicalize_name(wanted.name))
            if version and (wanted.marker is None or wanted.marker.evaluate(here)):
                assert wanted.specifier.contains(version), f"{wanted}: {version} on {python}"


@every_source
def test_what_is_imported_is_declared_in_setup(source):
    always, extras = declared_requirements()
    for imported in imports_of(source):
        name = imported.module.split(".")[0]
        if name == "tfpqn" or name in sys.stdlib_module_names:
            continue
        distribution = DISTRIBUTION_OF.get(name, name)
        if distribution in always | BROUGHT_BY_TENSORFLOW:
            continue
        assert distribution in extras and not imported.at_top, (
            f"{source.at(imported.line)}: setup.py does not require {distribution}; "
            "what only an extra brings is imported inside the function that needs it"
        )


@pytest.mark.parametrize("source", SOURCES + OTHERS, ids=by_file)
def test_nobody_imports_export_or_training_bare(source):
    for imported in imports_of(source):
        assert imported.module.split(".")[0] not in ("export", "training"), (
            f"{source.at(imported.line)}: a second copy under another name; "
            f"say tfpqn.{imported.module}"
        )


def test_no_second_copy_of_export_or_training_is_loaded():
    assert not {"export", "training"} & sys.modules.keys()


@every_source
def test_only_the_public_face_of_keras_is_used(source):
    for imported in imports_of(source):
        assert not f"{imported.module}.{imported.name}".startswith("keras.src"), source.at(
            imported.line
        )
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Attribute) and node.attr == "src":
            assert ast.unparse(node.value) != "keras", source.at(node.lineno)


FORBIDDEN_MODULES = {"cPickle", "cloudpickle", "dill", "joblib", "marshal", "pickle", "shelve"}
FORBIDDEN_CALLS = {"eval", "exec", "os.system", "os.popen", "commands.getoutput"}
FORBIDDEN_FLAGS = {"shell", "allow_pickle"}


@every_source
def test_nothing_read_from_disk_or_network_can_run_as_code(source):
    for imported in imports_of(source):
        assert imported.module.split(".")[0] not in FORBIDDEN_MODULES, source.at(imported.line)
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Call):
            assert ast.unparse(node.func) not in FORBIDDEN_CALLS, source.at(node.lineno)
            for keyword in node.keywords:
                value = getattr(keyword.value, "value", True)
                assert keyword.arg not in FORBIDDEN_FLAGS or value is False, (
                    f"{source.at(node.lineno)}: {keyword.arg}"
                )


@every_source
def test_text_files_are_utf_8_whatever_the_machine_is_set_to(source):
    for node in ast.walk(source.tree):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else ast.unparse(node.func)
        is_file = ast.unparse(node.func) == "open" and "b" not in ast.unparse(node.args[1])
        if is_file or name in ("read_text", "write_text"):
            named = {keyword.arg for keyword in node.keywords}
            assert "encoding" in named, f"{source.at(node.lineno)}: say encoding"


@pytest.mark.parametrize(
    "source", [source for source in SOURCES if source.room == "cli"], ids=by_file
)
def test_the_command_line_prints_by_its_consoles_which_escape_names(source):
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "typer.echo":
            assert ast.unparse(node.args[0]).startswith("json.dumps("), source.at(node.lineno)


def test_what_keras_must_find_again_is_registered_under_tfpqn():
    registered = [
        (source, node, call)
        for source in SOURCES
        for node in ast.walk(source.tree)
        if isinstance(node, ast.ClassDef | ast.FunctionDef)
        for call in node.decorator_list
        if "register_keras_serializable" in ast.unparse(call)
    ]
    assert registered
    for source, node, call in registered:
        where = f"{source.at(node.lineno)} {node.name}"
        assert source.room in CORE, f"{where}: could be loaded twice, under two names"
        assert "package='tfpqn'" in ast.unparse(call), where


def test_the_version_is_written_once():
    face = (ROOT / "tfpqn" / "__init__.py").read_text(encoding="utf-8")
    (version,) = re.findall(r'^__version__ = "(\d+\.\d+\.\d+\S*)"$', face, re.MULTILINE)
    elsewhere = [ROOT / "setup.py", ROOT / "pyproject.toml", *(source.path for source in SOURCES)]
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


@pytest.mark.parametrize(
    "source", [source for source in OTHERS if source.module.startswith("tests.core.")], ids=by_file
)
def test_tests_of_the_core_run_on_every_backend(source):
    tied = ("tensorflow", "tensorflow_datasets", "jax", "tfpqn.export", "tfpqn.training")
    for imported in imports_of(source):
        target = target_of(imported) or imported.module
        assert not (imported.at_top and target.startswith(tied)), source.at(imported.line)
