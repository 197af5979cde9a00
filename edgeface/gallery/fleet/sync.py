"""One exchange between a replica and the server of its fleet.

First the server is read and checked, then the replica is changed, then the server. Each step may
end in the middle: what is done stays done, and the next exchange does the rest.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace

from edgeface.errors import SubjectNotFoundError
from edgeface.gallery.fleet.applying import Applier, Templates
from edgeface.gallery.fleet.listing import ROWS_AT_ONCE, Listing, ServerReader, parts
from edgeface.gallery.fleet.merging import Local, Merged, apart, is_unseen, merge, renamed
from edgeface.gallery.fleet.report import SyncReport
from edgeface.gallery.fleet.rows import RowKind, RowSealer, RowStamp
from edgeface.gallery.fleet.sending import Sender
from edgeface.gallery.fleet.server import FleetServer
from edgeface.gallery.fleet.state import (
    FleetMemory,
    Membership,
    PersonState,
    join_fleet,
    with_seen,
)
from edgeface.gallery.fleet.view import View, mark_of, read_view
from edgeface.gallery.sqlite import SqliteGallery

__all__ = ["FleetSync"]

# People who change here while they are exchanged are tried again so often.
_MOST_PASSES = 3


class FleetSync:
    """Exchanges one replica with one server. Not for use from several threads at once."""

    def __init__(self, replica: SqliteGallery, server: FleetServer, member: Membership) -> None:
        self._replica = replica
        self._vault = replica.vault
        self._server = server
        self._key = member.key
        self._sealer = RowSealer(member.key, replica.model_id, replica.embedding_size)
        self._memory = FleetMemory(self._vault.keys, member.key, replica.model_id)
        self._applier = Applier(self._vault, self._memory)
        self._reader = ServerReader(server, self._sealer)
        self._be(member.device)

    def run(self, *, accept_loss: bool = False) -> SyncReport:
        """Bring the replica and the server together; return what that took.

        ``accept_loss`` goes on where the server has lost rows or was put back, and writes there
        what this device has.

        Raises:
            FleetUnavailableError: The server did not answer; what was done so far stays.
            GalleryIntegrityError: The server gave something that no device wrote, or has lost
                rows. Its people were not taken.
            GalleryRollbackError: The server gave rows that are older than they were.
            GalleryModelError: It gave rows of another model, or the gallery was moved to one.
        """
        total = SyncReport()
        for _ in range(_MOST_PASSES):
            total = total + self._pass(accept_loss=accept_loss)
            if not total.waiting:
                break
        return total

    def _be(self, device: str) -> None:
        self._device = device
        self._sender = Sender(self._vault, self._server, self._sealer, self._applier, device)

    def _view(self) -> View:
        return read_view(self._vault, self._memory, self._sealer)

    def _pass(self, *, accept_loss: bool) -> SyncReport:
        view = self._view()
        listing = self._reader.read(view, accept_loss=accept_loss)
        if self._is_cloned(view, listing):
            # Another machine has a copy of this gallery, or it was restored: rows under the old
            # name are another device's from now on.
            with self._vault.changing() as change:
                member = join_fleet(self._vault.keys, change, self._key)
            self._be(member.device)
        report = self._forget(view, listing)
        report = report + self._take(view, listing)
        waiting = report.waiting
        if listing.lost:
            self._sender.offer_again(self._view(), listing)
        report = report + self._sender.send(self._view())
        return replace(report, waiting=waiting)

    def _is_cloned(self, view: View, listing: Listing) -> bool:
        """Return whether somebody else writes under this device's name."""
        return any(
            stamp.device == self._device
            and not view.was_forgotten_here(name)
            and (name not in view.people or content.person != view.people[name].entry.person)
            for name, contents in listing.contents.items()
            for stamp, content in contents
        )

    def _forget(self, view: View, listing: Listing) -> SyncReport:
        """Forget, on both sides, who was forgotten on either."""
        forgotten = sent = 0
        for name in sorted({*listing.stamps, *view.states}):
            state, there = view.state(name), listing.is_forgotten(name)
            if not there and not state.forgotten and not view.was_forgotten_here(name):
                continue
            stamps = listing.of(name)
            if not there:
                own = self._sender.send_forgotten(name, stamps, state)
                stamps = [*(one for one in stamps if one.key != own.key), own]
                sent += 1
            local = view.people.get(name)
            if local is not None:
                self._forget_here(local)
                forgotten += 1
            self._finish_forgetting(name, stamps, state, local)
        return SyncReport(forgotten=forgotten, sent_forgotten=sent)

    def _finish_forgetting(
        self, name: str, stamps: Sequence[RowStamp], state: PersonState, local: Local | None
    ) -> None:
        live = [one.key for one in stamps if one.kind != RowKind.FORGOTTEN]
        if live:
            self._server.delete(live)
        if not state.forgotten or any(is_unseen(one, state) for one in stamps):
            mark = state.mark if local is None else mark_of(self._vault, local.entry.uid)
            done = PersonState(mark=mark, seen=state.seen, forgotten=True)
            self._applier.remember({name: with_seen(done, *stamps)})

    def _forget_here(self, local: Local) -> None:
        # The person may have another name by now, or be gone.
        with self._vault.reading():
            entry = self._vault.people.subjects.with_uid(local.entry.uid)
        if entry is not None:
            with contextlib.suppress(SubjectNotFoundError):
                self._replica.forget(entry.person.name)

    def _take(self, view: View, listing: Listing) -> SyncReport:
        """Bring into the replica what the others wrote."""
        merged = self._merged(view, listing)
        known = [one for one in merged if one.name in view.people]
        new = [one for one in merged if one.name not in view.people]
        # Names may go in a ring: everybody who is here already changes at once.
        triples = [(one, view.people[one.name], view.state(one.name)) for one in known]
        if known and self._applier.change(triples, self._templates(known, listing)):
            return SyncReport(waiting=len(merged))
        waiting: set[str] = set()
        for part in parts(new, ROWS_AT_ONCE):
            pairs = [(one, view.state(one.name)) for one in part]
            waiting |= set(self._applier.add(pairs, self._templates(part, listing)))
        done = [one for one in merged if one.name not in waiting]
        return SyncReport(
            added=len(new) - len(waiting),
            changed=sum(one.person != local.entry.person for one, local, _ in triples),
            templates=sum(len(one.templates) for one in done),
            renamed=tuple(one.person.name for one in done if one.was_renamed),
            waiting=len(waiting),
        )

    def _templates(self, people: Sequence[Merged], listing: Listing) -> Templates:
        return self._reader.templates([key for one in people for key in one.templates], listing)

    def _merged(self, view: View, listing: Listing) -> list[Merged]:
        found: dict[str, Merged] = {}
        for name in listing.stamps:
            one = self._merged_person(view, listing, name)
            if one is not None:
                found[name] = one
        everybody = {
            name: (local.entry.uid, local.entry.person)
            for name, local in view.people.items()
            if not listing.is_forgotten(name)
        }
        everybody |= {name: (one.uid, one.person) for name, one in found.items()}
        for name, new_name in apart(everybody).items():
            found[name] = renamed(found.get(name) or _as_it_is(view, name), new_name)
        return list(found.values())

    def _merged_person(self, view: View, listing: Listing, name: str) -> Merged | None:
        state, local = view.state(name), view.people.get(name)
        is_gone = state.forgotten or listing.is_forgotten(name) or view.was_forgotten_here(name)
        opened = listing.contents.get(name, [])
        # Templates whose record is not there yet: their device has not finished.
        if is_gone or (local is None and not opened):
            return None
        uids = local.templates if local else frozenset()
        have = {self._sealer.template_key(name, uid) for uid in uids}
        templates = [one for one in listing.of(name) if one.kind == RowKind.TEMPLATE]
        wanted = tuple(one.key for one in templates if one.key not in have)
        unseen = [stamp for stamp, _ in opened]
        unseen += [one for one in templates if is_unseen(one, state)]
        if not unseen and not wanted:
            return None
        contents = [content for _, content in opened]
        merged = merge(name, local, state, contents, self._device)
        return replace(merged, templates=wanted, stamps=tuple(unseen))


def _as_it_is(view: View, name: str) -> Merged:
    entry, revision = view.people[name].entry, view.state(name).revision
    return Merged(name, entry.uid, entry.person, revision, True, (), ())
