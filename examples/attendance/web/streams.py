"""Answers that do not end: server-sent events, and the live picture as Motion JPEG."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

from fastapi import HTTPException, Request
from fastapi.responses import StreamingResponse

from examples.attendance.interface import ChangeKind, LiveEvent
from examples.attendance.web.hub import HubFullError
from examples.attendance.web.views import Site, site_of

__all__ = ["event_stream", "picture_stream"]

_BEAT_S = 15.0
_BOUNDARY = "frame"
_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


def event_stream(request: Request, *, is_public: bool) -> StreamingResponse:
    """Return what happens as server-sent events; in public only that something did."""
    return StreamingResponse(
        _events(request, is_public=is_public), media_type="text/event-stream", headers=_HEADERS
    )


def picture_stream(request: Request, camera: str, *, is_public: bool) -> StreamingResponse:
    """Return the pictures of a camera one after the other; "" is the first camera.

    Raises:
        HTTPException: 404, there is no such camera.
    """
    names = [status.name for status in site_of(request).office.cameras()]
    if not names or (camera and camera not in names):
        raise HTTPException(404, "there is no such camera")
    return StreamingResponse(
        _pictures(request, camera or names[0], is_public=is_public),
        media_type=f"multipart/x-mixed-replace; boundary={_BOUNDARY}",
        headers=_HEADERS,
    )


async def _events(request: Request, *, is_public: bool) -> AsyncIterator[bytes]:
    site = site_of(request)
    # The browser asks again after this many milliseconds when the server was restarted.
    yield b"retry: 3000\n\n"
    try:
        async for event in site.hub.events(beat_s=_BEAT_S, is_public=is_public):
            if not _may_go_on(request, site, is_public=is_public):
                return
            yield b": beat\n\n" if event is None else _message(event, is_public=is_public)
    except HubFullError:
        return


async def _pictures(request: Request, camera: str, *, is_public: bool) -> AsyncIterator[bytes]:
    site = site_of(request)
    # The boundary is sent after each picture: browsers show one when they have seen its end.
    yield f"--{_BOUNDARY}\r\n".encode()
    try:
        async for frame in site.hub.frames(camera, is_public=is_public):
            if not _may_go_on(request, site, is_public=is_public):
                return
            if frame is not None:
                head = f"Content-Type: image/jpeg\r\nContent-Length: {len(frame.jpeg)}\r\n\r\n"
                yield head.encode() + frame.jpeg + f"\r\n--{_BOUNDARY}\r\n".encode()
    except HubFullError:
        return


def _may_go_on(request: Request, site: Site, *, is_public: bool) -> bool:
    """Return whether the login still lasts, or the display still may show pictures."""
    if is_public:
        return request.url.path != "/display/picture" or site.office.settings().overlay_public
    return site.sessions.find(request.state.session_id, is_use=False) is not None


def _message(event: LiveEvent, *, is_public: bool) -> bytes:
    if is_public:
        if event.kind in (ChangeKind.CAMERA, ChangeKind.UNKNOWN):
            return b": beat\n\n"
        return b"event: change\ndata: {}\n\n"
    data = json.dumps({"id": event.id, "kind": event.kind.value})
    return f"event: change\ndata: {data}\n\n".encode()
