"""A fleet whose connection, or whose device, is cut at every step of an exchange."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest

from edgeface.errors import FleetUnavailableError
from edgeface.gallery.fleet import FleetGallery
from edgeface.testing.fleet import FakeFleetServer
from tests.faults.fleets import contents, open_device
from tests.faults.galleries import template


def changed_apart(folder: Path, server: FakeFleetServer) -> tuple[FleetGallery, FleetGallery]:
    """Return two devices that knew the same people, and then each did all there is to do."""
    one, two = (open_device(folder / name, server) for name in ("one.db", "two.db"))
    for seed, name in enumerate(("ann", "bob", "carl", "dora")):
        one.add(name, [template(seed), template(100 + seed)])
    one.sync()
    two.sync()
    one.rename("ann", "anna")
    one.forget("bob")
    one.add("emil", [template(10), template(11)])
    two.add("carl", [template(12)], extend=True)
    two.set_active("dora", active=False)
    two.add("emil", [template(13)])
    two.add("fred", [template(14)])
    return one, two


def is_cut(device: FleetGallery) -> bool:
    try:
        device.sync()
    except FleetUnavailableError:
        return True
    return False


def cut_and_finish(
    folder: Path, server: FakeFleetServer, cut: Callable[[], None], mended: Callable[[], None]
) -> bool:
    """Cut the exchange of both devices; return whether it was cut, after both are equal."""
    one, two = changed_apart(folder, server)
    server.steps, was_cut = 0, False
    cut()
    for device in (one, two, one):
        was_cut = is_cut(device) or was_cut
    mended()
    for device in (one, two, one, two):
        device.sync()
    try:
        assert contents(one) == contents(two)
        names = sorted(contents(one))
        assert [name.partition(" (")[0] for name in names] == [
            "anna", "carl", "dora", "emil", "emil", "fred",
        ]  # fmt: skip
        assert len(one.templates("carl")) == 3
        assert sum(len(one.templates(name)) for name in names) == 2 + 3 + 2 + 2 + 1 + 1
        kinds = [row.stamp.kind for row in server.rows.values()]
        assert kinds.count("forgotten") == 1
        assert kinds.count("template") == 11
        assert not one.sync().changed_something
    finally:
        one.close()
        two.close()
    return was_cut


@pytest.mark.parametrize("lost_answer", [False, True])
def test_a_connection_cut_at_any_step_loses_nothing(tmp_path: Path, *, lost_answer: bool) -> None:
    for step in itertools.count(1, 3):
        folder, server = tmp_path / f"{step}", FakeFleetServer()
        folder.mkdir()

        def cut(step: int = step, server: FakeFleetServer = server) -> None:
            if lost_answer:
                server.fail_after = lambda now: now >= step
            else:
                server.fail = lambda now: now >= step

        def mended(server: FakeFleetServer = server) -> None:
            server.fail = server.fail_after = lambda _step: False

        if not cut_and_finish(folder, server, cut, mended):
            break
    assert step > 10


@pytest.mark.slow
@pytest.mark.parametrize("every", [2, 3, 5, 7])
@pytest.mark.parametrize("lost_answer", [False, True])
def test_a_connection_that_fails_again_and_again_loses_nothing(
    tmp_path: Path, every: int, *, lost_answer: bool
) -> None:
    for offset in range(every):
        folder, server = tmp_path / f"{offset}", FakeFleetServer()
        folder.mkdir()

        def cut(offset: int = offset, server: FakeFleetServer = server) -> None:
            def fails(now: int) -> bool:
                return now % every == offset

            if lost_answer:
                server.fail_after = fails
            else:
                server.fail = fails

        def mended(server: FakeFleetServer = server) -> None:
            server.fail = server.fail_after = lambda _step: False

        cut_and_finish(folder, server, cut, mended)


class Died(BaseException):
    """The device lost its power: nothing may catch it."""


def test_a_device_that_dies_at_any_local_write_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgeface.gallery.ledger import Change

    finish = Change.finish
    for step in itertools.count(1):
        folder, server = tmp_path / f"{step}", FakeFleetServer()
        folder.mkdir()
        one, two = changed_apart(folder, server)
        two.sync()
        left = [step]

        def dies(change: Change, left: list[int] = left) -> object:
            left[0] -= 1
            if not left[0]:
                raise Died
            return finish(change)

        monkeypatch.setattr(Change, "finish", dies)
        died = False
        try:
            one.sync()
        except Died:
            died = True
        monkeypatch.setattr(Change, "finish", finish)
        one.close()
        one = open_device(folder / "one.db", server)
        for device in (one, two, one):
            device.sync()
        assert contents(one) == contents(two)
        assert len(contents(one)) == 6
        one.close()
        two.close()
        if not died:
            break
    assert step > 4


def test_forgotten_people_leave_nothing_on_any_disk_and_a_mark_at_the_server(
    tmp_path: Path,
) -> None:
    server = FakeFleetServer()
    one, two = changed_apart(tmp_path, server)
    for device in (two, one, two):
        device.sync()
    entry = two.replica.vault.people.find("carl")
    assert entry is not None
    uid, before = entry.uid, set(server.rows)
    payloads = [row.payload for row in server.rows.values()]
    two.forget("carl")
    for device in (two, one):
        device.sync()
        assert "carl" not in contents(device)
    gone = before - set(server.rows)
    assert gone
    for device in (one, two):
        assert device.replica.receipts()[-1].proof
        path = device.replica.path
        device.close()
        for file in path.parent.glob(path.name + "*"):
            content = file.read_bytes()
            assert uid not in content
            assert uid.hex().encode() not in content
            assert not any(payload[12:36] in content for payload in payloads)
    marks = [row for row in server.rows.values() if row.stamp.kind == "forgotten"]
    # Bob, and Carl by the one device that forgot first.
    assert len(marks) == 2
    people = {row.stamp.person for row in marks}
    others = {r.stamp.person for r in server.rows.values() if r.stamp.kind != "forgotten"}
    assert not people & others
