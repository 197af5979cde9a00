"""The parent's end of a reader process: start, commands, messages, end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from edgeface.camera.captures import CaptureSpec
from edgeface.camera.monitor import MonitorOptions
from edgeface.camera.ring import FrameRing
from edgeface.errors import CameraError

__all__ = ["ReaderProcess"]

# The interpreter is told where modules are, as its parent knows it, and nothing else of the parent
# is run again, as multiprocessing would: scripts without a main guard work.
_START = "import sys; sys.path[:] = sys.argv[1:]; from edgeface.camera.reader import main; main()"
# A reader that is between two frames ends by itself and says good-bye to the camera; this is for
# one that is not.
_GRACE_S = 0.4
_REAP_S = 2.0

Listener = Callable[["ReaderProcess", "dict[str, Any] | None"], None]


class ReaderProcess:
    """A running reader.

    ``listener`` gets its messages, in a thread of the reader: {} for a frame, None at the end.
    """

    def __init__(
        self, spec: CaptureSpec, ring: FrameRing, monitor: MonitorOptions, listener: Listener
    ) -> None:
        """Start the process.

        Raises:
            CameraError: It cannot be started.
        """
        self._listener = listener
        self._process = _start(ring)
        configuration = {
            "opener": spec.opener,
            "arguments": spec.arguments,
            "monitor": asdict(monitor),
            "ring": ring.token,
            "max_pixels": ring.max_pixels,
            "parent": os.getpid(),
        }
        self.send(configuration)
        self._thread = threading.Thread(target=self._listen, name="edgeface-reader", daemon=True)
        self._thread.start()

    @property
    def pid(self) -> int:
        """The number of the process."""
        return self._process.pid

    def send(self, message: dict[str, Any]) -> None:
        """Send a command; nothing happens when the process is gone: its end is a message."""
        stdin = self._process.stdin
        if stdin is not None:
            with suppress(OSError, ValueError):
                stdin.write(json.dumps(message).encode() + b"\n")
                stdin.flush()

    def end(self, *, at_once: bool = False) -> None:
        """End the process; it may finish its read first, unless ``at_once``."""
        if self._process.stdin is not None:
            with suppress(OSError):
                self._process.stdin.close()
        if not (at_once or self._ended(_GRACE_S)):
            at_once = True
        if at_once:
            self._process.kill()
            # A process that hangs inside the kernel goes when the kernel lets it.
            self._ended(_REAP_S)
        if self._thread is not threading.current_thread():
            self._thread.join(_REAP_S)

    def _ended(self, within_s: float) -> bool:
        try:
            self._process.wait(within_s)
        except subprocess.TimeoutExpired:
            return False
        return True

    def _listen(self) -> None:
        stdout = self._process.stdout
        if stdout is None:
            return
        with stdout:
            for line in stdout:
                # A line cut short by a kill is followed by the end.
                with suppress(ValueError):
                    self._listener(self, json.loads(line) if line.strip() else {})
        self._listener(self, None)


def _start(ring: FrameRing) -> subprocess.Popen[bytes]:
    if not sys.executable or getattr(sys, "frozen", False):
        raise CameraError(
            "a camera is read by a Python process of its own, and this program has no Python "
            "interpreter to start; run it with one"
        )
    shared = (ring.token,) if isinstance(ring.token, int) else ()
    try:
        return subprocess.Popen(
            [sys.executable, "-c", _START, *sys.path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            pass_fds=shared,
            # Ctrl-C in a terminal is for the parent.
            start_new_session=True,
        )
    except OSError as exc:
        raise CameraError(f"the reader of the camera cannot be started: {exc}") from exc
