"""The report page in a real browser: it is drawn, fits a phone, and asks for nothing."""

from __future__ import annotations

import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeface.types import ImageArray

pytest.importorskip("onnx")

from edgeface_export.html_report import render_report
from edgeface_export.html_report.page import CONTENT_POLICY
from tests.html_report_sample import HOSTILE, data_free, full_report, manifest, soiled

cv2 = pytest.importorskip("cv2")

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(BROWSER is None, reason="no chromium: apt-get install chromium"),
]
HEIGHT_PX = 1600
# Of desktops, and of the phones that are sold most.
WIDTHS_PX = [1200, 390]
DARK = "--blink-settings=preferredColorScheme=0"
TIMEOUT_S = 120
OUTSIDE = '<img src="/outside.png"><script src="/outside.js"></script>'

# A window has a least width, a frame in it has none. The script is the frame's, not the page's.
FRAME = """<!DOCTYPE html><html><body style="margin:0">
<iframe src="/page.html" style="border:0;width:{width}px;height:{height}px" onload="
document.documentElement.dataset.width = this.contentDocument.documentElement.scrollWidth"></iframe>
</body></html>"""


@contextmanager
def served(files: dict[str, str]) -> Iterator[tuple[str, list[str]]]:
    """Yield the address that ``files`` are served at, and the list of paths asked for so far."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            content = files.get(self.path)
            self.send_response(404 if content is None else 200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.end_headers()
            self.wfile.write((content or "").encode())

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def browse(folder: Path, url: str, *options: str) -> str:
    """Return what a new Chromium writes to its output when it opens ``url``."""
    command = [
        *(BROWSER or "", "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"),
        *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
        *("--hide-scrollbars", f"--user-data-dir={folder / 'profile'}", *options, url),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=True)
    return done.stdout


def screenshot(folder: Path, page: str, width_px: int, *options: str) -> ImageArray:
    """Return the (height, width, 3) uint8 picture of ``page`` in a viewport of ``width_px``."""
    frame = FRAME.format(width=width_px, height=HEIGHT_PX)
    picture = folder / "picture.png"
    with served({"/page.html": page, "/frame.html": frame}) as (address, _):
        window = f"--window-size={max(width_px, 600)},{HEIGHT_PX}"
        browse(folder, f"{address}/frame.html", window, f"--screenshot={picture}", *options)
    pixels: ImageArray = cv2.imread(str(picture))[:, :width_px]
    return pixels


def scroll_width_px(folder: Path, page: str, width_px: int) -> int:
    """Return how wide ``page`` is laid out in a viewport of ``width_px``."""
    frame = FRAME.format(width=width_px, height=HEIGHT_PX)
    with served({"/page.html": page, "/frame.html": frame}) as (address, _):
        dom = browse(folder, f"{address}/frame.html", "--dump-dom")
    found = re.search(r'data-width="(\d+)"', dom)
    assert found is not None
    return int(found.group(1))


def requests(folder: Path, page: str) -> set[str]:
    """Return the paths that the browser asks for when it opens ``page``, without the page's own."""
    with served({"/page.html": page}) as (address, asked):
        browse(folder, f"{address}/page.html", "--dump-dom")
    assert "/page.html" in asked
    return set(asked) - {"/page.html"}


@pytest.mark.parametrize("width_px", WIDTHS_PX)
def test_the_page_is_drawn_and_not_blank(tmp_path: Path, width_px: int) -> None:
    pixels = screenshot(tmp_path, render_report(full_report(), manifest()), width_px)
    assert pixels.shape == (HEIGHT_PX, width_px, 3)
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 50
    # Each quarter of the height has text or a chart in it, not the ground alone.
    for quarter in np.split(pixels, 4):
        assert quarter.std() > 5


def test_a_data_free_verdict_looks_different_from_a_full_one(tmp_path: Path) -> None:
    passed, free = (
        screenshot(tmp_path, render_report({}, of), 1200)[60, 600]
        for of in (manifest(), data_free())
    )
    # Green outweighs blue and red, or red outweighs green, BGR in this order.
    assert passed[1] > passed[2]
    assert free[2] > free[1]


def test_the_page_is_dark_where_the_reader_likes_it_dark(tmp_path: Path) -> None:
    page = render_report(full_report(), manifest())
    light, dark = (screenshot(tmp_path, page, 1200, *extra).mean() for extra in ((), (DARK,)))
    assert light > 200
    assert dark < 60


@pytest.mark.parametrize("text", ["", HOSTILE[3], HOSTILE[5]], ids=["real", "markup", "long"])
def test_the_page_never_scrolls_sideways_on_a_phone(tmp_path: Path, text: str) -> None:
    page = render_report(*(soiled(text) if text else (full_report(), manifest())))
    assert scroll_width_px(tmp_path, page, 390) == 390


@pytest.mark.parametrize("text", ["", HOSTILE[1]], ids=["real", "markup"])
def test_the_browser_asks_for_nothing_else(tmp_path: Path, text: str) -> None:
    page = render_report(*(soiled(text) if text else (full_report(), manifest())))
    assert requests(tmp_path, page) == set()


def test_the_policy_of_the_page_stops_what_would_be_loaded_without_it(tmp_path: Path) -> None:
    page = render_report({}, manifest()).replace("</body>", f"{OUTSIDE}</body>")
    assert requests(tmp_path / "with", page) == set()
    bare = page.replace(CONTENT_POLICY, "")
    assert {"/outside.png", "/outside.js"} <= requests(tmp_path / "without", bare)
