"""Reading one file over HTTPS into a part file that a later attempt can go on with."""

from __future__ import annotations

import contextlib
import secrets
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from http import HTTPStatus
from http.client import HTTPException, HTTPMessage, HTTPResponse
from pathlib import Path
from typing import IO, TypeAlias

from edgeface.assets.table import Asset
from edgeface.errors import AssetError, AssetIntegrityError, AssetMissingError

__all__ = ["Progress", "download", "https_opener"]

Progress: TypeAlias = Callable[[int, int], None]

_TIMEOUT_S = 10.0
"""For the connection and for each read; a device without a way out must learn so quickly."""
_READ_BYTES = 1 << 16


class _HttpsRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirections to https only."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        _require_https(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _require_https(url: str) -> None:
    if not url.startswith("https://"):
        raise AssetError(f"refused an address that is not https: {url}")


def https_opener() -> urllib.request.OpenerDirector:
    """Return an opener for https alone: no http, file or ftp; certificates and proxies as usual."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPSHandler(context=ssl.create_default_context()),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.UnknownHandler(),
        _HttpsRedirects(),
    ):
        opener.add_handler(handler)
    return opener


@contextlib.contextmanager
def download(
    asset: Asset,
    target: Path,
    *,
    opener: urllib.request.OpenerDirector,
    progress: Progress | None = None,
) -> Iterator[Path]:
    """Give the path of the complete file, read from the official address of ``asset``.

    What came before a failure stays as ``<target>.part`` for the next attempt. The part file is
    renamed while it is written to, so that of two processes one goes on with it and the other
    starts anew. A part that turns out to be wrong is deleted.

    Raises:
        AssetMissingError: The server could not be reached, refused, or stopped early.
        AssetIntegrityError: The server sent more than the pinned size.
    """
    part = target.with_name(target.name + ".part")
    claimed = target.with_name(f".{target.name}.{secrets.token_hex(8)}.part")
    with contextlib.suppress(FileNotFoundError):
        part.rename(claimed)
    try:
        _read_into(claimed, asset, opener, progress)
        yield claimed
    except AssetIntegrityError:
        claimed.unlink(missing_ok=True)
        raise
    finally:
        if claimed.exists():
            claimed.replace(part)


def _read_into(
    path: Path,
    asset: Asset,
    opener: urllib.request.OpenerDirector,
    progress: Progress | None,
) -> None:
    """Read the rest of the file to the end of ``path``, or all of it when there is nothing yet."""
    have = path.stat().st_size if path.exists() else 0
    if have >= asset.size_bytes:
        return
    try:
        with _open(asset, opener, start=have) as response, path.open("ab") as file:
            if have and not _continues(response, have):
                file.truncate(0)
                have = 0
            while chunk := response.read(_READ_BYTES):
                have += len(chunk)
                _require_fits(have, asset)
                file.write(chunk)
                if progress is not None:
                    progress(have, asset.size_bytes)
    except urllib.error.HTTPError as error:
        error.close()
        raise _refusal(error) from error
    except (OSError, HTTPException) as error:
        raise AssetMissingError(f"{asset.official_url}: {_reason(error)}") from error
    if have < asset.size_bytes:
        raise AssetMissingError(f"the server stopped after {have} of {asset.size_bytes} bytes")


def _open(
    asset: Asset, opener: urllib.request.OpenerDirector, *, start: int
) -> contextlib.closing[HTTPResponse]:
    url = asset.official_url or ""
    _require_https(url)
    headers = {"Range": f"bytes={start}-"} if start else {}
    request = urllib.request.Request(url, headers=headers)
    return contextlib.closing(opener.open(request, timeout=_TIMEOUT_S))


def _continues(response: HTTPResponse, start: int) -> bool:
    """Return whether the server goes on at byte ``start`` and does not send all of it again."""
    answer = response.headers.get("Content-Range", "")
    return response.status == HTTPStatus.PARTIAL_CONTENT and answer.startswith(f"bytes {start}-")


def _require_fits(size_bytes: int, asset: Asset) -> None:
    if size_bytes > asset.size_bytes:
        raise AssetIntegrityError(f"the server sent more than {asset.size_bytes} bytes")


def _refusal(error: urllib.error.HTTPError) -> AssetError:
    """Return what to raise for an answer that is no success; 416 means the part is of no use."""
    kind = AssetIntegrityError if error.code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE else None
    return (kind or AssetMissingError)(f"the server answered {error.code} {error.reason}")


def _reason(error: Exception) -> str:
    return str(getattr(error, "reason", "") or str(error) or type(error).__name__)
