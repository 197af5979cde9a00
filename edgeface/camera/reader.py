"""The process that reads one camera: a read that blocks, or a codec that crashes, ends here.

Started by ``edgeface.camera.reader_process``. Lines of JSON come in on standard input and go out
on standard output: in, one ``configuration`` and then one ``open`` for each time the camera is to
be opened; out, ``ready``, ``opened``, ``conditions``, ``error``, and an empty line for each frame,
which lies in the ring by then. The process ends with its parent, however that ended.
"""

from __future__ import annotations

import ctypes
import json
import os
import queue
import re
import signal
import sys
import threading
import time
from contextlib import suppress
from typing import Any
from urllib.parse import unquote, urlsplit

from edgeface.camera.base import load_opencv
from edgeface.camera.captures import CaptureSpec, Shot, open_capture
from edgeface.camera.health import FrameCondition
from edgeface.camera.images import to_rgb
from edgeface.camera.monitor import FrameCheck, FrameMonitor, MonitorOptions
from edgeface.camera.ring import FrameRing
from edgeface.errors import CameraError, EdgefaceError
from edgeface.types import ImageArray, Size

__all__ = ["main", "redact"]

_HEARTBEAT_S = 0.25
# Frames that stay too old are a queue that does not drain: opening anew throws it away.
_TOO_OLD_LIMIT_S = 5.0
_PR_SET_PDEATHSIG = 1
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s\"']+")
# Properties of GStreamer elements, as in user-pw=…
_SECRET_PROPERTY = re.compile(r"(?:pw|pass\w*|user[\w-]*|token|key)=[\"']?([^\s\"']{2,})")


def main() -> None:
    """Read until standard input ends or the parent is gone."""
    reply = _own_output()
    commands: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
    configuration = json.loads(sys.stdin.buffer.readline())
    _end_with(configuration["parent"])
    ring = FrameRing(configuration["ring"], configuration["max_pixels"])
    threading.Thread(target=_listen, args=(commands,), daemon=True).start()
    threading.Thread(target=_beat, args=(ring, configuration["parent"]), daemon=True).start()
    reader = _Reader(configuration, ring, commands, reply)
    reply({"type": "ready"})
    while (command := commands.get()) is not None:
        reader.read_once_opened(command)
    # Not sys.exit: a thread of a codec that hangs would be waited for.
    os._exit(0)


