"""Writing at the server of a fleet what only this device has."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from edgeface.gallery.fleet.applying import Applier
from edgeface.gallery.fleet.listing import ROWS_AT_ONCE, Listing, parts
from edgeface.gallery.fleet.merging import Local, local_revision
from edgeface.gallery.fleet.report import SyncReport
from edgeface.gallery.fleet.rows import FleetRow, PersonContent, RowKind, RowSealer, RowStamp
from edgeface.gallery.fleet.server import FleetServer
from edgeface.gallery.fleet.state import PersonState, Seen, with_seen
from edgeface.gallery.fleet.view import View, mark_of
from edgeface.gallery.people import TemplateEntry
from edgeface.gallery.vault import Vault

__all__ = ["Sender"]


class Sender:
    """Writes rows as one device of a fleet."""

    def __init__(
        self, vault: Vault, server: FleetServer, sealer: RowSealer, applier: Applier, device: str
    ) -> None:
        self._vault = vault
        self._server = server
        self._sealer = sealer
        self._applier = applier
        self._device = device

    def send(self, view: View) -> SyncReport:
        """Write who is new or has changed here; return how many went."""
        sent = sent_templates = 0
        for part in parts(self._wanted(view), ROWS_AT_ONCE):
            states = {}
            rows: list[FleetRow] = []
            for name, local in part:
                made, states[name] = self._rows_of(name, local, view.state(name))
                rows += made
            # A record is there only after the templates that it speaks of.
            templates = [row for row in rows if row.stamp.kind == RowKind.TEMPLATE]
            self._server.write(templates)
            self._server.write([row for row in rows if row.stamp.kind != RowKind.TEMPLATE])
            self._applier.remember(states)
            sent, sent_templates = sent + len(states), sent_templates + len(templates)
        return SyncReport(sent=sent, sent_templates=sent_templates)

    def send_forgotten(self, name: str, stamps: Iterable[RowStamp], state: PersonState) -> RowStamp:
        """Write that a person was forgotten; return the stamp of the row."""
        key = self._sealer.person_key(name, self._device)
        clocks = [one.clock for one in stamps if one.key == key]
        clocks += [seen.clock for known, seen in state.seen.items() if known == key]
        row = self._sealer.seal_forgotten(name, self._device, max(clocks, default=0) + 1)
        self._server.write([row])
        return row.stamp

    def offer_again(self, view: View, listing: Listing) -> None:
        """Have everything written again about people of whom the server has lost something."""
        states = {}
        for name in listing.lost:
            local, state = view.people.get(name), view.state(name)
            if local is not None:
                seen = {one.key: Seen.of(one) for one in listing.of(name)}
                states[name] = replace(state, seen=seen, version=local.entry.version - 1)
        self._applier.remember(states)

    def _wanted(self, view: View) -> list[tuple[str, Local]]:
        return [
            (name, local)
            for name, local in view.people.items()
            if (state := view.state(name)).revision is None
            or state.version != local.entry.version
            or self._not_there(name, local, state)
        ]

    def _not_there(self, name: str, local: Local, state: PersonState) -> bool:
        missing = {
            uid for uid in local.templates if self._sealer.template_key(name, uid) not in state.seen
        }
        # Templates that are of no use here are kept from the others.
        return bool(missing) and any(one.uid in missing for one in self._usable(local))

    def _rows_of(
        self, name: str, local: Local, state: PersonState
    ) -> tuple[list[FleetRow], PersonState]:
        entry = local.entry
        usable = {one.uid: one for one in self._usable(local) if one.uid in local.templates}
        rows = [
            self._sealer.seal_template(entry.uid, uid, usable[uid].stored, self._device)
            for uid in sorted(usable)
            if self._sealer.template_key(name, uid) not in state.seen
        ]
        revision = local_revision(entry, state, self._device)
        content = PersonContent(entry.uid, entry.person, revision, frozenset(usable))
        before = state.seen.get(self._sealer.person_key(name, self._device), Seen(0, ""))
        rows.append(self._sealer.seal_person(content, self._device, before.clock + 1))
        known = replace(
            state, revision=revision, version=entry.version, mark=mark_of(self._vault, entry.uid)
        )
        return rows, with_seen(known, *(row.stamp for row in rows))

    def _usable(self, local: Local) -> list[TemplateEntry]:
        with self._vault.reading():
            people = self._vault.people
            found = people.templates_of(local.entry.row_id)
            size = people.active.embedding_size
        return [one for one in found if one.stored.is_usable(size)]
