"""What a replica holds, as one reading of it shows."""

from __future__ import annotations

from dataclasses import dataclass

from edgeface.errors import GalleryModelError
from edgeface.gallery.base import short_id
from edgeface.gallery.fleet.merging import Local
from edgeface.gallery.fleet.rows import RowSealer
from edgeface.gallery.fleet.state import FleetMemory, PersonState
from edgeface.gallery.forgetting import forgotten_mark
from edgeface.gallery.vault import Vault

__all__ = ["View", "mark_of", "read_view"]


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

    Raises:
        GalleryModelError: The gallery was moved to another model since it was opened.
    """
    with vault.reading() as connection:
        people = vault.people
        if people.active.model_id != sealer.model_id:
            raise GalleryModelError(
                f"the gallery was moved to model {short_id(people.active.model_id)}; open the "
                "fleet again"
            )
        uids = people.template_uids(people.active.row_id)
        rows = connection.execute("SELECT mark FROM forgotten").fetchall()
        states = memory.read(connection)
        found = {
            sealer.person_name(entry.uid): Local(entry, frozenset(uids.get(row_id, ())))
            for row_id, entry in people.subjects.items()
        }
    return View(found, states, frozenset(mark.hex() for (mark,) in rows))


def mark_of(vault: Vault, uid: bytes) -> str:
    """Return the mark that a person is found by among the forgotten."""
    return forgotten_mark(vault.keys, uid).hex()
