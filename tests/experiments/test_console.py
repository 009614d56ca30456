"""What all commands share: mistakes are one line, and a reader that stops early is no mistake."""

import argparse
import importlib
import logging
import subprocess
import sys
from pathlib import Path

import pytest
from supernet.experiments.console import Parser, command

from supernet.runtime.errors import InputError

PRINTS = """
from supernet.experiments.console import command
@command("supernet-x")
def main():
    for number in range(100_000):
        print(number)
main()
"""


HELPS = """
import sys
from supernet.experiments import pipeline
sys.argv = ["supernet", "--help"]
print(0, flush=True)
sys.stdin.readline()
pipeline.main()
"""


@pytest.mark.parametrize(
    "code", [pytest.param(PRINTS, marks=pytest.mark.slow), HELPS], ids=["a command", "Hydra's help"]
)
def test_a_reader_that_stops_early_is_no_mistake(code):
    pipe = subprocess.PIPE
    program = subprocess.Popen([sys.executable, "-c", code], stdin=pipe, stdout=pipe, stderr=pipe)
    assert program.stdout.readline() == b"0\n"
    program.stdout.close()
    program.stdin.close()
    assert program.stderr.read() == b""
    program.stderr.close()
    assert program.wait() == 141


def test_mistakes_are_one_line_and_exit_code_2(capsys):
    @command("supernet-x")
    def main():
        raise InputError("what\nis wrong")

    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    assert capsys.readouterr().err == "supernet-x: what\\nis wrong\n"


def test_all_else_goes_through():
    @command("supernet-x")
    def main():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        main()


def ended(main, capsys):
    with pytest.raises(SystemExit) as stop:
        main()
    return stop.value.code, capsys.readouterr().err


def test_a_file_that_cannot_be_used_is_one_line(capsys, tmp_path):
    @command("supernet-x")
    def main():
        (tmp_path / "a" / "b").mkdir()

    assert ended(main, capsys) == (
        2,
        f"supernet-x: {tmp_path / 'a' / 'b'}: cannot be used (No such file or directory)\n",
    )

    @command("supernet-x")
    def full():
        raise OSError("the\ndisk")

    assert ended(full, capsys) == (2, "supernet-x: the disk\n")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "the following arguments are required: run; see --help"),
        (["a", "--seed", "x"], "--seed: invalid int value: 'x'; see --help"),
        (["a", "--format", "y"], "--format: invalid choice: 'y' (choose from 'a', 'b'); see --help"),
        (["a", "--else\n"], "unrecognized arguments: --else\\n; see --help"),
    ],
)
def test_mistakes_in_words_are_one_line(words, says, capsys):
    parser = Parser(prog="supernet-x")
    parser.add_argument("run")
    parser.add_argument("settings", nargs="*", default=[])
    parser.add_argument("--seed", type=int)
    parser.add_argument("--format", choices=("a", "b"))
    main = command("supernet-x")(lambda: parser.parse_intermixed_args(words))
    assert ended(main, capsys) == (2, f"supernet-x: {says}\n")


@pytest.mark.parametrize(
    "name", ["commands.export", "commands.pareto", "commands.predict", "commands.show", "reports.report"]
)
def test_all_commands_with_flags_say_mistakes_so(name, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["supernet-x", "--nonsense"])
    code, err = ended(importlib.import_module(f"supernet.experiments.{name}").main, capsys)
    assert (code, err.count("\n")) == (2, 1)
    assert err.endswith("see --help\n")


def test_no_command_has_a_parser_of_its_own():
    commands = Path(sys.modules[command.__module__].__file__).parent / "commands"
    assert [
        path.name for path in commands.glob("*.py") if f"{argparse.__name__}.ArgumentParser(" in path.read_text()
    ] == []


def test_warnings_of_the_library_have_the_name_in_front(capsys):
    log = logging.getLogger("supernet")

    @command("supernet-x")
    def main():
        log.warning("odd")

    main()
    assert capsys.readouterr().err == "supernet-x: odd\n"
    assert log.handlers == []
