"""Every event arrives, exactly once by its id, whatever the receiver does."""

from __future__ import annotations

import csv
import json
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from examples.attendance.book import Book
from examples.attendance.courier import Courier, Roll, SinkError
from examples.attendance.csv_sink import CsvSink
from examples.attendance.errors import AttendanceError
from examples.attendance.interface import Person, Settings
from examples.attendance.journal import Event, EventKind
from examples.attendance.sinks_file import load_sinks
from examples.attendance.store import Store
from examples.attendance.telling import payload_of
from examples.attendance.webhook import Webhook, WebhookSink, sign
from tests.attendance.parts import Clocks

SECRET = b"0123456789abcdef0123456789abcdef"
SETTINGS = Settings(absence_s=10.0)


def payload(event: Event) -> dict[str, object]:
    return payload_of(event, (1, "Ann"), SETTINGS)


def record_visits(folder: Path, sink: str, count: int) -> tuple[Store, list[str]]:
    """Record visits and return the store and the ids of their events."""
    store, clocks = Store.open(folder / "record.db"), Clocks()
    book = Book(store, SETTINGS, clocks=clocks, sinks=[sink])
    book.camera("door", usable=True)
    for _ in range(count):
        book.see("door", ["ann"])
        clocks.now_s += 20
        book.tick()
    return store, [event.id for event in store.events()]


class Receiver(BaseHTTPRequestHandler):
    """Fails half of the time, and in half of that after it has taken the event."""

    def do_POST(self) -> None:
        server = self.server
        assert isinstance(server, FailingServer)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        message_id, sent = self.headers["webhook-id"], self.headers["webhook-timestamp"]
        assert self.headers["webhook-signature"] == sign(SECRET, message_id, sent, body)
        fate = server.rng.random()
        server.tries += 1
        if fate < 0.25:
            self.send_error(503)
            return
        assert json.loads(body)["id"] == message_id
        server.received.append(message_id)
        if fate < 0.5:  # taken, but the answer is lost
            self.close_connection = True
            return
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None: ...


class FailingServer(HTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Receiver)
        self.rng = random.Random(5)
        self.received: list[str] = []
        self.tries = 0

    def handle_error(self, request: object, client_address: object) -> None:
        self.received.append("broken request")


@contextmanager
def failing_receiver() -> Iterator[FailingServer]:
    server = FailingServer()
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def deliver_all(courier: Courier, timeout_s: float = 60.0) -> None:
    courier.start(Roll)
    end_s = time.monotonic() + timeout_s
    while courier.status().waiting and time.monotonic() < end_s:
        time.sleep(0.01)
    courier.close()
    assert courier.status().waiting == 0


def test_webhook_that_fails_half_of_the_time_gets_every_event_once_by_id(tmp_path: Path) -> None:
    store, ids = record_visits(tmp_path, "webhook-hr", 40)
    with failing_receiver() as server:
        url = f"http://127.0.0.1:{server.server_port}/in?token=x"
        sink = WebhookSink(Webhook("hr", url, SECRET))
        deliver_all(Courier(sink, store, payload, first_delay_s=0.001))
        assert list(dict.fromkeys(server.received)) == ids
        assert len(server.received) > len(ids)
        assert server.tries > 1.4 * len(ids)
    store.close()


def test_a_crash_between_two_deliveries_loses_nothing(tmp_path: Path) -> None:
    store, ids = record_visits(tmp_path, "webhook-hr", 20)
    with failing_receiver() as server:
        sink = WebhookSink(Webhook("hr", f"http://127.0.0.1:{server.server_port}/", SECRET))
        for _ in range(200):
            with suppress(SinkError):
                Courier(sink, store, payload).deliver_once()
            store.close()  # as a crash would, with what waits still waiting
            store = Store.open(tmp_path / "record.db")
            if not Courier(sink, store, payload).status().waiting:
                break
        assert list(dict.fromkeys(server.received)) == ids
    store.close()


def test_a_receiver_that_is_not_there_is_told_without_its_address(tmp_path: Path) -> None:
    store, _ = record_visits(tmp_path, "webhook-hr", 1)
    sink = WebhookSink(Webhook("hr", "http://127.0.0.1:9/secret-token", SECRET))
    with pytest.raises(SinkError) as caught:
        Courier(sink, store, payload).deliver_once()
    assert "secret-token" not in str(caught.value)
    store.close()


def test_an_event_of_a_forgotten_person_that_waits_is_dropped(tmp_path: Path) -> None:
    store, _ = record_visits(tmp_path, "csv", 2)
    with store.erasing() as connection:
        connection.execute("DELETE FROM event")
    courier = Courier(CsvSink(tmp_path / "events.csv"), store, payload)
    courier.deliver_once()
    assert courier.status().waiting == 0
    assert not (tmp_path / "events.csv").exists() or rows_of(tmp_path / "events.csv") == []
    store.close()