class _Reader:
    def __init__(
        self,
        configuration: dict[str, Any],
        ring: FrameRing,
        commands: queue.SimpleQueue[dict[str, Any] | None],
        reply: Any,
    ) -> None:
        self._spec = CaptureSpec(configuration["opener"], configuration["arguments"])
        self._options = MonitorOptions(**configuration["monitor"])
        self._ring = ring
        self._commands = commands
        self._reply = reply
        self._too_old_since_s: float | None = None

    def read_once_opened(self, command: dict[str, Any]) -> None:
        """Open, read until that fails, and say why."""
        size = command.get("size")
        monitor = FrameMonitor(self._options, size=Size(*size) if size else None)
        self._too_old_since_s = None
        try:
            capture = open_capture(self._spec)
        except EdgefaceError as exc:
            self._fail(str(exc))
            return
        except Exception as exc:  # noqa: BLE001 (a library's own error ends the attempt, not us)
            self._fail(f"cannot be opened: {type(exc).__name__}: {exc}")
            return
        try:
            shot = capture.read()
            self._reply({"type": "opened", "fps": capture.fps})
            self._take(shot, monitor)
            # The next command, or the end of them, ends the reading.
            while self._commands.empty():
                self._take(capture.read(), monitor)
        except EdgefaceError as exc:
            self._fail(str(exc))
        except Exception as exc:  # noqa: BLE001 (as above)
            self._fail(f"cannot be read: {type(exc).__name__}: {exc}")
        finally:
            with suppress(Exception):
                capture.release()

    def _take(self, shot: Shot, monitor: FrameMonitor) -> None:
        arrived_s = time.monotonic()
        pixels = self._place(shot)
        check = monitor.update(pixels, arrived_s, shot.position_s)
        if pixels is None:
            self._ring.skip()
        elif check.is_kept:
            self._ring.publish(check.captured_s)
        else:
            self._ring.refuse()
        self._tell(check)
        if pixels is not None:
            self._reply(None if check.is_kept else {"type": "refused"})
        self._check_age(monitor, arrived_s)

    def _place(self, shot: Shot) -> ImageArray | None:
        """Return the picture as RGB in the ring, not published yet; None without pixels."""
        if shot.pixels is None or not shot.pixels.size:
            return None
        shape = shot.pixels.shape
        place = self._ring.begin(int(shape[1]) if len(shape) > 1 else 0, int(shape[0]))
        if shot.is_rgb:
            place[...] = shot.pixels
        elif shape[2:] == (3,) and shot.pixels.dtype == place.dtype:
            cv2 = load_opencv()
            cv2.cvtColor(shot.pixels, cv2.COLOR_BGR2RGB, dst=place)
        else:
            place[...] = to_rgb(shot.pixels)
        return place

    def _tell(self, check: FrameCheck) -> None:
        if check.changes:
            changes = [(one.condition.value, one.began, one.detail) for one in check.changes]
            self._reply({"type": "conditions", "changes": changes})

    def _check_age(self, monitor: FrameMonitor, now_s: float) -> None:
        if FrameCondition.TOO_OLD not in monitor.conditions:
            self._too_old_since_s = None
        elif self._too_old_since_s is None:
            self._too_old_since_s = now_s
        elif now_s - self._too_old_since_s > _TOO_OLD_LIMIT_S:
            raise CameraError("frames arrive too late and do not catch up")

    def _fail(self, message: str) -> None:
        self._reply({"type": "error", "message": redact(message, self._spec.arguments)})


def redact(text: str, arguments: dict[str, Any]) -> str:
    """Return ``text`` without what is secret in ``arguments``: addresses and their credentials."""
    secrets: set[str] = set()
    for value in arguments.values():
        if isinstance(value, str):
            secrets.update(match.group(1) for match in _SECRET_PROPERTY.finditer(value))
            for match in _ADDRESS.finditer(value):
                found = _credentials(match.group())
                secrets.update([match.group(), *found] if found else [])
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, "…")
    return text


def _credentials(address: str) -> list[str]:
    try:
        parts = urlsplit(address)
        found = [parts.username, parts.password, parts.query]
    except ValueError:
        return []
    # Replacing one letter would hide nothing and spoil the message.
    named = [text for text in found if text and len(text) > 1]
    return named + [unquote(text) for text in named]


def _own_output() -> Any:
    """Return what writes a line to the parent; other output of this process goes nowhere.

    Codecs print what they like, addresses with passwords among it.
    """
    channel = os.fdopen(os.dup(1), "wb", buffering=0)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    os.close(nowhere)

    def reply(message: dict[str, Any] | None) -> None:
        try:
            channel.write(b"\n" if message is None else json.dumps(message).encode() + b"\n")
        except OSError:
            os._exit(0)  # the parent is gone

    return reply


def _listen(commands: queue.SimpleQueue[dict[str, Any] | None]) -> None:
    for line in sys.stdin.buffer:
        commands.put(json.loads(line))
    commands.put(None)
    # A read that blocks sees no end of commands.
    time.sleep(2 * _HEARTBEAT_S)
    os._exit(0)


def _beat(ring: FrameRing, parent: int) -> None:
    while os.name == "nt" or os.getppid() == parent:
        ring.beat(time.monotonic())
        time.sleep(_HEARTBEAT_S)
    os._exit(0)


def _end_with(parent: int) -> None:
    """Be killed with the parent, leave Ctrl-C to it, and never dump faces to a core file."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if os.name == "nt":
        return
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)
