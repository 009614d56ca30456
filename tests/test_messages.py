"""The library knows nothing of the yaml: no text of it names a setting by the key that a person at the command line
gives. It names its own parameters, and the job puts the key before (`experiments.instantiate.named`).

The keys are read from conf/, so that they follow the yaml. A word is the library's own where the function or class
around the text has a parameter or a field of that name.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
GLOBAL = "# @package _global_"


def read_settings() -> tuple[set[str], set[tuple[str, str]]]:
    """The names at the root of the settings, groups included, and all (name of a mapping, name in it)."""
    roots, inner = set(), set()

    def enter(node: object, name: str) -> None:
        if isinstance(node, dict):
            inner.update((name, str(key)) for key in node)
            for key, value in node.items():
                enter(value, str(key))
        elif isinstance(node, list):
            for value in node:
                enter(value, name)

    for path in sorted((ROOT / "conf").rglob("*.yaml")):
        if path.name in (
            "explore.yaml",
            "latency.yaml",
        ):  # their settings have the names of the library's own parameters
            continue
        text, (*groups, _) = path.read_text(), path.relative_to(ROOT / "conf").parts
        content = {k: v for k, v in (yaml.safe_load(text) or {}).items() if k not in ("defaults", "hydra")}
        roots |= {groups[0]} if groups else set()
        if groups and not text.startswith(GLOBAL):
            enter(content, groups[-1])
        else:
            roots |= set(map(str, content))
            for key, value in content.items():
                enter(value, str(key))
    return roots - {"hydra", "schema"}, inner


ROOTS, INNER = read_settings()
MAPPINGS = {name for name, _ in INNER} | ROOTS
WORD = re.compile(r"(?<![\w./])([a-z_]\w*)(?:\[[^\]]*\])?(?:\.([a-z_]\w*|\{\})|(?==(?!=)))")


def texts_of(tree: ast.AST) -> Iterator[tuple[int, str, set[str]]]:
    """(line, text, the names of the parameters and fields around it) of each text that is no docstring."""

    def parameters(node: ast.AST) -> set[str]:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            a = node.args
            return {each.arg for each in [*a.posonlyargs, *a.args, *a.kwonlyargs]}
        if isinstance(node, ast.ClassDef):
            fields = {n.target.id for n in node.body if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)}
            makers = (n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__")
            return fields.union(*map(parameters, makers))
        return set()

    def walk(node: ast.AST, around: set[str]) -> Iterator[tuple[int, str, set[str]]]:
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            return
        if isinstance(node, ast.JoinedStr):
            parts = (p.value if isinstance(p, ast.Constant) else "{}" for p in node.values)
            yield node.lineno, "".join(map(str, parts)), around
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value, around
        else:
            around = around | parameters(node)
            for child in ast.iter_child_nodes(node):
                yield from walk(child, around)

    yield from walk(tree, set())


def keys_in(source: str) -> list[str]:
    """What a person would type, wherever a source's texts name it: "search.epochs", "relaxation=", ..."""
    found = []
    for line, text, own in texts_of(ast.parse(source)):
        for match in WORD.finditer(text):
            name, key = match.groups()
            if name in own:
                continue
            rest = text[match.end() :]
            named = name in ROOTS if key is None else (name, key) in INNER or (key == "{}" and rest[:1] in ("=", ":"))
            if named and name in MAPPINGS:
                found.append(f"line {line}: {match[0]}{'=' if key is None else ''}")
    return found


@pytest.mark.parametrize("path", sorted((ROOT / "supernet").rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_the_library_names_no_setting_by_its_key(path):
    assert not keys_in(path.read_text())


def test_the_keys_follow_the_yaml():
    assert {"search", "genotype", "method", "relaxation", "stages", "seed"} <= ROOTS
    assert {
        ("search", "epochs"),
        ("schedule", "warm_up"),
        ("costs", "none"),
        ("stages", "wrapper"),
        ("strategy", "clip"),
    } <= INNER


SOURCE = '''
class Recipe:
    """search.epochs stands in a docstring here, which is no message."""

    epochs: int = 1
    stages: tuple = ()

    def __post_init__(self):
        if self.epochs < 1:
            raise InputError(f"{MESSAGE}")


def prune(stages, most):
    raise ValueError(f"{MESSAGE}")
'''


@pytest.mark.parametrize(
    ("message", "names"),
    [
        ("search.epochs={self.epochs}: needs at least 1", "search.epochs"),
        ("search.{name}={value}: needs at least 1", "search.{}"),
        ("epochs=0: fewer than search.warm_up", "search.warm_up"),
        ("use relaxation=softmax", "relaxation="),
        ("genotype={path}: no such file", "genotype="),
        ("schedule.start={start}: needs to be positive", "schedule.start"),
        ("data.path: no images in {folder}", "data.path"),
        ("epochs={self.epochs}: needs at least 1", None),
        ("stages[{number}].keep={keep}: needs 1 or more", None),  # of its own parameter
        ("the search space has no {name}; see supernet.search.recipe", None),
    ],
)
def test_it_can_fail(message, names):
    found = keys_in(SOURCE.replace("{MESSAGE}", message))
    assert [entry.split(": ")[1] for entry in found] == ([] if names is None else [names, names])
