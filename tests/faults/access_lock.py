"""The lock's side of a door whose controller runs in a process of its own."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from edgeface.access import AccessKeys, LeaseVerifier
from edgeface.errors import LeaseError

__all__ = ["LIMIT_S", "SECRET", "LockSide"]

SECRET = hashlib.sha256(b"a secret of tests").digest()
LIMIT_S = 60.0


class LockSide:
    """Starts and kills the controller's process, and notes when it opened the door."""

    def __init__(
        self, folder: Path, *, camera: dict[str, Any] | None = None, stranger: bool = False
    ) -> None:
        self.folder, self.camera, self.stranger = folder, camera, stranger
        folder.mkdir(mode=0o700, exist_ok=True)
        self.verifier = LeaseVerifier("front", AccessKeys.of_secret(SECRET).lease)
        self.opened: list[float] = []
        self.refused: list[str] = []
        self.reason = ""
        self.failures = 0
        self.is_ready = False
        self.process: subprocess.Popen[str] | None = None
        self._thread: threading.Thread | None = None

    def start(self, *, create: bool = False) -> None:
        """Start the controller; returns before it is ready."""
        given = {
            "folder": str(self.folder),
            "secret": SECRET.hex(),
            "camera": self.camera,
            "stranger": self.stranger,
            "create": create,
        }
        self.is_ready = False
        self.reason = "starting"
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.access_door", json.dumps(given)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
            env={
                **os.environ,
                "OPENBLAS_NUM_THREADS": "1",
                "PYTHONPATH": os.pathsep.join(sys.path),
            },
        )
        self._thread = threading.Thread(target=self._listen, args=(self.process,), daemon=True)
        self._thread.start()

    def send(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        """Kill the controller, whatever it does."""
        process, self.process = self.process, None
        if process is None:
            return
        process.kill()
        process.wait(10)
        if self._thread is not None:
            self._thread.join(10)
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()

    def opens_again(self, since_s: float) -> float:
        """Wait until the door opened after ``since_s``; return how long that took, in seconds."""
        while not self.opened or self.opened[-1] < since_s:
            assert time.monotonic() - since_s < LIMIT_S, f"it never opened: {self.reason}"
            time.sleep(0.005)
        return next(at_s for at_s in self.opened if at_s >= since_s) - since_s

    def becomes_ready(self) -> None:
        started_s = time.monotonic()
        while not self.is_ready:
            assert time.monotonic() - started_s < LIMIT_S, "it never started"
            time.sleep(0.005)

    def last_opened(self, since_s: float) -> float:
        """Return when, after ``since_s``, the door opened last; 0 if it did not."""
        return max((at_s - since_s for at_s in self.opened if at_s >= since_s), default=0.0)

    def _listen(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        assert process.stdin is not None
        for line in process.stdout:
            mark, _, rest = line.rstrip("\n").partition(" ")
            if mark == "?":
                try:
                    process.stdin.write(self.verifier.challenge() + "\n")
                    process.stdin.flush()
                except OSError:
                    return
            elif mark == "!":
                self._put_to_lock(rest)
            elif mark == "-":
                self.reason = rest
            elif mark == "=":
                self.failures = int(rest)
            elif mark == "ready":
                self.is_ready = True

    def _put_to_lock(self, token: str) -> None:
        try:
            self.verifier.verify(token)
        except LeaseError as error:
            self.refused.append(str(error))
        else:
            self.opened.append(time.monotonic())
