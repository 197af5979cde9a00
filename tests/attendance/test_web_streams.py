"""What does not end: events and the live picture, over a real socket."""

from __future__ import annotations

import ipaddress
import json
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")
pytest.importorskip("httpx")
pytest.importorskip("argon2")
pytest.importorskip("jinja2")

import httpx

from edgeface.errors import EdgefaceError
from examples.attendance.interface import ChangeKind
from examples.attendance.web import hub
from examples.attendance.web.server import WebServer
from examples.attendance.web.settings import WebSettings
from tests.attendance.web_site import LOGIN, PASSWORD, Served, csrf_of, served

LONGEST_S = 20.0


@dataclass(frozen=True)
class Running:
    """The pages at a real address."""

    site: Served
    server: WebServer
    client: httpx.Client

    def sign_in(self) -> str:
        identity = self.site.site.sessions.begin(LOGIN)
        self.client.cookies.set("session", identity)
        return identity

    def wait_for_listener(self) -> None:
        end_s = time.monotonic() + LONGEST_S
        while not self.site.office.subscriptions and time.monotonic() < end_s:
            time.sleep(0.01)

    def wait_for_stream(self, *, is_public: bool | None = None) -> None:
        """Return once somebody is listened to; the first line of a stream comes before that."""
        streams, end_s = self.site.site.hub._streams, time.monotonic() + LONGEST_S
        wanted = (True, False) if is_public is None else (is_public,)
        while not any(streams[one] for one in wanted) and time.monotonic() < end_s:
            time.sleep(0.01)


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    with start(tmp_path) as found:
        yield found


@contextmanager
def start(folder: Path) -> Iterator[Running]:
    with served(folder) as site:
        server = WebServer(site.app, WebSettings(port=0))
        server.start()
        with httpx.Client(base_url=server.address, timeout=LONGEST_S) as client:
            yield Running(site, server, client)
        server.stop()


def next_event(lines: Iterator[str]) -> tuple[str, object]:
    """The next event that is not a beat."""
    kind = ""
    for line in lines:
        if line.startswith("event: "):
            kind = line.removeprefix("event: ")
        elif line.startswith("data: "):
            return kind, json.loads(line.removeprefix("data: "))
    raise AssertionError("the stream ended")


def read_until_end(running: Running, address: str, begun: threading.Event) -> None:
    with running.client.stream("GET", address) as answer:
        for _ in answer.iter_raw():
            begun.set()


def listen(running: Running, address: str) -> threading.Thread:
    """A thread that reads a stream to its end; it has begun to."""
    begun = threading.Event()
    reader = threading.Thread(target=read_until_end, args=(running, address, begun), daemon=True)
    reader.start()
    assert begun.wait(LONGEST_S)
    return reader


def test_those_who_signed_in_hear_what_happens(running: Running) -> None:
    running.sign_in()
    running.wait_for_listener()
    with running.client.stream("GET", "/live/events") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = answer.iter_lines()
        assert next(lines).startswith("retry:")
        running.wait_for_stream()
        running.site.office.tell(ChangeKind.ARRIVED, "p0001")
        kind, data = next_event(lines)
        assert (kind, sorted(dict(data))) == ("change", ["id", "kind"])  # type: ignore[call-overload]


def test_the_display_hears_that_something_happened_and_not_what(running: Running) -> None:
    running.wait_for_listener()
    with running.client.stream("GET", "/display/events") as answer:
        lines = answer.iter_lines()
        next(lines)
        running.wait_for_stream()
        running.site.office.tell(ChangeKind.CAMERA)
        running.site.office.tell(ChangeKind.ARRIVED, "p0001")
        assert next_event(lines) == ("change", {})


def test_the_picture_comes_as_motion_jpeg_and_changes(running: Running) -> None:
    running.sign_in()
    running.site.office.jpeg = b"\xff\xd8\xff picture \xff\xd9"
    with running.client.stream("GET", "/live/picture?camera=entrance") as answer:
        assert answer.headers["content-type"] == "multipart/x-mixed-replace; boundary=frame"
        content = b""
        for piece in answer.iter_raw():
            content += piece
            if content.count(b"--frame") >= 4:
                break
    head, _, body = content.split(b"--frame\r\n")[1].partition(b"\r\n\r\n")
    assert b"Content-Type: image/jpeg" in head
    assert body.rstrip(b"\r\n") == running.site.office.jpeg
    assert running.site.office.frames >= 3


