"""An IP camera that sends JPEG pictures over HTTP, whose picture can be made faulty.

``python mjpeg_server.py PORT WIDTH HEIGHT FPS``; FPS 0 is as fast as it goes, and then the same
few pictures. Prints ``ready`` when it listens. Commands on standard input, one a line: ``good``,
``black``, ``frozen``, ``grey``, ``block``, ``empty`` (pictures without content), ``damaged`` (cut
in half), ``rubbish`` (random bytes), ``kick`` (end every connection).
"""

from __future__ import annotations

import functools
import http.server
import sys
import threading
import time
from contextlib import suppress

import cv2  # noqa: TID253 (a program of its own)
import numpy as np

from edgeface.camera.pattern import draw_pattern
from edgeface.types import Size

_FEW = 32
FAULT = ["good"]
KICKS = [0]


def picture(number: int, size: Size) -> bytes:
    fault = FAULT[0]
    pixels = draw_pattern(0 if fault == "frozen" else number, size)
    if fault == "black":
        pixels = np.zeros_like(pixels)
    if fault == "grey":
        pixels = np.repeat(pixels.mean(axis=2, keepdims=True).astype(np.uint8), 3, axis=2)
    content: bytes = cv2.imencode(".jpg", pixels[..., ::-1])[1].tobytes()
    spoilt = {
        "empty": b"",
        "damaged": content[: len(content) // 2],
        "rubbish": np.random.default_rng(number).bytes(len(content)),
    }
    return spoilt.get(fault, content)


@functools.cache
def few_pictures(size: Size) -> list[bytes]:
    return [picture(number, size) for number in range(_FEW)]


class Handler(http.server.BaseHTTPRequestHandler):
    size, fps = Size(320, 240), 25.0

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=f")
        self.end_headers()
        kicks, number, started_s = KICKS[0], 0, time.monotonic()
        with suppress(OSError):
            while kicks == KICKS[0]:
                while FAULT[0] == "block":
                    time.sleep(0.02)
                if self.fps:
                    body = picture(int(time.monotonic() * 1e5), self.size)
                else:
                    body = few_pictures(self.size)[number % _FEW]
                head = f"--f\r\nContent-Type: image/jpeg\r\nContent-Length: {len(body)}\r\n\r\n"
                self.wfile.write(head.encode() + body + b"\r\n")
                number += 1
                if self.fps:
                    time.sleep(max(0.0, started_s + number / self.fps - time.monotonic()))

    def log_message(self, *_: object) -> None:
        pass


def main() -> None:
    port, width, height, fps = (float(text) for text in sys.argv[1:5])
    Handler.size, Handler.fps = Size(int(width), int(height)), fps
    server = http.server.ThreadingHTTPServer(("127.0.0.1", int(port)), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for line in sys.stdin:
        if line.strip() == "kick":
            KICKS[0] += 1
        else:
            FAULT[0] = line.strip()


if __name__ == "__main__":
    main()
