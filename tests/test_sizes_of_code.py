"""Functions that can be read at once, and constructors that say why where they have many settings."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted([*ROOT.glob("supernet/**/*.py"), *ROOT.glob("experiments/**/*.py")])
LONGEST, MOST = 50, 12  # lines of a function besides its docstring; settings of a constructor
REASON = "More than twelve"


def lines_of(function: ast.FunctionDef) -> int:
    docstring = function.body[0] if ast.get_docstring(function, clean=False) is not None else None
    inside = 0 if docstring is None else docstring.end_lineno - docstring.lineno + 1
    return function.end_lineno - function.lineno + 1 - inside


def settings_of(node: ast.ClassDef) -> int:
    """Fields of a dataclass, or parameters of a constructor."""
    init = next((n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"), None)
    if init is not None:
        return len(init.args.args) - 1 + len(init.args.kwonlyargs)
    fields = [n for n in node.body if isinstance(n, ast.AnnAssign) and "ClassVar" not in ast.unparse(n.annotation)]
    return len(fields)


def long_functions(source: str) -> list[str]:
    return [n.name for n in ast.walk(ast.parse(source)) if isinstance(n, ast.FunctionDef) and lines_of(n) > LONGEST]


def wide_constructors(source: str) -> list[str]:
    classes = [n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.ClassDef) and settings_of(n) > MOST]
    return [n.name for n in classes if REASON not in (ast.get_docstring(n) or "").replace("\n", " ")]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_functions_are_short_and_wide_constructors_say_why(path):
    source = path.read_text()
    assert long_functions(source) == []
    assert wide_constructors(source) == []


def test_the_rule_finds_what_breaks_it():
    body = "\n".join(f"    x{n} = {n}" for n in range(60))
    assert long_functions(f"def f():\n{body}\n") == ["f"]
    assert long_functions('def f():\n    """' + "line\n" * 60 + '    """\n    return 1\n') == []
    fields = "\n".join(f"    x{n}: int" for n in range(13))
    assert wide_constructors(f"class A:\n{fields}\n") == ["A"]
    assert wide_constructors(f'class A:\n    """{REASON} settings: each is one of the paper."""\n{fields}\n') == []
    assert wide_constructors(
        "class A:\n    def __init__(self, " + ", ".join(f"x{n}" for n in range(13)) + "): ..."
    ) == ["A"]
