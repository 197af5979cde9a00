"""What a browser sends: forms with their CSRF token, and pictures as they are."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from urllib.parse import parse_qsl

from fastapi import HTTPException, Request

from examples.attendance.web.sessions import AnonymousTokens, Session

__all__ = ["Form", "csrf_token", "read_body", "read_form"]

_MOST_FIELDS = 60
_URL_ENCODED = "application/x-www-form-urlencoded"


class Form:
    """The fields of a form; control characters are taken out of every value."""

    def __init__(self, fields: Mapping[str, str]) -> None:
        self._fields = {key: _printable(value) for key, value in fields.items()}

    def text(self, name: str, *, most: int = 200) -> str:
        """Return a field without blanks around it; "" when it is absent."""
        return self.secret(name).strip()[:most]

    def secret(self, name: str) -> str:
        """Return a field as it was typed; "" when it is absent."""
        return self._fields.get(name, "")

    def is_checked(self, name: str) -> bool:
        """Return whether a check box is checked."""
        return name in self._fields


def csrf_token(request: Request) -> str:
    """Return the token that the forms of this page carry."""
    session: Session | None = request.state.session
    if session is not None:
        return session.csrf
    tokens: AnonymousTokens = request.app.state.tokens
    cookie: str = request.state.visitor
    return tokens.token(cookie)


async def read_form(request: Request) -> Form:
    """Return the form of a POST, after its CSRF token was found right.

    Raises:
        HTTPException: 415 for anything but a URL-encoded form, 400 for one with too many
            fields, 403 without the right token.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip() != _URL_ENCODED:
        raise HTTPException(415, f"a form is sent as {_URL_ENCODED}")
    body = await request.body()
    try:
        pairs = parse_qsl(
            body.decode("utf-8", errors="replace"),
            keep_blank_values=True,
            max_num_fields=_MOST_FIELDS,
        )
    except ValueError as exc:
        raise HTTPException(400, "the form has too many fields") from exc
    fields = dict(pairs)
    _require_token(request, fields.pop("csrf", ""))
    return Form(fields)


async def read_body(request: Request) -> bytes:
    """Return the body of a POST whose CSRF token is in the header ``X-CSRF-Token``.

    The token is looked at before the body is read.

    Raises:
        HTTPException: 403 without the right token.
    """
    _require_token(request, request.headers.get("x-csrf-token", ""))
    return await request.body()


def _require_token(request: Request, given: str) -> None:
    if not hmac.compare_digest(given.encode(errors="replace"), csrf_token(request).encode()):
        raise HTTPException(403, "the form is out of date; load the page again")


def _printable(value: str) -> str:
    return "".join(char for char in value if char.isprintable())
