"""A server of one file for tests, reached as https without a certificate."""

from __future__ import annotations

import http.client
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

__all__ = ["OverLocalHttp", "Server", "running_server"]


class Server(BaseHTTPRequestHandler):
    """Serves ``content``, with Range; may stop early, redirect, or ignore the Range."""

    content: ClassVar[bytes] = b""
    stop_after: ClassVar[int | None] = None
    heed_range: ClassVar[bool] = True
    redirect_to: ClassVar[str | None] = None
    ranges: ClassVar[list[str | None]] = []
    port: ClassVar[int] = 0

    def do_GET(self) -> None:
        cls = type(self)
        cls.ranges.append(self.headers.get("Range"))
        if cls.redirect_to:
            self.send_response(302)
            self.send_header("Location", cls.redirect_to)
            self.end_headers()
            return
        start = self._start()
        if start and start >= len(cls.content):
            self.send_error(416)
            return
        body = cls.content[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(cls.content) - 1}/*")
        self.end_headers()
        self.wfile.write(body[: cls.stop_after])

    def _start(self) -> int:
        asked = self.headers.get("Range") if type(self).heed_range else None
        return int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


class OverLocalHttp(urllib.request.HTTPHandler):
    """Sends https requests to a local server in the clear: what a test can have of https."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self._port = port

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        req.host = f"127.0.0.1:{self._port}"
        return self.do_open(http.client.HTTPConnection, req)


@contextmanager
def running_server(content: bytes) -> Iterator[type[Server]]:
    """Give the handler class of a running server; its class attributes may be set at any time."""
    handler: type[Server] = type("Handler", (Server,), {"ranges": [], "content": content})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        handler.port = running.server_address[1]
        yield handler
        running.shutdown()
        thread.join()