def test_many_who_look_share_one_reader_of_the_camera_and_nobody_looking_ends_it(
    running: Running,
) -> None:
    running.sign_in()
    answers = []
    for _ in range(8):
        request = running.client.build_request("GET", "/live/picture")
        answers.append(running.client.send(request, stream=True))
    streams = [answer.iter_raw() for answer in answers]
    for stream in streams:
        next(stream)
    assert sum(thread.name == "web-pictures" for thread in threading.enumerate()) == 1
    for answer in answers:
        answer.close()
    end_s = time.monotonic() + LONGEST_S
    while time.monotonic() < end_s:
        if not any(thread.name == "web-pictures" for thread in threading.enumerate()):
            return
        time.sleep(0.05)
    raise AssertionError("the reader of the camera goes on")


def test_signing_out_ends_the_streams_of_the_login(running: Running) -> None:
    identity = running.sign_in()
    reader = listen(running, "/live/picture")
    running.site.site.sessions.end(identity)
    reader.join(LONGEST_S)
    assert not reader.is_alive()


def test_taking_the_picture_off_the_display_ends_its_streams(running: Running) -> None:
    office = running.site.office
    office.change_settings(replace(office.settings(), overlay_public=True), author=LOGIN)
    reader = listen(running, "/display/picture")
    office.change_settings(replace(office.settings(), overlay_public=False), author=LOGIN)
    reader.join(LONGEST_S)
    assert not reader.is_alive()


def test_the_server_stops_although_browsers_listen(tmp_path: Path) -> None:
    with start(tmp_path) as running:
        running.sign_in()
        readers = [
            listen(running, address)
            for address in ("/live/picture", "/live/events", "/display/events")
        ]
        running.server.stop()
        for reader in readers:
            reader.join(LONGEST_S)
        assert not any(reader.is_alive() for reader in readers)
        with pytest.raises(httpx.TransportError):
            running.client.get("/")


def test_a_port_that_is_taken_is_a_clear_error(running: Running) -> None:
    port = int(running.server.address.rsplit(":", 1)[1])
    with pytest.raises(EdgefaceError, match="choose another port"):
        WebServer(running.site.app, WebSettings(port=port))


def test_who_fills_up_the_display_does_not_lock_out_those_who_signed_in(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "_MOST_PUBLIC_STREAMS", 1)
    with running.client.stream("GET", "/display/events"):
        running.wait_for_stream(is_public=True)
        with running.client.stream("GET", "/display/events") as answer:
            assert [line for line in answer.iter_lines() if line] == ["retry: 3000"]
        running.sign_in()
        with running.client.stream("GET", "/live/events") as answer:
            lines = answer.iter_lines()
            next(lines)
            running.wait_for_stream(is_public=False)
            running.site.office.tell(ChangeKind.ARRIVED, "p0001")
            assert next_event(lines)[0] == "change"


def certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate of this machine's own for 127.0.0.1, and its key."""
    pytest.importorskip("cryptography")
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(timezone.utc)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
        .sign(key, hashes.SHA256())
    )
    certificate_file, key_file = folder / "certificate.pem", folder / "key.pem"
    certificate_file.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return certificate_file, key_file


def test_with_a_certificate_the_pages_are_https_and_cookies_secure(tmp_path: Path) -> None:
    certificate_file, key_file = certificate(tmp_path)
    files: dict[str, Any] = {"certificate": certificate_file, "private_key": key_file}
    with served(tmp_path, **files) as site:
        server = WebServer(site.app, WebSettings(port=0, **files))
        server.start()
        trusted = ssl.create_default_context(cafile=str(certificate_file))
        with httpx.Client(base_url=server.address, verify=trusted, timeout=LONGEST_S) as client:
            site.make_account()
            fields = {"name": LOGIN, "password": PASSWORD, "csrf": csrf_of(client.get("/login"))}
            answer = client.post("/login", data=fields)
            assert answer.status_code == 303
            assert answer.headers["set-cookie"].startswith("__Host-session=")
            assert "Secure" in answer.headers["set-cookie"]
            assert client.get("/live").status_code == 200
        server.stop()
