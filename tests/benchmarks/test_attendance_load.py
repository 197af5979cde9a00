"""Whether browsers on the live page slow the recognition of the attendance example."""

from __future__ import annotations

import re
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")
pytest.importorskip("httpx")
pytest.importorskip("argon2")
pytest.importorskip("mediapipe")
pytest.importorskip("cv2")

import httpx

from tests.attendance.browser_office import Program, film, office
from tests.attendance.real_clip import real_clip

pytestmark = [
    pytest.mark.slow,
    pytest.mark.integration,
    pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="no ffmpeg: apt-get install ffmpeg"),
]
CLIENTS, ROUNDS, MEASURED_S, SETTLED_S = 20, 5, 8.0, 2.0
FPS = 400
MOST_SLOWED = 0.10
LOGIN, PASSWORD = "front desk", "correct horse battery"

# Reads all streams and throws them away, with as little work as a program can.
READER = """
import selectors, socket, sys
host, port, cookie, clients = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
selector, total = selectors.DefaultSelector(), 0
for _ in range(clients):
    for path in ("/live/picture", "/live/events"):
        one = socket.create_connection((host, port))
        lines = f"GET {path} HTTP/1.1", f"Host: {host}:{port}", f"Cookie: session={cookie}"
        one.sendall("\\r\\n".join((*lines, "", "")).encode())
        selector.register(one, selectors.EVENT_READ)
print("reading", flush=True)
while True:
    for key, _ in selector.select():
        received = key.fileobj.recv(1 << 20)
        if not received:
            sys.exit(1)
"""


@contextmanager
def clients(address: str, cookie: str) -> Iterator[subprocess.Popen[str]]:
    """Hold the live page open ``CLIENTS`` times."""
    host, port = address.removeprefix("http://").split(":")
    command = [sys.executable, "-c", READER, host, port, cookie, str(CLIENTS)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "reading\n"
        yield process
        assert process.poll() is None, "the server ended the streams"
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def sign_in(client: httpx.Client, program: Program) -> str:
    page = client.get("/set-up").text
    found = re.search(r'name="csrf" value="([^"]+)"', page)
    assert found is not None
    fields = {"name": LOGIN, "password": PASSWORD, "again": PASSWORD}
    client.post("/set-up", data={**fields, "token": program.token, "csrf": found.group(1)})
    return client.cookies["session"]


def figure(client: httpx.Client, name: str) -> float:
    found = re.search(rf"^attendance_{name} (\S+)$", client.get("/metrics").text, re.MULTILINE)
    assert found is not None
    return float(found.group(1))


def searched_per_second(client: httpx.Client) -> float:
    """Return how many frames a second are searched, of a source that gives more than can be."""
    time.sleep(SETTLED_S)
    before, begun_s = figure(client, "frames_searched_total"), time.monotonic()
    time.sleep(MEASURED_S)
    after, ended_s = figure(client, "frames_searched_total"), time.monotonic()
    return (after - before) / (ended_s - begun_s)


def test_twenty_browsers_slow_recognition_by_less_than_a_tenth(
    test_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Alternates with and without browsers; the readers run on the same machine, too."""
    source = real_clip(test_data)
    # More frames a second than one thread searches, for as long as the measuring takes.
    repeats = round((ROUNDS + 2) * 2 * (MEASURED_S + SETTLED_S) / 2.7)
    fast = film(source, tmp_path / "fast.mp4", "-vf", f"scale=640:-2,fps={FPS}")
    long = film(fast, tmp_path / "long.mp4", "-c", "copy", repeats=repeats)
    alone, watched = [], []
    with (
        office(tmp_path / "data", long) as program,
        httpx.Client(base_url=program.address, timeout=30.0) as client,
    ):
        cookie = sign_in(client, program)
        searched_per_second(client)
        for _ in range(ROUNDS):
            alone.append(searched_per_second(client))
            with clients(program.address, cookie):
                watched.append(searched_per_second(client))
        pictures = figure(client, "pictures_encoded_total")
    ratios = [with_them / without for with_them, without in zip(watched, alone, strict=True)]
    slowed = 1.0 - statistics.median(ratios)
    without, beside = ([round(one, 1) for one in found] for found in (alone, watched))
    with capsys.disabled():
        sys.stdout.write(f"\nframes searched a second, alone: {without}\n")
        sys.stdout.write(f"with {CLIENTS} browsers: {beside}: {slowed:.1%} fewer\n")
    assert pictures > 0
    assert slowed < MOST_SLOWED
