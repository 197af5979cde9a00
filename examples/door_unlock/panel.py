"""The panel of a door in a browser: for this machine alone, with nothing from anywhere else.

It shows the state of the door, and has the button and a pad for codes. Until the door opens it says
in one neutral line what to do, and nothing of what the camera sees: whoever stands there could
otherwise try faces until one comes near, without ever pressing the button. A code is answered alike
whether no face was seen, a wrong one, or the code was wrong, and never sooner than after a while:
how long it takes would tell them apart.
"""

from __future__ import annotations

import asyncio
import ipaddress
import math
import socket
import threading
import time
from pathlib import Path
from typing import Any

from edgeface.access import FactorAnswer
from edgeface.errors import InvalidInputError, MissingDependencyError
from examples.door_unlock.app import Door, Snapshot

__all__ = ["PanelServer", "make_panel"]

_PAGE = Path(__file__).parent / "page"
# Every request that changes something must carry it: other pages' forms cannot, and their scripts
# would have to ask first (CORS), which is refused.
_HEADER = "x-edgeface-panel"
_HEADERS = {
    "content-security-policy": "default-src 'self'; frame-ancestors 'none'; form-action 'none'; "
    "base-uri 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}
_MAX_BODY = 256
# Longer than a PIN takes to be stretched on a small board; each answer takes a multiple of it.
ANSWER_S = 1.5


def make_panel(door: Door, *, answer_s: float = ANSWER_S) -> Any:
    """Return the web application of ``door``; a code is answered after a multiple of ``answer_s``.

    Raises:
        MissingDependencyError: FastAPI is not installed.
    """
    try:
        from fastapi import FastAPI, Request
        from fastapi.responses import JSONResponse, Response
        from fastapi.staticfiles import StaticFiles
    except ImportError as exc:
        raise MissingDependencyError("fastapi", extra="web") from exc

    # No pages of documentation: they would load scripts from elsewhere.
    panel = FastAPI(title="door", docs_url=None, redoc_url=None, openapi_url=None)

    async def guard(request: Request, go_on: Any) -> Response:
        problem = _problem(request)
        if problem:
            response: Response = JSONResponse({"error": problem}, status_code=403)
        else:
            response = await go_on(request)
        response.headers.update(_HEADERS)
        return response

    async def state() -> JSONResponse:
        return JSONResponse(_state(door))

    async def press() -> JSONResponse:
        door.press()
        return JSONResponse({"pressed": True})

    async def factor(request: Request) -> JSONResponse:
        began_s = time.monotonic()
        code = await _code(request)
        # In a thread: a PIN is stretched for a tenth of a second.
        answer = await _in_thread(door.present, code)
        took_s = time.monotonic() - began_s
        await asyncio.sleep(answer_s * math.ceil(took_s / answer_s) - took_s)
        return JSONResponse({"accepted": answer.accepted, "advice": _said(door, answer)})

    panel.middleware("http")(guard)
    panel.get("/api/state")(state)
    panel.post("/api/press")(press)
    # FastAPI finds the request by its type, which a string would hide from it.
    factor.__annotations__["request"] = Request
    panel.post("/api/factor")(factor)
    panel.mount("/", StaticFiles(directory=_PAGE, html=True))
    return panel


async def _in_thread(function: Any, *arguments: Any) -> Any:
    from fastapi.concurrency import run_in_threadpool

    return await run_in_threadpool(function, *arguments)


async def _code(request: Any) -> str:
    """Return the code in the body, at most 12 characters; an empty one where there is none."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MAX_BODY:
            return ""
    text = body.decode("ascii", "replace").strip()
    return text if len(text) <= 12 and text.isdecimal() else ""


def _problem(request: Any) -> str:
    """Return why a request is refused: from elsewhere, or made by another page."""
    host = request.headers.get("host", "")
    # A name that an attacker's DNS points here would make their page this one's origin.
    if not _is_loopback(host.rsplit(":", 1)[0] if not host.endswith("]") else host):
        return "only for this machine"
    if request.method not in ("GET", "HEAD") and request.headers.get(_HEADER) != "1":
        return "not from the panel"
    return ""


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def _said(door: Door, answer: FactorAnswer) -> str:
    """Return what to say to a code: the same words whatever the camera sees."""
    if answer.accepted:
        return "code accepted"
    # Not the answer's own reason: a wait of one person alone would tell that they are seen.
    if door.snapshot().status.wait_s > 0.0:
        return "please wait"
    return "not accepted: look into the camera, and type it again"


def _state(door: Door) -> dict[str, Any]:
    now = door.snapshot()
    return {
        "door": now.status.door,
        "lock": now.lock,
        "open": now.is_open and not now.problem,
        "advice": _advice(now),
        "in_order": _in_order(now),
        "demonstration": now.status.is_demonstration,
        "why": [{"what": what, "got": got} for what, got in now.conditions],
        "entries": [
            {"time": entry.time, "what": entry.what, "alarm": entry.is_alarm}
            for entry in now.entries
        ],
    }


def _in_order(now: Snapshot) -> bool:
    return now.is_running and not now.status.fault and not now.problem


def _advice(now: Snapshot) -> str:
    """Return the one line for the person at the door; nothing in it comes from a face."""
    status = now.status
    if not _in_order(now):
        return "use the key"
    if now.is_open:
        return "please come in"
    if status.wait_s > 0.0:
        return f"please wait {math.ceil(status.wait_s)} s"
    if not status.is_camera_usable and not status.is_demonstration:
        return "the camera sees nothing"
    if status.is_face_off:
        return "look into the camera and type your code first"
    return "look into the camera, press the button, type your code"


class PanelServer:
    """Serves the panel in a thread of its own, to this machine alone."""

    def __init__(
        self,
        door: Door,
        host: str = "127.0.0.1",
        port: int = 8080,
        *,
        answer_s: float = ANSWER_S,
    ) -> None:
        """Start; port 0 takes a free one. ``answer_s`` is as for :func:`make_panel`.

        Raises:
            InvalidInputError: ``host`` is not this machine, or the port is taken.
            MissingDependencyError: FastAPI or uvicorn is not installed.
        """
        if not _is_loopback(host):
            raise InvalidInputError(
                f"the panel has no passwords and is for this machine alone, got {host}; give a "
                "loopback address, and put a screen at the door"
            )
        try:
            import uvicorn
        except ImportError as exc:
            raise MissingDependencyError("uvicorn", extra="web") from exc
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            listener = socket.create_server((host, port), family=family)
        except OSError as exc:
            raise InvalidInputError(
                f"the panel cannot listen on {host}:{port} ({exc.strerror}); choose another "
                "--panel-port"
            ) from exc
        self.address = f"http://{host}:{listener.getsockname()[1]}/"
        config = uvicorn.Config(
            make_panel(door, answer_s=answer_s), log_level="warning", access_log=False
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run, args=([listener],), name="panel", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stop; may be called twice."""
        self._server.should_exit = True
        self._thread.join(5.0)
