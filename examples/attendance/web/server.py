"""Serves the pages from a thread, so that the watcher keeps the main one."""

from __future__ import annotations

import logging
import socket
import threading
import time

from fastapi import FastAPI

from edgeface.errors import EdgefaceError, MissingDependencyError
from examples.attendance.web.hub import LiveHub
from examples.attendance.web.settings import WebSettings

__all__ = ["WebServer"]

_START_S = 20.0
_STOP_S = 10
_LOG = logging.getLogger("edgeface.attendance.web")


class WebServer:
    """The pages at an address. ``start`` returns when they answer, ``stop`` when they are gone."""

    def __init__(self, app: FastAPI, settings: WebSettings) -> None:
        try:
            import uvicorn
        except ImportError as exc:
            raise MissingDependencyError("uvicorn", extra="web") from exc
        self._hub: LiveHub = app.state.site.hub
        self._settings = settings
        self._socket = _listen(settings)
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=settings.is_behind_tls_proxy,
            forwarded_allow_ips="127.0.0.1,::1",
            timeout_graceful_shutdown=_STOP_S,
            timeout_keep_alive=15,
            limit_concurrency=300,
            h11_max_incomplete_event_size=32 << 10,
            ssl_certfile=settings.certificate,
            ssl_keyfile=settings.private_key,
            lifespan="on",
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._run, name="web", daemon=True)

    @property
    def address(self) -> str:
        """The address of the first page."""
        host, port = self._socket.getsockname()[:2]
        scheme = "https" if self._settings.certificate else "http"
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"

    def start(self) -> None:
        """Begin to serve.

        Raises:
            EdgefaceError: The server did not start.
        """
        self._thread.start()
        end_s = time.monotonic() + _START_S
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > end_s:
                raise EdgefaceError(f"the pages at {self.address} did not start; see the log")
            time.sleep(0.02)

    def stop(self) -> None:
        """End all streams, finish what is being answered, and close; may be called twice."""
        self._hub.stop()
        self._server.should_exit = True
        if self._thread.ident is not None:
            self._thread.join(timeout=_STOP_S + 5.0)
        self._socket.close()

    def _run(self) -> None:
        self._server.run(sockets=[self._socket])


def _listen(settings: WebSettings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((settings.host.strip("[]"), settings.port))
    except OSError as exc:
        listener.close()
        raise EdgefaceError(
            f"the pages cannot be served at {settings.host} port {settings.port}: {exc}; choose "
            "another port, or end the program that has this one"
        ) from exc
    return listener
