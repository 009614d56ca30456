"""Imports go down and never in a circle: read from the source, not from memory. No floor has an exception."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLOORS = {  # the library's parts, from the ground up; a part imports itself and those of lower floors
    "supernet.runtime": 0,
    "supernet.space": 1,
    "supernet.data": 1,
    "supernet.zoo": 1,
    "supernet.detection": 1,
    "supernet.clinical": 1,
    "supernet.execution": 2,
    "supernet.genotypes": 2,
    "supernet.deployment": 3,
    "supernet.training": 4,
    "supernet.estimation": 5,
    "supernet.search": 6,
    "supernet": 7,  # the public API
    "experiments": 8,
}
FILES = sorted([*ROOT.glob("supernet/**/*.py"), *ROOT.glob("experiments/**/*.py")])


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_of(path): path for path in FILES}


def part_of(module: str) -> str:
    return max((part for part in FLOORS if f"{module}.".startswith(f"{part}.")), key=len)


def imports_of(path: Path) -> set[str]:
    """All that a file imports, also within functions and for types alone; our own as whole module names."""
    found = set()
    package = module_of(path).split(".") if path.name == "__init__.py" else module_of(path).split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join([*above, *([node.module] if node.module else [])])
            found |= {whole if (whole := f"{origin}.{alias.name}") in MODULES else origin for alias in node.names}
    return found


def own_imports_of(path: Path) -> set[str]:
    return imports_of(path) & set(MODULES) - {module_of(path)}


each_file = pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))


def test_there_is_something_to_read():
    assert len(FILES) > 100
    assert sum(len(own_imports_of(path)) for path in FILES) > 500


@each_file
def test_imports_go_down(path):
    own = part_of(module_of(path))
    for imported in own_imports_of(path):
        other = part_of(imported)
        assert other == own or FLOORS[other] < FLOORS[own], f"{own} imports {imported}"


def test_no_import_circle():
    try:
        tuple(TopologicalSorter({module_of(path): own_imports_of(path) for path in FILES}).static_order())
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


@each_file
def test_hydra_stays_at_the_rim(path):
    if module_of(path).startswith("supernet") and path.name != "__main__.py":  # which is the command itself
        roots = {name.split(".")[0] for name in imports_of(path)}
        assert not roots & {"hydra", "omegaconf", "experiments"}
        assert not any(name.startswith(("supernet.experiments", "supernet.conf")) for name in imports_of(path))


@each_file
def test_no_eval_and_no_bare_except(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in ("eval", "exec"), f"line {node.lineno}"
        if isinstance(node, ast.ExceptHandler):
            assert node.type is not None, f"line {node.lineno}"
