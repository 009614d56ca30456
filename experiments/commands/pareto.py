"""supernet-pareto: which networks does a trained supernet offer, and which one keeps a limit?

    supernet-pareto RUN                                    the front of accuracy against milliseconds, where the run
                                                           has a table of them, else against multiply-adds
    supernet-pareto RUN --cost memory --evaluations 1000   against another cost; more evaluations go on
    supernet-pareto RUN --latency latency.csv              against milliseconds, by a table of supernet-latency
    supernet-pareto RUN --latency latency.csv --at-most 3  and the best network that takes 3 ms or less, measured
    supernet-pareto RUN --cost macs --at-most 2e6 --weights  with its weights: a model file that is ready for use

It trains nothing. RUN is a finished run with its checkpoint. NSGA-II proposes architectures, the supernet judges them
on the half of the training images that it did not learn from. To RUN/pareto/COST (or --output) go front.csv, front.svg
and a TensorBoard page; the hypervolume and its reference point are in the head of front.csv. A command that was stopped
goes on where it is given again; what is judged is not judged again. runtime.workers=8 judges in eight processes.
"""

from __future__ import annotations

import argparse
import math
import shlex
import signal
import sys
from pathlib import Path

from supernet.runtime.errors import InputError, out_of_memory
from supernet.runtime.files import disk_fault
from supernet.runtime.interrupt import Interrupted, Interruption
from supernet.runtime.reading import is_folder

from ..console import Parser, command
from ..exploration.words import of_workers
from ..pareto.asking import SCORES, Words, ask


@command("supernet-pareto")
def main() -> None:
    """Runs the command `supernet-pareto`. A mistake is reported in one line, with exit code 2."""
    given = sys.argv[1:]
    words = _words(given)
    try:
        with Interruption() as interruption:
            ask(words, interruption)
    except Interrupted as error:
        print(f"supernet-pareto: {error}; all is saved. Go on with: {_again(given)}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:  # the second one
        print("supernet-pareto: stopped by SIGINT", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
    except (OSError, RuntimeError) as error:
        if reason := disk_fault(error):
            raise InputError(f"{reason}; make room, then: {_again(given)}") from error
        if out_of_memory(error):
            raise InputError("the memory is full; runtime.device=cpu has more of it") from error
        raise


def _words(given: list[str]) -> Words:
    parser = Parser(prog="supernet-pareto", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="the folder of a finished run")
    parser.add_argument(
        "settings", nargs="*", default=[], help="of the machine, such as runtime.device=cpu, runtime.workers=8"
    )
    parser.add_argument(
        "--cost", help="macs, latency, parameters, memory or bytes (default: latency with a table, else macs)"
    )
    parser.add_argument("--latency", type=Path, metavar="FILE", help="a table of measured times, in place of the run's")
    parser.add_argument(
        "--at-most", type=float, metavar="X", help="write the best network that costs no more, in the unit of --cost"
    )
    parser.add_argument("--weights", action="store_true", help="with its weights, taken from the supernet")
    parser.add_argument("--score", choices=SCORES, default=SCORES[0], help="how the supernet judges")
    parser.add_argument("--evaluations", type=int, default=500, metavar="N", help="at most (default 500)")
    parser.add_argument("--population", type=int, default=50, metavar="N", help="of NSGA-II (default 50)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of NSGA-II (default 0)")
    parser.add_argument("--config-dir", type=Path, metavar="FOLDER", help="of settings of your own that the run had")
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="default RUN/pareto/COST")
    found = parser.parse_intermixed_args(given)
    if not is_folder(found.run):
        raise InputError(f"{found.run}: no such folder; give the folder of a finished run")
    for word in found.settings:
        if "=" not in word:
            raise InputError(f"{word}: one run at a time, and {found.run} is one; settings are written key=value")
    limit = found.at_most
    if limit is not None and not 0.0 < limit < math.inf:
        raise InputError(f"--at-most {limit:g}: needs a number above 0")
    if found.weights and limit is None:
        raise InputError("--weights: of which network? --at-most X says it")
    for name in ("evaluations", "population"):
        if (count := getattr(found, name)) < 1:
            raise InputError(f"--{name} {count}: needs 1 or more")
    if not 0 <= found.seed < 2**32:
        raise InputError(f"--seed {found.seed}: needs to lie between 0 and {2**32 - 1}")
    folder = found.config_dir
    if folder is not None and not is_folder(folder):
        raise InputError(f"--config-dir {folder}: no such folder")
    known = {name: value for name, value in vars(found).items() if name != "config_dir"}
    known["runtime"] = tuple(word for word in found.settings if of_workers(word))
    known["settings"] = tuple(word for word in found.settings if not of_workers(word))
    return Words(**known | {"folders": () if folder is None else (folder,)})


def _again(given: list[str]) -> str:
    """The command that goes on: the same one."""
    return shlex.join(["supernet-pareto", *given])


if __name__ == "__main__":
    main()
