"""supernet-explore: which explorer, score and discretiser finds the best cell, and was it worth more than counting?

    supernet-explore RUN                      random architectures of a finished run, by its supernet's accuracy
    supernet-explore RUN explorer=spos,aging,local score=supernet,recalibrated discretiser=argmax,limit_skips
    supernet-explore RUN budget.evaluations=200 seed=0,1,2 sample=100
    supernet-explore RUN table=nasbench201 table.path=FILE        with the truth that the run did not have
    supernet-explore RUN explorer=spos limits.parameters=50000    no larger ones are tried
    supernet-explore RUN score=training runtime.workers=8         eight processes judge, with the same results

Without a run it is the tabular benchmark, whose scores are looked up:

    supernet-explore space=micro explorer=aging,local score=table 'seed=range(100)' budget.evaluations=30
    supernet-explore space=nasbench201 table=nasbench201 table.path=FILE explorer=aging,local score=table
        score.column=cifar10_valid_12 score.seconds=cifar10 truth=cifar10_test_200 budget.simulated_seconds=20000

It trains nothing. All combinations are tried, and beside them random picks under the same budget and the pick with the
most parameters. The results go to RUN/explore (or output=FOLDER; without a run: explore): explore.md, .csv and .png,
a CSV row and a point in TensorBoard for each evaluation. A command that was stopped goes on where it is given again;
what is finished is not tried again.
"""

from __future__ import annotations

import shlex
import signal
import sys

from supernet.runtime.errors import InputError, out_of_memory
from supernet.runtime.files import disk_fault
from supernet.runtime.interrupt import Interrupted, Interruption

from ..console import command
from ..exploration.exploring import explore_all
from ..exploration.groups import options_in_words
from ..exploration.words import asked


@command("supernet-explore")
def main() -> None:
    """Runs the command `supernet-explore`. A mistake is reported in one line, with exit code 2."""
    given = sys.argv[1:]
    if any(word in ("-h", "--help", "help") for word in given) or not given:
        print(f"{__doc__}\n{options_in_words()}")
        return
    try:
        with Interruption() as interruption:
            explore_all(asked(given), interruption)
    except Interrupted as error:
        print(f"supernet-explore: {error}; all is saved. Go on with: {again(given)}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:  # the second one
        print("supernet-explore: stopped by SIGINT", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
    except (OSError, RuntimeError) as error:
        if reason := disk_fault(error):
            raise InputError(f"{reason}; make room, then: {again(given)}") from error
        if out_of_memory(error):
            raise InputError("the memory is full; score.batch_size=NUMBER with a lower one needs less") from error
        raise


def again(given: list[str]) -> str:
    """The command that goes on: the same one."""
    return shlex.join(["supernet-explore", *given])


if __name__ == "__main__":
    main()
