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

# glog ("W0000 00:00:1700000000.000000  123 file.cc:1] ..."), TensorFlow Lite, and absl.
_NATIVE_LINE = re.compile(r"[IWEF]\d{4} |(INFO|WARNING|ERROR): |=== Source Location|[\w/]+\.cc:\d+")


class CaughtStderr:
    """What native code wrote; complete when the block has ended."""

    def __init__(self) -> None:
        self.text = ""


class _Redirection:
    """File descriptor 2 led into a temporary file, until the last of its users has left.

    Raises:
        OSError: It cannot be: stderr is closed, or there is no folder for temporary files.
    """

    def __init__(self) -> None:
        self.users = 0
        self._original = os.dup(_STDERR)
        try:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115 - closed by stop()
        except OSError:
            os.close(self._original)
            raise
        _flush()
        os.dup2(self._file.fileno(), _STDERR)

    def size_bytes(self) -> int:
        """Return how much was written so far."""
        return os.fstat(self._file.fileno()).st_size

    def text(self, start: int) -> str:
        """Return what was written from byte ``start`` on."""
        content = os.pread(self._file.fileno(), self.size_bytes() - start, start)
        return content.decode(errors="replace")

    def stop(self) -> None:
        """Put the real stderr back, and pass on to it what no native library wrote."""
        _flush()
        os.dup2(self._original, _STDERR)
        os.close(self._original)
        text = self.text(0)
        self._file.close()
        _pass_on(text)


class _Sharing:
    """One redirection for all threads that want one at the same time.

    Nobody waits for another's block: a task may be closed by the garbage collector in any thread,
    also in one that the block of another thread is waiting for. It may even do so between two
    lines of the methods below, whose order is safe for that: what is ``_current`` has users.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._current: _Redirection | None = None

    def enter(self) -> tuple[_Redirection, int] | None:
        """Return the redirection and where in it one's own text starts; None without any."""
        with self._lock:
            redirection = self._current
            if redirection is None:
                try:
                    redirection = _Redirection()
                except OSError:
                    return None
            redirection.users += 1
            self._current = redirection
            return redirection, redirection.size_bytes()

    def leave(self, redirection: _Redirection, start: int) -> str:
        """Return what was written from ``start`` on; the last one out ends the redirection."""
        with self._lock:
            _flush()
            text = redirection.text(start)
            if redirection.users == 1:
                self._current = None
                redirection.stop()
            redirection.users -= 1
            return text


_sharing = _Sharing()


@contextlib.contextmanager
def caught_stderr() -> Iterator[CaughtStderr]:
    """Catch what is written to file descriptor 2 inside the block.

    Native libraries write there past ``sys.stderr``, and MediaPipe heeds no setting that would
    stop it. Lines that are not of their kind, written meanwhile by other threads, are passed on
    afterwards. Where nothing can be redirected (stderr closed, no folder for temporary files)
    the block runs as it is. Blocks may overlap; each then catches the lines of all.
    """
    caught = CaughtStderr()
    entered = _sharing.enter()
    try:
        yield caught
    finally:
        if entered is not None:
            caught.text = _sharing.leave(*entered)


def _flush() -> None:
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stderr.flush()


def _pass_on(text: str) -> None:
    """Write the lines that no native library wrote to the real stderr."""
    others = [line for line in text.splitlines(True) if not _NATIVE_LINE.match(line)]
    if others:
        with contextlib.suppress(OSError):
            os.write(_STDERR, "".join(others).encode(errors="replace"))
