"""A fleet's server that lies: everything that it did not get from a device is refused by type."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgeface.errors import (
    FleetUnavailableError,
    GalleryIntegrityError,
    GalleryModelError,
    GalleryRollbackError,
)
from edgeface.gallery.fleet import FleetGallery, FleetRow
from edgeface.testing.fleet import FakeFleetServer
from tests.faults.fleets import contents, open_device
from tests.faults.galleries import template


@pytest.fixture
def server() -> FakeFleetServer:
    return FakeFleetServer()


@pytest.fixture
def devices(tmp_path: Path, server: FakeFleetServer) -> Iterator[list[FleetGallery]]:
    """The first has written two people, the second has not exchanged yet."""
    found = [open_device(tmp_path / name, server) for name in ("one.db", "two.db")]
    found[0].add("ann", [template(1), template(2)])
    found[0].add("bob", [template(3)])
    found[0].sync()
    yield found
    for device in found:
        device.close()


def of_kind(server: FakeFleetServer, kind: str) -> list[FleetRow]:
    return [row for row in server.rows.values() if row.stamp.kind == kind]


def put(server: FakeFleetServer, row: FleetRow, **stamp: Any) -> None:
    server.rows[row.stamp.key] = replace(row, stamp=replace(row.stamp, **stamp))


def flipped(row: FleetRow, at: int) -> FleetRow:
    payload = bytearray(row.payload)
    payload[at] ^= 1
    return replace(row, payload=bytes(payload))


Lie = Callable[[FakeFleetServer], None]


def flip_a_person(server: FakeFleetServer) -> None:
    put(server, flipped(of_kind(server, "person")[0], 40))


def flip_a_template(server: FakeFleetServer) -> None:
    put(server, flipped(of_kind(server, "template")[0], -1))


def cut_a_payload(server: FakeFleetServer) -> None:
    row = of_kind(server, "person")[0]
    put(server, replace(row, payload=row.payload[:9]))


def swap_contents(server: FakeFleetServer, kind: str) -> None:
    first, second = of_kind(server, kind)[:2]
    put(server, replace(first, payload=second.payload))
    put(server, replace(second, payload=first.payload))


def give_a_template_to_another(server: FakeFleetServer) -> None:
    ann, bob = of_kind(server, "person")
    for row in of_kind(server, "template"):
        other = bob if row.stamp.person == ann.stamp.person else ann
        put(server, row, person=other.stamp.person)


def call_a_person_forgotten(server: FakeFleetServer) -> None:
    put(server, of_kind(server, "person")[0], kind="forgotten")


def raise_a_clock(server: FakeFleetServer) -> None:
    put(server, of_kind(server, "person")[0], clock=9)


def hide_a_template(server: FakeFleetServer) -> None:
    del server.rows[of_kind(server, "template")[0].stamp.key]


@pytest.mark.parametrize(
    "lie",
    [
        flip_a_person,
        flip_a_template,
        cut_a_payload,
        lambda server: swap_contents(server, "person"),
        lambda server: swap_contents(server, "template"),
        give_a_template_to_another,
        call_a_person_forgotten,
        raise_a_clock,
        hide_a_template,
    ],
)
def test_a_changed_row_is_refused(
    server: FakeFleetServer, devices: list[FleetGallery], lie: Lie
) -> None:
    devices[1].add("carl", [template(9)])
    before = contents(devices[1])
    lie(server)
    with pytest.raises(GalleryIntegrityError):
        devices[1].sync()
    assert contents(devices[1]) == before
    assert devices[1].status.is_refused
    assert devices[1].search(template(9))[0].subject == "carl"


def test_a_flipped_bit_anywhere_in_a_row_is_refused(
    server: FakeFleetServer, devices: list[FleetGallery]
) -> None:
    row = of_kind(server, "person")[0]
    for at in range(0, len(row.payload), 7):
        put(server, flipped(row, at))
        with pytest.raises(GalleryIntegrityError):
            devices[1].sync()
    assert contents(devices[1]) == {}
    put(server, row)
    devices[1].sync()
    assert contents(devices[1]) == contents(devices[0])


def test_a_row_of_another_model_is_refused(
    server: FakeFleetServer, devices: list[FleetGallery]
) -> None:
    put(server, of_kind(server, "template")[0], model="b" * 64)
    with pytest.raises(GalleryModelError):
        devices[1].sync()
    assert contents(devices[1]) == {}


def test_a_row_that_only_says_it_is_of_this_model_is_refused(
    tmp_path: Path, server: FakeFleetServer, devices: list[FleetGallery]
) -> None:
    from edgeface.gallery.fleet.rows import RowSealer
    from edgeface.gallery.records import StoredTemplate
    from tests.faults.fleets import KEY

    row = of_kind(server, "template")[0]
    other = RowSealer(KEY, "b" * 64, 32)
    stored = StoredTemplate(template(5).vector, 0.5, "image", "")  # type: ignore[arg-type]
    uid, _ = RowSealer(KEY, row.stamp.model, 32).open_template(row)
    from edgeface.gallery.base import TemplateSource

    stored = replace(stored, source=TemplateSource.IMAGE)
    made = other.seal_template(bytes(16), uid, stored, row.stamp.device)
    server.rows[row.stamp.key] = replace(row, payload=made.payload)
    with pytest.raises(GalleryIntegrityError):
        devices[1].sync()


def test_an_old_row_put_back_is_refused(
    server: FakeFleetServer, devices: list[FleetGallery]
) -> None:
    devices[1].sync()
    old = dict(server.rows)
    devices[0].rename("ann", "anna")
    devices[0].sync()
    devices[1].sync()
    server.rows = old
    for device in devices:
        with pytest.raises(GalleryRollbackError):
            device.sync()
        assert sorted(contents(device)) == ["anna", "bob"]


def test_a_forgotten_person_put_back_is_refused(
    server: FakeFleetServer, devices: list[FleetGallery]
) -> None:
    devices[1].sync()
    old = dict(server.rows)
    devices[0].forget("ann")
    devices[0].sync()
    devices[1].sync()
    for rows in ({**server.rows, **old}, {**old, **server.rows}):
        server.rows = dict(rows)
        for device in devices:
            with pytest.raises(GalleryRollbackError):
                device.sync()
            assert list(contents(device)) == ["bob"]


def test_rows_that_are_gone_are_refused(
    server: FakeFleetServer, devices: list[FleetGallery]
) -> None:
    devices[1].sync()
    del server.rows[of_kind(server, "template")[0].stamp.key]
    for device in devices:
        with pytest.raises(GalleryIntegrityError, match="accept-loss"):
            device.sync()
        assert len(device.templates("ann")) == 2


@pytest.mark.parametrize("which", ["all", "template", "person", "older", "back"])
def test_a_loss_that_is_accepted_is_made_good(
    server: FakeFleetServer, devices: list[FleetGallery], which: str
) -> None:
    one, two = devices
    two.sync()
    old = dict(server.rows)
    one.rename("ann", "anna")
    if which == "back":
        two.forget("bob")
    for device in (one, two, one):
        device.sync()
    before = contents(one)
    if which in ("all", "template", "person"):
        server.rows = {
            key: row for key, row in server.rows.items() if which not in ("all", row.stamp.kind)
        }
    else:
        server.rows = old
    two.sync(accept_loss=True)
    one.sync(accept_loss=True)
    for device in (two, one, two):
        assert not device.sync().waiting
        assert contents(device) == before
    with_nothing = [row.stamp.kind for row in server.rows.values()]
    assert with_nothing.count("template") == (2 if which == "back" else 3)


def test_a_server_that_lists_what_it_does_not_give_takes_nothing_along(
    server: FakeFleetServer, devices: list[FleetGallery], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "fetch", lambda _keys: [])
    with pytest.raises(FleetUnavailableError):
        devices[1].sync()
    assert contents(devices[1]) == {}


def test_nothing_of_a_person_can_be_read_at_the_server(
    server: FakeFleetServer, devices: list[FleetGallery]
) -> None:
    needles = [b"ann", b"bob", template(1).vector.tobytes()[:16]]
    for row in server.rows.values():
        everything = repr(row.stamp).encode() + row.payload
        assert not any(needle in everything for needle in needles)
