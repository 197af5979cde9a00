"""Keeping the log lines of native libraries off the user's terminal."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import tempfile
import threading
from collections.abc import Iterator

__all__ = ["CaughtStderr", "caught_stderr"]

_STDERR = 2
_ONE_AT_A_TIME = threading.RLock()

# glog ("W0000 00:00:1700000000.000000  123 file.cc:1] ..."), TensorFlow Lite, and absl.
_NATIVE_LINE = re.compile(r"[IWEF]\d{4} |(INFO|WARNING|ERROR): |=== Source Location|[\w/]+\.cc:\d+")


class CaughtStderr:
    """What native code wrote; complete when the block has ended."""

    def __init__(self) -> None:
        self.text = ""


@contextlib.contextmanager
def caught_stderr() -> Iterator[CaughtStderr]:
    """Catch what is written to file descriptor 2 inside the block.

    Native libraries write there past ``sys.stderr``, and MediaPipe heeds no setting that would
    stop it. Lines that are not of their kind, written meanwhile by other threads, are passed on
    afterwards. Where nothing can be redirected (stderr closed, no folder for temporary files)
    the block runs as it is.
    """
    caught = CaughtStderr()
    with _ONE_AT_A_TIME, contextlib.ExitStack() as stack:
        try:
            original = os.dup(_STDERR)
            stack.callback(os.close, original)
            file = stack.enter_context(tempfile.TemporaryFile())
        except OSError:
            yield caught
            return
        _flush()
        os.dup2(file.fileno(), _STDERR)
        try:
            yield caught
        finally:
            _flush()
            os.dup2(original, _STDERR)
            file.seek(0)
            caught.text = file.read().decode(errors="replace")
            _pass_on(caught.text)


def _flush() -> None:
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stderr.flush()


def _pass_on(text: str) -> None:
    """Write the lines that no native library wrote to the real stderr."""
    others = [line for line in text.splitlines(True) if not _NATIVE_LINE.match(line)]
    if others:
        with contextlib.suppress(OSError):
            os.write(_STDERR, "".join(others).encode(errors="replace"))
