"""Imports go down: read from the source, not from memory."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLOORS = [
    ("experiments", 4),
    ("supernet.search.relaxations", 0),
    ("supernet.search.architects", 0),
    ("supernet.search.strategy", 2),
    ("supernet.search.objectives", 2),
    ("supernet.search", 3),
    ("supernet.scoring", 2),
    ("supernet.training", 2),
    ("supernet.space", 1),
    ("supernet.data", 1),
    ("supernet.runtime", 0),
    ("supernet.native", 0),
]
FILES = sorted([*ROOT.glob("supernet/**/*.py"), *ROOT.glob("experiments/**/*.py")])


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def floor_of(module: str) -> int | None:
    return next((floor for name, floor in FLOORS if module == name or module.startswith(name + ".")), None)


def imports_of(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module)
    return found


def test_there_is_something_to_read():
    assert len(FILES) > 30


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_go_down(path):
    floor = floor_of(module_of(path))
    if floor is None:
        assert module_of(path) == "supernet", "a module outside the floors"
        return
    for imported in imports_of(path):
        below = floor_of(imported)
        assert below is None or below <= floor, f"{module_of(path)} (floor {floor}) imports {imported} (floor {below})"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_hydra_stays_at_the_rim(path):
    if module_of(path).startswith("supernet"):
        roots = {name.split(".")[0] for name in imports_of(path)}
        assert not roots & {"hydra", "omegaconf"}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_eval_and_no_bare_except(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in ("eval", "exec"), f"line {node.lineno}"
        if isinstance(node, ast.ExceptHandler):
            assert node.type is not None, f"line {node.lineno}"
