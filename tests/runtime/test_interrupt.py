import os
import signal
import threading

import pytest

from supernet.runtime.interrupt import Interrupted, Interruption
from supernet.runtime.run import Run


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2])
def test_a_signal_is_remembered_and_the_loop_goes_on(number):
    before = signal.getsignal(number)
    with Interruption() as interruption:
        assert not interruption.requested()
        os.kill(os.getpid(), number)
        assert interruption.requested()
        assert interruption.signal == number
    assert signal.getsignal(number) is before


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
def test_a_further_sigint_stops_at_once_and_restores_the_handlers(first):
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), Interruption():  # noqa: PT012 - the second signal is the one that raises
        os.kill(os.getpid(), first)
        os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_a_second_sigterm_only_asks_again():
    with Interruption() as interruption:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        assert interruption.signal == signal.SIGTERM


def test_a_notice_counts_although_sigterm_follows_it():
    with Interruption() as interruption:
        os.kill(os.getpid(), signal.SIGUSR1)
        os.kill(os.getpid(), signal.SIGTERM)
        assert interruption.signal == signal.SIGUSR1


def test_only_a_notice_asks_to_be_started_again():
    assert [Interrupted(n).notice for n in (signal.SIGINT, signal.SIGTERM)] == [False, False]
    assert [Interrupted(n).notice for n in (signal.SIGUSR1, signal.SIGUSR2)] == [True, True]
    assert Interrupted(signal.SIGUSR1).exit_code == 138


def test_a_second_use_starts_without_the_old_request():
    interruption = Interruption()
    with interruption:
        os.kill(os.getpid(), signal.SIGTERM)
    with interruption:
        assert not interruption.requested()


def test_other_threads_may_open_it_too():
    outcome = []

    def body():
        with Interruption() as interruption:
            outcome.append(interruption.requested())

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    assert outcome == [False]


def test_interrupted_gives_the_exit_code_of_the_shell():
    assert Interrupted(signal.SIGINT).exit_code == 130
    assert Interrupted(signal.SIGTERM).exit_code == 143
    assert str(Interrupted(signal.SIGTERM)) == "stopped by SIGTERM"


def test_a_run_by_default_is_silent_and_never_interrupted():
    run = Run()
    assert run.device.type == "cpu"
    assert run.checkpoint is None
    assert not run.interruption.requested()
    run.report.scalars({"a": 1.0}, 0)
