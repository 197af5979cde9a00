"""Cameras in processes of their own, on the loopback address, that are killed and faulty."""

from __future__ import annotations

import functools
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from types import TracebackType

import pytest

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent.parent

_HAS_RTSP = (
    "import gi; gi.require_version('Gst', '1.0'); gi.require_version('GstRtspServer', '1.0'); "
    "from gi.repository import Gst, GstRtspServer; Gst.init(None); "
    "assert all(Gst.ElementFactory.find(x) for x in ('x264enc', 'rtph264pay', 'videotestsrc'))"
)


@functools.cache
def python_with_rtsp_server() -> str | None:
    """Return a Python that can run ``rtsp_server.py``; most often the system's."""
    candidates = dict.fromkeys(["/usr/bin/python3", shutil.which("python3"), sys.executable])
    for python in candidates:
        if python and Path(python).exists():
            done = subprocess.run([python, "-c", _HAS_RTSP], check=False, capture_output=True)
            if done.returncode == 0:
                return python
    return None


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class ServerCamera:
    """A server process that is a camera."""

    def __init__(self, command: list[str], address: str) -> None:
        self.address = address
        self._command = command
        self._process: subprocess.Popen[str] | None = None
        self.arguments: list[str] = []

    def start(self, *arguments: str) -> None:
        """Start it, or start it again after ``kill``, and wait until it listens."""
        self.arguments = list(arguments or self.arguments)
        self._process = subprocess.Popen(
            [*self._command, *self.arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=REPOSITORY,
            env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n", "the camera server did not start"

    def tell(self, word: str) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(f"{word}\n")
        self._process.stdin.flush()

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """End it as a power cut does."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait(10)
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()

    def __enter__(self) -> ServerCamera:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()


def rtsp_camera(width: int = 320, height: int = 240, account: str = "") -> ServerCamera:
    """Return a running RTSP camera; ``account`` is "user:password". Skips where there is none."""
    python = python_with_rtsp_server()
    if python is None:
        pytest.skip("no gst-rtsp-server: apt install gir1.2-gst-rtsp-server-1.0 python3-gi and "
                    "gstreamer1.0-plugins-{base,good,bad,ugly}")  # fmt: skip
    port = free_port()
    at = f"{account}@" if account else ""
    camera = ServerCamera(
        [python, str(HERE / "rtsp_server.py"), str(port)], f"rtsp://{at}127.0.0.1:{port}/live"
    )
    camera.start(str(width), str(height), *(account.split(":") if account else []))
    return camera


def mjpeg_camera(width: int = 320, height: int = 240, fps: float = 25.0) -> ServerCamera:
    """Return a running HTTP camera."""
    port = free_port()
    camera = ServerCamera(
        [sys.executable, str(HERE / "mjpeg_server.py"), str(port)], f"http://127.0.0.1:{port}/live"
    )
    camera.start(str(width), str(height), str(fps))
    return camera
