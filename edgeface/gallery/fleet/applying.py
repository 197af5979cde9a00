"""Writing into a replica what the other devices of a fleet did."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from edgeface.gallery.fleet.merging import Local, Merged
from edgeface.gallery.fleet.state import FleetMemory, PersonState, with_seen
from edgeface.gallery.fleet.view import mark_of
from edgeface.gallery.ledger import Change
from edgeface.gallery.people import PersonEntry
from edgeface.gallery.records import StoredTemplate
from edgeface.gallery.vault import Vault
from edgeface.gallery.writing import add_person, add_template, change_person

__all__ = ["Applier", "Templates"]

Templates = Mapping[str, tuple[bytes, StoredTemplate]]
"""Templates with their uids, by the key of their row."""


class Applier:
    """Writes merged people into one replica, each with what is then known of the server."""

    def __init__(self, vault: Vault, memory: FleetMemory) -> None:
        self._vault = vault
        self._memory = memory

    def change(
        self,
        known: Sequence[tuple[Merged, Local, PersonState]],
        templates: Templates,
    ) -> list[str]:
        """Bring people of the replica up to date: all of them, or none.

        Returns who must wait for the next time: everybody, where somebody changed here since
        ``known`` was read.
        """
        with self._vault.changing() as change:
            found = [self._vault.people.subjects.with_uid(one.uid) for one, _, _ in known]
            entries = {entry.uid: entry for entry in found if entry is not None}
            wanted = {merged.uid for merged, _, _ in known}
            holders = [self._vault.people.find(merged.person.name) for merged, _, _ in known]
            is_current = all(
                merged.uid in entries and entries[merged.uid].version == local.entry.version
                for merged, local, _ in known
            )
            if not is_current or any(one and one.uid not in wanted for one in holders):
                return [merged.name for merged, _, _ in known]
            moved = self._step_aside(change, [merged for merged, _, _ in known])
            for merged, _, state in known:
                now = self._bring(change, merged, moved.get(merged.uid, entries[merged.uid]))
                self._take_templates(change, now, merged, templates)
                self._remember(change, merged, state, now.version)
        return []

    def add(self, new: Sequence[tuple[Merged, PersonState]], templates: Templates) -> list[str]:
        """Store people who are new here, all or none; return who cannot be yet.

        Whose name was taken meanwhile is left out, for the next time.
        """
        skipped = []
        with self._vault.changing() as change:
            people = self._vault.people
            for merged, state in new:
                is_here = people.subjects.with_uid(merged.uid) is not None
                if is_here or people.find(merged.person.name) is not None:
                    skipped.append(merged.name)
                    continue
                entry = add_person(self._vault.keys, change, merged.person, uid=merged.uid)
                self._take_templates(change, entry, merged, templates)
                self._remember(change, merged, state, entry.version)
        return skipped

    def remember(self, states: Mapping[str, PersonState]) -> None:
        """Keep what is known of people at the server."""
        if states:
            with self._vault.changing() as change:
                for name, state in states.items():
                    self._memory.write(change, name, state)

    def _step_aside(self, change: Change, wanted: Iterable[Merged]) -> dict[bytes, PersonEntry]:
        """Give another name, until they get their own, to people whose name goes to another."""
        moved: dict[bytes, PersonEntry] = {}
        for merged in wanted:
            holder = self._vault.people.find(merged.person.name)
            if holder is None or holder.uid == merged.uid or holder.uid in moved:
                continue
            person = replace(holder.person, name=f"({secrets.token_hex(16)})")
            change_person(self._vault.keys, change, holder, person)
            moved[holder.uid] = replace(holder, version=holder.version + 1, person=person)
        return moved

    def _bring(self, change: Change, merged: Merged, entry: PersonEntry) -> PersonEntry:
        if merged.person == entry.person:
            return entry
        change_person(self._vault.keys, change, entry, merged.person)
        return replace(entry, version=entry.version + 1, person=merged.person)

    def _take_templates(
        self, change: Change, entry: PersonEntry, merged: Merged, templates: Templates
    ) -> None:
        model = self._vault.people.active
        for key in merged.templates:
            uid, stored = templates[key]
            add_template(self._vault.keys, change, entry, model, stored, uid=uid)

    def _remember(self, change: Change, merged: Merged, state: PersonState, version: int) -> None:
        state = replace(
            with_seen(state, *merged.stamps),
            revision=merged.revision,
            # One behind: the record is still to be written at the server.
            version=version - 1 if merged.is_ours else version,
            mark=mark_of(self._vault, merged.uid),
        )
        self._memory.write(change, merged.name, state)
