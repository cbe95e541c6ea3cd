"""The house: imports only go down the floors, files stay short, importing is cheap."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import skcnn

ROOT = Path(skcnn.__file__).parent
FLOORS = {
    "_engine": 0,
    "_workers": 0,
    "layers": 1,
    "filters": 1,
    "versions": 1,
    "architectures": 2,
    "_data": 2,
    "_model": 3,
    "_training": 4,
    "_features": 4,
    "_estimator": 5,
    "classifier": 6,
    "regressor": 6,
    "extractor": 6,
    "inspection": 7,
    "persistence": 7,
    "__init__": 8,
}
FILES = sorted(ROOT.rglob("*.py"))
BESIDE = {"numpy", "scipy", "sklearn", "joblib", "threadpoolctl", "cloudpickle"}
OPTIONAL = {"pandas", "rich", "matplotlib"}  # imported where they are used; see the last test


def room(parts):
    """Return the room of a module, ``("layers", "conv")`` for example."""
    return parts[0] if parts else "__init__"


def imports(path):
    """Yield the names of all modules that a file imports, ``from a import b`` as ``a.b``."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def own(name):
    """Return the room that an imported name lies in; None if it is not of this package."""
    package, *parts = name.split(".")
    if package != "skcnn":
        return None
    inside = parts and ((ROOT / parts[0]).is_dir() or (ROOT / f"{parts[0]}.py").exists())
    return room(parts if inside else [])


every_file = pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))


@every_file
def test_imports_only_go_down(path):
    here = room(path.relative_to(ROOT).with_suffix("").parts)
    for name in imports(path):
        there = own(name)
        if there is not None and there != here:
            assert FLOORS[there] < FLOORS[here], f"{here} imports {name}"


@every_file
def test_each_room_has_a_floor(path):
    assert room(path.relative_to(ROOT).with_suffix("").parts) in FLOORS


@every_file
def test_only_the_scientific_stack_is_imported(path):
    packages = {name.split(".")[0] for name in imports(path)}
    assert packages - BESIDE - OPTIONAL - {"skcnn"} <= sys.stdlib_module_names
    if "_engine" in path.parts:
        assert "sklearn" not in packages


@pytest.mark.parametrize(
    "path", FILES + sorted(Path(__file__).parent.glob("*.py")), ids=lambda p: p.name
)
def test_no_file_is_long(path):
    assert len(path.read_text().splitlines()) <= 350


@every_file
def test_no_body_is_long(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef):
            has_docstring = ast.get_docstring(node) is not None
            body = node.body[has_docstring:]
            n_lines = body[-1].end_lineno - body[0].lineno + 1 if body else 0
            assert n_lines <= 40, f"{path}: {node.name}"


def test_files_of_a_room_do_not_import_each_other_in_circles():
    graph = {}
    for path in FILES:
        name = ".".join(("skcnn", *path.relative_to(ROOT).with_suffix("").parts))
        graph[name.removesuffix(".__init__")] = set(imports(path))
    modules = set(graph)
    edges = {
        a: {
            m for m in modules - {a, "skcnn"} if any(n == m or n.startswith(f"{m}.") for n in names)
        }
        for a, names in graph.items()
    }
    # an import of a module is not one of the package that it lies in
    edges = {a: {m for m in there if not a.startswith(f"{m}.")} for a, there in edges.items()}
    done = set()
    while ready := {a for a, there in edges.items() if a not in done and there <= done}:
        done |= ready
    assert done == modules, f"circles among {sorted(modules - done)}"


def test_only_what_users_import_lies_at_the_root():
    files = {path.stem for path in ROOT.glob("*.py")}
    assert {name for name in files if name.startswith("_")} == {"__init__", "_estimator"}


@pytest.mark.parametrize(
    "room", ["_engine", "_workers", "_data", "_model", "_training", "_features"]
)
def test_each_folder_says_what_it_must_not_know(room):
    text = ast.get_docstring(ast.parse((ROOT / room / "__init__.py").read_text()))
    assert "What comes in" in text
    assert re.search("must not|must know nothing", text)


def test_the_check_of_floors_sees_what_it_must():
    assert own("skcnn._workers.pool.Pool") == "_workers"
    assert own("skcnn.layers.Conv") == "layers"
    assert own("skcnn._data.images") == "_data"
    assert own("skcnn.CNNClassifier") == own("skcnn") == "__init__"
    assert own("numpy.linalg") is None
    assert {own(name) for name in imports(ROOT / "__init__.py")} >= {"classifier", "extractor"}
    assert len(FILES) > 15


def test_importing_skcnn_imports_nothing_heavy():
    heavy = {"matplotlib", "pandas", "polars", "rich", "PIL", "torch"}
    # scikit-learn itself imports pandas where there is one
    code = (
        "import sys, sklearn.base, sklearn.utils; before = set(sys.modules);"
        "import skcnn.layers, skcnn.inspection;"
    )
    code += f"print(sorted({heavy!r} & (set(sys.modules) - before)), 'skcnn' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT.parent
    )
    assert done.stdout.strip() == "[] True"
