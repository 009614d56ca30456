"""What people read is true: examples run, commands have the settings they name, links and paths lead somewhere."""

import ast
import contextlib
import doctest
import importlib
import io
import os
import re
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from common import composed, slow_but
from hydra.core.override_parser.types import Glob
from PIL import Image, ImageDraw
from supernet.experiments import command_line
from supernet.experiments.commands import show
from supernet.experiments.exploration.words import asked
from supernet.experiments.recorded_words import parse
from supernet.experiments.several_devices import asked as asked_of_plan

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
LONGEST = 195  # lines of README.md
LONG = re.compile(r"(supernet\.(?:find|train)\(.*epochs=)\d+")  # a reader's epochs; here it is one
NOT_RUN = {  # examples that no test runs, and why; a new one has to be entered here, too
    "docs/exporting.md": ["needs executorch, which is large and is no part of the extra"],
    "docs/reproducing.md": ["needs weights.pt, a checkpoint of the original code"],
}
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


@dataclass(frozen=True)
class Block:
    """A block of code of a page. `line`: the number of its first line; `not_run`: why nobody runs it."""

    language: str
    line: int
    code: str
    not_run: str | None


def blocks(page: Path) -> Iterator[Block]:
    text = page.read_text(encoding="utf-8")
    for found in re.finditer(r"(?:<!-- not run: (.*?) -->\n)?^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
        yield Block(found[2], text.count("\n", 0, found.start(3)) + 1, found[3], found[1])


def prose(page: Path) -> str:
    """The page without its blocks of code."""
    return re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def spans(page: Path) -> list[str]:
    """What stands between backticks in the text."""
    return re.findall(r"`([^`\n]+)`", prose(page))


# Examples of modules


def module_of(path: Path) -> str:
    """The name that the app's modules have where they are installed, but for the benchmarks, which are not."""
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    return name if name.startswith(("supernet", "experiments.benchmarks")) else f"supernet.{name}"


SOURCES = sorted([*ROOT.glob("supernet/**/*.py"), *ROOT.glob("experiments/**/*.py")])
WITH_EXAMPLES = [module_of(path) for path in SOURCES if ">>> " in path.read_text(encoding="utf-8")]


@pytest.mark.parametrize("name", WITH_EXAMPLES or ["supernet"])
def test_examples_of_a_module(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(ROOT)
    module, said = importlib.import_module(name), io.StringIO()
    runner = doctest.DocTestRunner(verbose=False)
    with torch.random.fork_rng():
        for example in doctest.DocTestFinder(exclude_empty=True).find(module):
            runner.run(example, out=said.write)
    assert runner.failures == 0, said.getvalue()


# Examples of pages


def _smear() -> Image.Image:
    """Six red cells, drawn so that the detector of the zoo takes them for such."""
    drawn = Image.new("RGB", (640, 480), (225, 215, 205))
    for number in range(6):
        x, y = 60 + 100 * number, 100 + 60 * (number % 3)
        ImageDraw.Draw(drawn).ellipse((x, y, x + 90, y + 90), fill=(200, 140, 140))
    return drawn


_WITH_PYTHON = [p for p in PAGES if any(b.language == "python" for b in blocks(p))]
_QUICK = [p for p in _WITH_PYTHON if p.stem not in ("exporting", "exploring", "methods")]


@pytest.mark.parametrize("page", slow_but(_QUICK, _WITH_PYTHON), ids=lambda p: p.stem)
def test_python_of_a_page_runs(page, tmp_path, monkeypatch, capsys):
    """One block after the other, as a reader would type them; what names a file in its first line is that file, too."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save("digit.png")
    _smear().save("smear.jpg")
    module = type(sys)("__page__")
    monkeypatch.setitem(sys.modules, "__page__", module)  # where dataclasses look for their own module
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for block in (b for b in blocks(page) if b.language == "python" and b.not_run is None):
            if named := re.match(r"# (\w+\.py)\n", block.code):
                with Path(named[1]).open("a", encoding="utf-8") as file:
                    file.write(block.code)
            short = LONG.sub(r"\g<1>1", block.code)
            code = compile("\n" * (block.line - 1) + short, str(page), "exec")
            exec(code, module.__dict__)
    sys.modules.pop("mine", None)


def test_examples_that_nobody_runs_are_few_and_known():
    marked = {str(page.relative_to(ROOT)): [b.not_run for b in blocks(page) if b.not_run] for page in PAGES}
    assert {page: reasons for page, reasons in marked.items() if reasons} == NOT_RUN
    assert sum(page.read_text(encoding="utf-8").count("<!-- not run") for page in PAGES) == sum(
        map(len, NOT_RUN.values())
    )


# Commands


def commands(page: Path) -> Iterator[str]:
    """The lines that a reader types: those of blocks without a language, and those between backticks."""
    lines = [line for block in blocks(page) if not block.language for line in block.code.splitlines()]
    yield from (line for line in [*lines, *spans(page)] if re.match(r"(PYTHONPATH=\. )?(supernet|python|pip) ?", line))


COMMANDS = sorted({line for page in PAGES for line in commands(page)})
COMPOSED = [line for line in COMMANDS if re.match(r"(PYTHONPATH=\. )?supernet(-plan)? ", line)]
STANDING_FOR = {"...", "RUN", "FOLDER", "FILE.npz"}


def words_of(line: str) -> list[str] | None:
    """The words of a command that composes settings; None where it does not or needs what is not there."""
    words = [word for word in shlex.split(line, comments=True)[1:] if word != "..."]
    elsewhere = ("--help", "--cfg", "--config-dir", "-sc", "resume=")
    if line.startswith("PYTHONPATH"):
        words = words[1:]
    if line.startswith("supernet-plan "):
        _, words = asked_of_plan(words)  # which has words of its own
    return None if not words or any(word.startswith(elsewhere) for word in words) else words


@pytest.mark.parametrize("line", [line for line in COMPOSED if words_of(line)])
def test_a_command_names_settings_that_there_are(line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    overrides = []
    for word in (w for w in command_line.prepared(words_of(line)) if not w.startswith("-")):
        override = parse(word)
        assert override is not None, word
        if override.is_sweep_override():  # each of its values is an option or a value of its own
            several = override.value()
            if not isinstance(several, Glob):
                first = next(iter(override.sweep_string_iterator()))
                overrides.append(f"{override.get_key_element()}={first}")
        else:
            overrides.append(word)
    command_line.check_options(overrides)
    assert composed(*overrides)["search"]["epochs"] > 0


@pytest.mark.parametrize("line", [c for c in COMMANDS if c.startswith("supernet-explore ") and "--help" not in c])
def test_a_command_explores_with_settings_that_there_are(line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for run in ("RUN", "runs/asked", "runs/edge"):
        (tmp_path / run).mkdir(parents=True)
    found = asked([word for word in shlex.split(line, comments=True)[1:] if word != "..."])
    assert found.settings["explorer"]
    assert found.settings["score"]


@pytest.mark.parametrize("line", [c for c in COMMANDS if c.startswith("python -m")])
def test_a_module_that_is_run_is_there_and_knows_its_options(line):
    _, _, name, *options = shlex.split(line)
    path = ROOT / Path(*name.removeprefix("supernet.").split("."))
    path = path.with_suffix(".py") if "experiments" in name else ROOT / "supernet"
    source = path.read_text(encoding="utf-8")
    for option in (o for o in options if o.startswith("--")):
        assert f'"{option}"' in source, f"{path} has no {option}"


SHOWN = ("supernet-show darts_v2", "supernet-show '|")


@pytest.mark.parametrize("line", [c for page in PAGES for c in commands(page) if c.startswith(SHOWN)])
def test_genotypes_are_shown(line, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", shlex.split(line))
    with contextlib.suppress(SystemExit):
        show.main()
    assert "parameters" in capsys.readouterr().out


# What is named is there


def slug(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


@each_page
def test_links_lead_somewhere(page):
    for target, anchor in re.findall(r"\]\(([^)#\s]*)(?:#([^)\s]+))?\)", prose(page)):
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        where = (page.parent / target).resolve() if target else page
        assert where.exists(), f"{page.name}: {target} is not there"
        assert where.is_relative_to(ROOT), f"{page.name}: {target} lies outside the project"
        if anchor:
            headings = re.findall(r"^#+ (.*)$", prose(where), re.MULTILINE)
            assert anchor in map(slug, headings), f"{page.name}: {target}#{anchor} is no heading"


def test_every_page_names_all_others_in_one_order():
    pages, orders = sorted((ROOT / "docs").glob("*.md")), set()
    for page in pages:
        head = page.read_text(encoding="utf-8").split("\n\n")[1]
        entries = re.findall(r"\[([\w\s]+)\]\(([\w./]+)\)|\*\*([\w\s]+)\*\*", head)
        orders.add(tuple(name or own for name, _, own in entries))
        assert sorted(link or page.name for _, link, _ in entries) == sorted(["../README.md", *(p.name for p in pages)])
    assert len(orders) == 1


def test_recorded_runs_are_all_in_their_table():
    table = (ROOT / "docs" / "reproducing.md").read_text(encoding="utf-8")
    for page in (ROOT / "experiments" / "results").glob("*.md"):
        assert f"(../experiments/results/{page.name})" in table


@pytest.mark.parametrize("page", [p for p in PAGES if p.name != "CHANGELOG.md"], ids=lambda page: page.stem)
def test_paths_and_settings_between_backticks_are_there(page):
    groups = {folder.name: folder for folder in (ROOT / "conf").iterdir() if folder.is_dir()}
    typed = [word for block in blocks(page) if not block.language for word in block.code.split() if "/" in word]
    for span in [*spans(page), *typed]:
        if re.fullmatch(r"(supernet|experiments|conf|tests|docs)(/[\w.*-]+)+/?", span):
            assert list(ROOT.glob(span.rstrip("/"))), f"{page.name}: {span} is not there"
        for word in shlex.split(span) if re.fullmatch(r"[\w. ='\"\[\],{}:-]+", span) else []:
            name = re.fullmatch(r"(\w+)\.(\w+)(?:[.\w]*)?(?:=.*)?", word)
            if name and name[1] in groups:
                texts = "".join(path.read_text(encoding="utf-8") for path in groups[name[1]].glob("*.yaml"))
                assert re.search(rf"\b{name[2]}:", texts), f"{page.name}: {word} is no setting of {name[1]}"


def test_methods_are_all_in_their_table():
    rows = re.findall(
        r"^\| \[(\w+)\]\(\S+?/(\w+)\.yaml\) `supernet\.methods\.(\w+)\(\)`", prose(ROOT / "docs/methods.md"), re.M
    )
    assert all(len(set(row)) == 1 for row in rows)
    assert sorted(row[0] for row in rows) == sorted(path.stem for path in (ROOT / "conf" / "method").glob("*.yaml"))
    assert f"{len(rows)} methods of the literature" in prose(ROOT / "README.md")


# The walks: `file:function` steps of CONTRIBUTING.md

STEP = re.compile(r"^\d+\. .*(?:\n   .*)*", re.MULTILINE)
PLACE = re.compile(r"`([\w/.]+\.(?:py|yaml)):([\w.]+)`")


def names_in(path: Path) -> set[str]:
    """The functions, classes and methods of a module, or the keys of a yaml, by their dotted names."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".yaml":
        return set(yaml.safe_load(text))

    def under(node: ast.AST, prefix: str) -> Iterator[str]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                yield prefix + child.name
                yield from under(child, f"{prefix}{child.name}.")
            elif isinstance(child, ast.AnnAssign) and isinstance(child.target, ast.Name):
                yield prefix + child.target.id

    return set(under(ast.parse(text), ""))


def walks() -> dict[str, str]:
    walk = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").split("\n## A newcomer's walk\n")[1].split("\n## ")[0]
    return dict(section.split("\n", 1) for section in walk.split("\n### ")[1:])


def test_places_of_the_walks_are_there():
    assert len(walks()) == 3
    for title, text in walks().items():
        steps = STEP.findall(text)
        assert len(steps) >= 4, title
        for step in steps:
            places = PLACE.findall(step)
            assert places, f"{title}: {step} names no place"
            for path, name in places:
                assert (ROOT / path).is_file(), f"{title}: {path} is not there"
                assert name in names_in(ROOT / path), f"{title}: {path} has no {name}"


def test_the_steps_of_the_walks_are_counted_rightly():
    for title, text in walks().items():
        said = re.search(r"(\d+) steps; (\d+) before", text)
        assert said, title
        assert int(said[1]) == len(STEP.findall(text)) < int(said[2]), title


# The pages themselves


def test_readme_is_short_and_has_the_commands_of_the_checks():
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= LONGEST
    assert 'pip install -e ".[dev]" && pytest' in lines  # .ci/run types it
    assert "pip install -e . && supernet" in lines


@each_page
def test_lines_are_wrapped(page):
    for line in prose(page).splitlines():
        assert len(line) <= 120 or line.startswith("|"), f"{page.name}: {line}"


def test_the_public_checks_call_the_same_script():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))
    (job,) = workflow["jobs"].values()
    assert job["strategy"]["matrix"]["python"] == ["3.11", "3.12", "3.13"]
    assert ".ci/run" in [step.get("run") for step in job["steps"]]
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
