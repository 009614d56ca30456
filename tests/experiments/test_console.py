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


def test_a_reader_that_stops_early_is_no_mistake():
    program = subprocess.Popen([sys.executable, "-c", PRINTS], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert program.stdout.readline() == b"0\n"
    program.stdout.close()
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
