"""An IP camera that shows a clip to and fro, and can be unplugged."""

from __future__ import annotations

import http.server
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from edgeface.camera.base import load_opencv
from edgeface.camera.pattern import draw_pattern
from edgeface.types import Size

FPS = 12.0


class ClipCamera:
    """``shows_person`` is False for a picture without anybody; ``is_plugged`` for no picture."""

    def __init__(self, clip: Path) -> None:
        cv2 = load_opencv()
        self._cv2: Any = cv2
        video = cv2.VideoCapture(str(clip))
        self._frames = [pixels for ok, pixels in iter(video.read, (False, None)) if ok][:40]
        self.shows_person = True
        self.is_plugged = True
        self._rng = np.random.default_rng(3)

    def jpeg(self, number: int) -> bytes:
        """Return a picture; no two are the same, as of a real sensor."""
        last = len(self._frames) - 1
        pixels = self._frames[abs(last - number % (2 * last))]
        if not self.shows_person:
            height, width = pixels.shape[:2]
            pixels = draw_pattern(number, Size(width, height))
        noise = self._rng.integers(-3, 4, pixels.shape, np.int16)
        noisy = np.clip(pixels.astype(np.int16) + noise, 0, 255).astype(np.uint8)
        return bytes(self._cv2.imencode(".jpg", noisy)[1])


@contextmanager
def serving(camera: ClipCamera) -> Iterator[str]:
    """Serve the camera's pictures; give the address."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if not camera.is_plugged:
                self.send_error(503)
                return
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=f")
            self.end_headers()
            with suppress(OSError):
                while camera.is_plugged:
                    body = camera.jpeg(int(time.monotonic() * FPS))
                    head = f"--f\r\nContent-Type: image/jpeg\r\nContent-Length: {len(body)}\r\n\r\n"
                    self.wfile.write(head.encode() + body + b"\r\n")
                    time.sleep(1.0 / FPS)

        def log_message(self, *_: object) -> None: ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/live"
    finally:
        camera.is_plugged = False
        server.shutdown()
        thread.join()
        server.server_close()
