"""What all commands share: mistakes are one line, and a reader that stops early is no mistake."""

import subprocess
import sys

import pytest
from supernet.experiments.console import command

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


@pytest.mark.parametrize("code", [PRINTS, HELPS], ids=["a command", "Hydra's help"])
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