@pytest.mark.parametrize(
    ("url", "secret"),
    [
        ("http://example.org/x", SECRET),
        ("https://user:password@example.org/", SECRET),
        ("ftp://127.0.0.1/", SECRET),
        ("https:///x", SECRET),
        ("https://example.org/", b"short"),
    ],
)
def test_a_webhook_that_is_not_safe_is_refused(url: str, secret: bytes) -> None:
    with pytest.raises(AttendanceError):
        Webhook("hr", url, secret)


def test_the_signature_depends_on_id_time_body_and_secret() -> None:
    base = sign(SECRET, "id", "1", b"body")
    others = [
        sign(SECRET, "id2", "1", b"body"),
        sign(SECRET, "id", "2", b"body"),
        sign(SECRET, "id", "1", b"bodY"),
        sign(SECRET[:-1] + b"x", "id", "1", b"body"),
    ]
    assert base.startswith("v1,")
    assert len({base, *others}) == 5


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_csv_has_every_event_once_also_after_a_crash_in_the_middle_of_a_line(
    tmp_path: Path,
) -> None:
    store, ids = record_visits(tmp_path, "csv", 5)
    path = tmp_path / "events.csv"
    deliver_all(Courier(CsvSink(path), store, payload))
    assert [row["id"] for row in rows_of(path)] == ids
    whole = path.read_bytes()
    with store.writing() as connection:  # the crash came before the outbox was told
        connection.executemany(
            "INSERT INTO outbox (sink, event_id) VALUES ('csv', ?)", [(one,) for one in ids[-3:]]
        )
    path.write_bytes(whole[:-20])
    deliver_all(Courier(CsvSink(path), store, payload))
    assert path.read_bytes() == whole
    store.close()


def test_csv_forgets_the_lines_of_a_person(tmp_path: Path) -> None:
    store, _ = record_visits(tmp_path, "csv", 2)
    sink = CsvSink(tmp_path / "events.csv")
    deliver_all(Courier(sink, store, payload))
    ann = Person("ann", 1, "Ann", "Ann")
    assert len(rows_of(tmp_path / "events.csv")) == 4
    sink.forget(ann)
    assert rows_of(tmp_path / "events.csv") == []
    assert [file.name for file in tmp_path.glob("events*")] == ["events.csv"]
    store.close()


def test_names_go_to_sinks_only_where_wanted() -> None:
    event = Event("e", EventKind.ARRIVED, 0, 0, "ann", "v")
    assert "name" not in payload_of(event, (1, "Ann"), SETTINGS)
    assert payload_of(event, (1, "Ann"), Settings(names_in_sinks=True))["name"] == "Ann"


def test_a_full_disk_keeps_events_waiting(tmp_path: Path) -> None:
    store, ids = record_visits(tmp_path, "csv", 1)
    folder = tmp_path / "away"
    courier = Courier(CsvSink(folder / "events.csv"), store, payload)
    with pytest.raises(SinkError):
        courier.deliver_once()
    assert courier.status().waiting == len(ids)
    folder.mkdir()
    assert courier.deliver_once() == len(ids)
    store.close()


def test_sinks_are_read_from_their_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("paho.mqtt")
    assert load_sinks(tmp_path) == ()
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    (credentials / "hook").write_bytes(SECRET + b"\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(credentials))
    config = {
        "csv": {"path": "events.csv"},
        "webhooks": [{"name": "hr", "url": "https://example.org/x", "secret_file": "hook"}],
        "mqtt": {"host": "localhost"},
    }
    (tmp_path / "sinks.json").write_text(json.dumps(config))
    assert [sink.name for sink in load_sinks(tmp_path)] == ["csv", "webhook-hr", "mqtt"]


@pytest.mark.parametrize(
    "config",
    [
        "not json",
        "[]",
        '{"kafka": {}}',
        '{"csv": {}}',
        '{"webhooks": [{"name": "a", "url": "https://x/", "secret": "in the clear 0123456789"}]}',
        '{"webhooks": [{"name": "a", "url": "https://x/", "secret_file": "missing"}]}',
        '{"mqtt": {"host": "broker", "password_file": "missing"}}',
        '{"mqtt": {"host": "localhost", "colour": 1}}',
        '{"mqtt": {"host": "localhost", "base": "a/#"}}',
    ],
)
def test_a_file_of_sinks_that_cannot_be_used_is_refused(tmp_path: Path, config: str) -> None:
    pytest.importorskip("paho.mqtt")
    (tmp_path / "sinks.json").write_text(config)
    with pytest.raises(AttendanceError):
        load_sinks(tmp_path)
