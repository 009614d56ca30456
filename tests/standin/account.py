"""What was asked of the device: launches, waits and the lines that waited, what is prohibited, bytes, replays."""

import ctypes
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

library = ctypes.CDLL(None)  # all that is loaded into this process
if not hasattr(library, "standin_launches"):
    raise ImportError("this process is not on the stand-in; start it by `python -m tests.standin SCRIPT.py`")

moved: Counter[str] = Counter()
"""Bytes in and out of operations that the device has done, replayed ones included, by the operation's name."""
replayed: Counter[str] = Counter()
"""Of graphs: how often one was replayed, and the operations in them."""
_ROOT = Path(__file__).parents[2]
_COMMAND = Path(__file__).with_name("__main__.py")
_SIZE = 8192
_waits: Counter[str] = Counter()


def launches() -> int:
    """Kernels, copies and graphs that were launched, or captured."""
    return int(library.standin_launches())


def captured() -> int:
    """Launches that went into a graph."""
    return int(library.standin_captured())


def beside() -> int:
    """Launches on another stream while one was capturing: a replay does not do them."""
    return int(library.standin_beside())


def journal() -> Counter[str]:
    """What CUDA prohibits during a capture, and what else is wrong or strange."""
    found, text, number = Counter(), ctypes.create_string_buffer(_SIZE), 0
    while library.standin_journal(number, text, _SIZE):
        found[text.value.decode()] += 1
        number += 1
    return found


def waits() -> Counter[str]:
    """How often the host waited for the device, by the line of Python: "supernet/training/meters.py:80 read"."""
    return Counter(_waits)


def note(what: str) -> None:
    """Adds a line to the journal."""
    library.standin_note(what.encode())


def clear() -> None:
    """Begins anew."""
    library.standin_clear()
    for counts in (moved, replayed, _waits):
        counts.clear()


@contextmanager
def uncounted() -> Iterator[None]:
    """Within it nothing is counted, because the stand-in does it and not the program."""
    library.standin_pause(1)
    try:
        yield
    finally:
        library.standin_pause(0)


def waited(call: str) -> None:
    """Notes that the program waits now."""
    _waits[_line(sys._getframe(1)) or f"outside Python: {call}"] += 1


def _line(frame: FrameType | None) -> str:
    """The innermost line of the project that led here, or of anything but PyTorch and the stand-in."""
    other = ""
    while frame is not None:
        path = Path(frame.f_code.co_filename).absolute()
        own = path == _COMMAND or str(frame.f_globals.get("__name__", "")).startswith("tests.standin.")
        own = own or frame.f_code.co_filename.startswith("<")
        # An environment may lie in the checkout, too.
        if path.is_relative_to(_ROOT) and "site-packages" not in path.parts and not own:
            return f"{path.relative_to(_ROOT)}:{frame.f_lineno} {frame.f_code.co_name}"
        if not other and not own and not {"torch", "contextlib.py"} & set(path.parts):
            other = f"{path.name}:{frame.f_lineno} {frame.f_code.co_name}"
        frame = frame.f_back
    return other


_told = ctypes.CFUNCTYPE(None, ctypes.c_char_p)(lambda call: waited(call.decode()))
library.standin_on_wait(_told)
