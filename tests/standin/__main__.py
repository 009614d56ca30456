"""The command: starts Python anew with the stand-in preloaded, and runs a script or a module on it."""

import contextlib
import os
import runpy
import sys
import traceback
from pathlib import Path

from tests.standin import __doc__ as usage
from tests.standin.building import LIBRARY, build, preloaded

ROOT = Path(__file__).parents[2]


def environment(count: bool = False, gpus: int = 1, size: int | None = None) -> dict[str, str]:
    """The variables with which Python is to be started.

    Args:
        count: kernels are only counted.
        gpus: how many there are.
        size: bytes of each one's memory; None: 80 GiB.
    """
    folder = build()
    found = {name: value for name, value in os.environ.items() if not name.startswith("STANDIN_")}
    found |= {"LD_PRELOAD": preloaded(folder), "LD_LIBRARY_PATH": str(folder / "lib"), "STANDIN_GPUS": str(gpus)}
    found |= {"STANDIN_COUNT": "1"} if count else {}
    found |= {"STANDIN_BYTES": str(size)} if size is not None else {}
    found["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    # cuDNN's old interface, the one that is stood in for; no kernels but PyTorch's.
    found |= {"TORCH_CUDNN_V8_API_DISABLED": "1", "SUPERNET_TRITON": "0"}
    found.setdefault("OMP_NUM_THREADS", "1")
    return found


def main() -> None:
    words, options = sys.argv[1:], {}
    while words and words[0] in ("--count", "--gpus", "--bytes"):
        word = words.pop(0)
        options |= {"count": True} if word == "--count" else {"gpus" if word == "--gpus" else "size": int(words.pop(0))}
    if not words:
        sys.exit(usage)
    if LIBRARY not in os.environ.get("LD_PRELOAD", ""):
        command = [sys.executable, "-m", "tests.standin", *sys.argv[1:]]
        os.execve(sys.executable, command, environment(**options))
    for name in ("LD_PRELOAD", "LD_LIBRARY_PATH"):  # a process that this one starts may be on none, or on another
        os.environ.pop(name, None)
    leave(words, bool(options.get("count")))


def leave(words: list[str], count: bool) -> None:
    """Runs the script and ends the process with its status, not by Python's own end.

    Autograd's thread of a device drops its last references after the backward pass has returned. If Python has begun
    to end by then, as it may right after replays that do nothing, taking its lock there ends the process with SIGABRT.
    """
    status = 0
    try:
        run(words, count)
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        status = 1
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(status)


def run(words: list[str], count: bool) -> None:
    """Runs a script (or "-m" and a module) with its arguments, as Python would, and says what was counted."""
    from tests.standin import account

    mode: contextlib.AbstractContextManager[object] = contextlib.nullcontext()
    if not count:
        from tests.standin.emulation import Numbers
        from tests.standin.graphs import install

        install()
        mode = Numbers()
    try:
        with mode:
            if words[0] == "-m":
                sys.argv = words[1:]
                runpy.run_module(words[1], run_name="__main__", alter_sys=True)
            else:
                sys.argv = words
                sys.path.insert(0, str(Path(words[0]).resolve().parent))
                runpy.run_path(words[0], run_name="__main__")
    finally:
        print(
            f"stand-in: {account.launches()} launches, {account.captured()} of them captured, {account.beside()} "
            f"beside a capture; {sum(account.waits().values())} waits; {account.replayed['graphs']} replays; "
            f"{sum(account.moved.values()) / 1e9:.3f} GB moved; journal {dict(account.journal().most_common(5))}",
            file=sys.stderr,
        )


if __name__ == "__main__":
    main()
