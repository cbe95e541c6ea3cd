"""The house: imports only go down the floors, files stay short, importing is cheap."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import skcnn

ROOT = Path(skcnn.__file__).parent
FLOORS = {
    "_engine": 0,
    "layers": 1,
    "losses": 1,
    "optimizers": 1,
    "schedules": 1,
    "filters": 1,
    "_network": 2,
    "_summary": 2,
    "_trace": 2,
    "architectures": 2,
    "_callbacks": 4,
    "_augment": 2,
    "_images": 3,
    "_running": 3,
    "_reports": 3,
    "_solvers": 2,
    "_trainer": 4,
    "_training": 5,
    "_targets": 3,
    "_fitted": 5,
    "_validation": 4,
    "_params": 0,
    "_versions": 3,
    "_importance": 3,
    "_patches": 3,
    "_cnn": 6,
    "_banks": 4,
    "_features": 4,
    "_learning": 7,
    "_features_mixin": 6,
    "classifier": 7,
    "regressor": 7,
    "extractor": 8,
    "__init__": 9,
    "inspection": 10,
}
FILES = sorted(ROOT.rglob("*.py"))
BESIDE = {"numpy", "scipy", "sklearn", "joblib", "threadpoolctl"}
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


def test_the_check_of_floors_sees_what_it_must():
    assert own("skcnn._engine.team.Team") == "_engine"
    assert own("skcnn.layers.Conv") == "layers"
    assert own("skcnn._images") == "_images"
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
