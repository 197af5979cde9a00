"""Galleries of a fleet: what becomes of changes on several devices."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeface.errors import FleetUnavailableError, GalleryKeyError, SubjectExistsError
from edgeface.gallery import Consent, EnrolmentRecord, Gallery, SqliteGallery
from edgeface.gallery.fleet import FleetGallery, FleetKey
from edgeface.testing.fleet import FakeFleetServer
from edgeface.types import Template

MODEL, SIZE = "a" * 64, 32
KEY = FleetKey(bytes(range(32)))


def template(seed: int, *, quality: float = 0.5) -> Template:
    vector = np.random.default_rng(seed).standard_normal(SIZE)
    return Template((vector / np.linalg.norm(vector)).astype(np.float32), MODEL, quality)


def open_replica(path: Path) -> SqliteGallery:
    return SqliteGallery.open(path, model_id=MODEL, embedding_size=SIZE)


def contents(gallery: FleetGallery) -> dict[str, Any]:
    """Return everything that a fleet keeps equal, by name."""
    found = {}
    for person in gallery.subjects():
        details = gallery.replica.details(person.name)
        rows = sorted(row.vector.tobytes() for row in gallery.templates(person.name))
        found[person.name] = (person.created_at, person.active, details.consent, rows)
    return found


def exchange(*devices: FleetGallery) -> None:
    """Let every device hear of every other."""
    for _ in range(2):
        for device in devices:
            device.sync()


@pytest.fixture
def server() -> FakeFleetServer:
    return FakeFleetServer()


@pytest.fixture
def device(tmp_path: Path, server: FakeFleetServer) -> Iterator[Callable[[str], FleetGallery]]:
    """Opens the device of a name, or opens it again."""
    opened = []

    def made(name: str) -> FleetGallery:
        gallery = FleetGallery(open_replica(tmp_path / f"{name}.db"), server, KEY)
        opened.append(gallery)
        return gallery

    yield made
    for gallery in opened:
        gallery.close()


@pytest.fixture
def pair(device: Callable[[str], FleetGallery]) -> tuple[FleetGallery, FleetGallery]:
    return device("one"), device("two")


Pair = tuple[FleetGallery, FleetGallery]


def test_an_empty_fleet_has_nothing_to_exchange(pair: Pair) -> None:
    assert not pair[0].sync().changed_something


def test_who_is_enrolled_on_one_device_is_found_on_the_other(pair: Pair) -> None:
    one, two = pair
    consent = Consent("paper form 12", "2026-01-01T10:00:00+00:00", recorded_by="ann")
    one.add("alice", [template(1), template(2)], record=EnrolmentRecord(consent=consent))
    one.sync()
    report = two.sync()
    assert (report.added, report.templates, report.sent) == (1, 2, 0)
    assert two.search(template(2))[0].subject == "alice"
    assert contents(two) == contents(one)
    assert two.replica.details("alice").consent == consent


def test_a_second_exchange_sends_and_takes_nothing(pair: Pair) -> None:
    one, two = pair
    one.add("alice", [template(1)])
    exchange(one, two)
    assert not one.sync().changed_something
    assert not two.sync().changed_something


def test_changes_of_the_plain_replica_are_exchanged_too(pair: Pair) -> None:
    one, two = pair
    one.replica.add("alice", [template(1)])
    exchange(one, two)
    one.replica.rename("alice", "alicia")
    one.replica.set_active("alicia", active=False)
    exchange(one, two)
    assert contents(two) == contents(one)
    assert [(p.name, p.active) for p in two.subjects()] == [("alicia", False)]


def test_a_device_works_without_the_server_and_catches_up(
    pair: Pair, server: FakeFleetServer
) -> None:
    one, two = pair
    one.add("alice", [template(1)])
    exchange(one, two)
    server.fail = lambda _step: True
    two.add("bob", [template(2)])
    two.rename("alice", "alicia")
    with pytest.raises(FleetUnavailableError):
        two.sync()
    assert two.search(template(2))[0].subject == "bob"
    assert isinstance(two.status.error, FleetUnavailableError)
    server.fail = lambda _step: False
    exchange(two, one)
    assert contents(one) == contents(two)
    assert sorted(contents(one)) == ["alicia", "bob"]
    assert two.status.error is None


def test_templates_of_both_devices_are_kept(pair: Pair) -> None:
    one, two = pair
    one.add("alice", [template(1)])
    exchange(one, two)
    one.add("alice", [template(2)], extend=True)
    two.add("alice", [template(3)], extend=True)
    exchange(one, two)
    assert contents(one) == contents(two)
    assert len(one.templates("alice")) == 3


def test_a_new_template_does_not_undo_a_new_name(pair: Pair) -> None:
    one, two = pair
    one.add("alice", [template(1)])
    exchange(one, two)
    one.rename("alice", "alicia")
    two.add("alice", [template(3)], extend=True)
    exchange(one, two)
    assert contents(one) == contents(two)
    assert list(contents(one)) == ["alicia"]
    assert len(one.templates("alicia")) == 2


@pytest.mark.parametrize("first", [0, 1])
def test_of_two_records_one_wins_whoever_exchanges_first(pair: Pair, first: int) -> None:
    one, two = pair
    one.add("alice", [template(1)])
    exchange(one, two)
    one.rename("alice", "alicia")
    two.rename("alice", "alison")
    two.set_active("alison", active=False)
    exchange(pair[first], pair[1 - first])
    assert contents(one) == contents(two)
    # Two changes since the same version are newer than one.
    assert [(p.name, p.active) for p in one.subjects()] == [("alison", False)]


@pytest.mark.parametrize("first", [0, 1])
def test_people_of_one_name_stay_apart(pair: Pair, first: int) -> None:
    one, two = pair
    one.add("bob", [template(1)])
    two.add("bob", [template(2)])
    exchange(pair[first], pair[1 - first])
    assert contents(one) == contents(two)
    names = sorted(contents(one))
    assert names[0] == "bob"
    assert names[1].startswith("bob (")
    assert len(names) == 2
    found = {one.search(template(seed))[0].subject for seed in (1, 2)}
    assert found == set(names)


def test_names_may_change_places(pair: Pair) -> None:
    one, two = pair
    one.add("ann", [template(1)])
    one.add("bob", [template(2)])
    exchange(one, two)
    one.rename("ann", "x")
    one.rename("bob", "ann")
    one.rename("x", "bob")
    exchange(one, two)
    assert contents(one) == contents(two)
    assert two.search(template(1))[0].subject == "bob"
    assert two.search(template(2))[0].subject == "ann"
    assert not any("(" in name for name in contents(two))


def test_a_freed_name_goes_to_a_new_person(pair: Pair) -> None:
    one, two = pair
    one.add("ann", [template(1)])
    exchange(one, two)
    one.rename("ann", "anna")
    one.add("ann", [template(2)])
    exchange(one, two)
    assert contents(one) == contents(two)
    assert two.search(template(2))[0].subject == "ann"


@pytest.mark.parametrize("first", [0, 1])
def test_forgetting_beats_every_change(pair: Pair, first: int, server: FakeFleetServer) -> None:
    one, two = pair
    one.add("alice", [template(1)])
    exchange(one, two)
    one.forget("alice")
    for name in ("alison", "alina", "alma"):
        two.rename(two.subjects()[0].name, name)
    two.add("alma", [template(5)], extend=True)
    exchange(pair[first], pair[1 - first])
    assert contents(one) == contents(two) == {}
    assert {row.stamp.kind for row in server.rows.values()} == {"forgotten"}


def test_a_name_may_come_back_after_its_person_was_forgotten(pair: Pair) -> None:
    one, two = pair
    one.add("alice", [template(1)])
    exchange(one, two)
    one.forget("alice")
    one.add("alice", [template(2)])
    exchange(one, two)
    assert contents(one) == contents(two)
    assert two.search(template(2))[0].score == pytest.approx(1.0)
    assert len(two.templates("alice")) == 1


def test_who_was_forgotten_before_the_first_exchange_leaves_nothing(
    pair: Pair, server: FakeFleetServer
) -> None:
    one, two = pair
    one.add("alice", [template(1)])
    one.forget("alice")
    exchange(one, two)
    assert server.rows == {}


def test_a_third_device_hears_nothing_of_the_forgotten(
    pair: Pair, device: Callable[[str], FleetGallery]
) -> None:
    one, two = pair
    one.add("alice", [template(1)])
    one.add("bob", [template(2)])
    exchange(one, two)
    two.forget("alice")
    exchange(two, one)
    three = device("three")
    three.sync()
    assert list(contents(three)) == ["bob"]


def test_a_restored_replica_takes_another_name_and_loses_nothing(
    tmp_path: Path, pair: Pair, server: FakeFleetServer
) -> None:
    one, two = pair
    one.add("alice", [template(1)])
    exchange(one, two)
    copy = tmp_path / "copy.db"
    from edgeface.gallery.backup import back_up

    back_up(one.replica.vault, copy, "2026-01-01T00:00:00+00:00")
    with FleetGallery(open_replica(copy), server, KEY) as cloned:
        one.rename("alice", "alicia")
        cloned.add("alice", [template(7)], extend=True)
        one.add("carl", [template(3)])
        cloned.add("dora", [template(4)])
        exchange(one, cloned, two, one)
        assert contents(one) == contents(two) == contents(cloned)
    assert sorted(contents(one)) == ["alicia", "carl", "dora"]
    assert len(one.templates("alicia")) == 2


def test_a_copied_replica_and_its_original_never_differ_for_good(
    tmp_path: Path, pair: Pair, server: FakeFleetServer
) -> None:
    from edgeface.gallery.backup import back_up

    one, two = pair
    one.add("alice", [template(1)])
    exchange(one, two)
    copy = tmp_path / "copy.db"
    back_up(one.replica.vault, copy, "2026-01-01T00:00:00+00:00")
    with FleetGallery(open_replica(copy), server, KEY) as cloned:
        # The same device name, the same clock, another content.
        one.rename("alice", "alicia")
        cloned.rename("alice", "alison")
        exchange(one, cloned, two, one)
        assert contents(one) == contents(cloned) == contents(two)


def test_a_device_of_another_fleet_is_refused(tmp_path: Path, pair: Pair) -> None:
    server = FakeFleetServer()
    with pytest.raises(GalleryKeyError, match="another fleet"):
        FleetGallery(pair[0].replica, server, FleetKey(bytes(32)))
    replica = open_replica(tmp_path / "new.db")
    with pytest.raises(GalleryKeyError, match="fleet-key"):
        FleetGallery(replica, server)
    replica.close()


def test_a_fleet_gallery_is_a_gallery(pair: Pair) -> None:
    gallery: Gallery = pair[0]
    gallery.add("alice", [template(1)])
    assert gallery.model_id == MODEL
    (found,) = gallery.search_many([template(1)], 1)
    assert found[0].subject == "alice"
    assert len(gallery.templates("alice")) == 1
    gallery.remove("alice")
    assert gallery.search(template(1)) == []


def test_a_fleet_gallery_refuses_what_every_gallery_refuses(pair: Pair) -> None:
    pair[0].add("alice", [template(1)])
    with pytest.raises(SubjectExistsError):
        pair[0].add("alice", [template(2)])


def test_the_background_sends_and_takes(pair: Pair) -> None:
    one, two = pair
    two._interval_s = one._interval_s = 0.01
    one._settle_s = two._settle_s = 0.0
    one.start()
    two.start()
    one.add("alice", [template(1)])
    for _ in range(500):
        if two.subjects():
            break
        two._stop.wait(0.01)
    assert two.search(template(1))[0].subject == "alice"
    assert one.status.error is None


def change_at_random(gallery: FleetGallery, random: np.random.Generator, step: int) -> None:
    names = list(contents(gallery))
    new = f"p{random.integers(8)}"
    action = random.integers(5) if names else 0
    name = names[random.integers(len(names))] if names else ""
    if action == 1 and new not in names:
        gallery.rename(name, new)
    elif action == 2:
        gallery.add(name, [template(2000 + step)], extend=True)
    elif action == 3 and step % 3 == 0:
        gallery.forget(name)
    elif action == 4:
        gallery.set_active(name, active=bool(step % 2))
    elif new not in names:
        gallery.add(new, [template(1000 + step)])


@pytest.mark.parametrize("seed", range(3))
def test_random_changes_on_three_devices_converge(
    device: Callable[[str], FleetGallery], seed: int
) -> None:
    devices = [device(name) for name in ("one", "two", "three")]
    random = np.random.default_rng(seed)
    for step in range(40):
        gallery = devices[random.integers(3)]
        change_at_random(gallery, random, step)
        if random.random() < 0.3:
            gallery.sync()
    exchange(*devices, *devices)
    first, second, third = map(contents, devices)
    assert first == second == third
    assert first
    assert not any(gallery.sync().changed_something for gallery in devices)
