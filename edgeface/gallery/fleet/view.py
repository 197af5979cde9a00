"""What a replica holds, as one reading of it shows."""

from __future__ import annotations

from dataclasses import dataclass

from edgeface.errors import GalleryError, GalleryModelError
from edgeface.gallery.base import short_id
from edgeface.gallery.fleet.merging import Local
from edgeface.gallery.fleet.rows import RowSealer
from edgeface.gallery.fleet.state import FleetMemory, PersonState
from edgeface.gallery.forgetting import forgotten_mark
from edgeface.gallery.vault import Vault

__all__ = ["View", "mark_of", "read_view"]

# About 10 ms each, in which nobody can search.
_PEOPLE_AT_ONCE = 256
_MOST_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class View:
    """People and states by what a person is called on the server; ``forgotten`` are marks."""

    people: dict[str, Local]
    states: dict[str, PersonState]
    forgotten: frozenset[str]

    def state(self, name: str) -> PersonState:
        """Return what is known of a person; an empty state where nothing is.

        Who is neither here nor forgotten, as after a restored backup, is taken anew.
        """
        state = self.states.get(name, PersonState())
        is_known = name in self.people or state.forgotten or state.mark in self.forgotten
        return state if is_known else PersonState()

    def was_forgotten_here(self, name: str) -> bool:
        """Return whether the person was forgotten on this device, and the server may not know."""
        state = self.state(name)
        return name not in self.people and state.mark in self.forgotten and not state.forgotten


def read_view(vault: Vault, memory: FleetMemory, sealer: RowSealer) -> View:
    """Return what the replica holds now.

    Searches go on between the pages that it is read in.

    Raises:
        GalleryModelError: The gallery was moved to another model since it was opened.
    """
    for _ in range(_MOST_ATTEMPTS):
        view = _paged(vault, memory, sealer)
        if view is not None:
            return view
    # Somebody writes all the time: nobody else may now.
    with vault.reading():
        view = _paged(vault, memory, sealer)
    if view is None:  # pragma: no cover - nobody can write while it is read
        raise GalleryError("the gallery changes all the time; try again")
    return view


def _paged(vault: Vault, memory: FleetMemory, sealer: RowSealer) -> View | None:
    """Return the replica; None where it changed while it was read."""
    with vault.reading() as connection:
        people, head = vault.people, vault.head
        _require_model(people.active.model_id, sealer)
        uids = people.template_uids(people.active.row_id)
        rows = connection.execute("SELECT mark FROM forgotten").fetchall()
        states = memory.read(connection)
    found: dict[str, Local] = {}
    last = -1
    while True:
        with vault.reading():
            if vault.head != head:
                return None
            page = vault.people.subjects.after(last, _PEOPLE_AT_ONCE)
        for entry in page:
            local = Local(entry, frozenset(uids.get(entry.row_id, ())))
            found[sealer.person_name(entry.uid)] = local
        if not page:
            return View(found, states, frozenset(mark.hex() for (mark,) in rows))
        last = page[-1].row_id


def _require_model(model_id: str, sealer: RowSealer) -> None:
    if model_id != sealer.model_id:
        raise GalleryModelError(
            f"the gallery was moved to model {short_id(model_id)}; open the fleet again"
        )


def mark_of(vault: Vault, uid: bytes) -> str:
    """Return the mark that a person is found by among the forgotten."""
    return forgotten_mark(vault.keys, uid).hex()
