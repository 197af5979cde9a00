"""What the server of a fleet has, read and checked before anything of it is believed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from edgeface.errors import FleetUnavailableError, GalleryRollbackError
from edgeface.gallery.fleet.merging import check_history, is_unseen, lost_rows
from edgeface.gallery.fleet.rows import FleetRow, PersonContent, RowKind, RowSealer, RowStamp
from edgeface.gallery.fleet.server import FleetServer
from edgeface.gallery.fleet.view import View
from edgeface.gallery.records import StoredTemplate

__all__ = ["ROWS_AT_ONCE", "Listing", "ServerReader", "parts"]

ROWS_AT_ONCE = 64
"""Rows, or people, that are exchanged at once."""
_Value = TypeVar("_Value")


@dataclass(slots=True)
class Listing:
    """Stamps by person, what the person rows hold that are new here, and which rows are lost."""

    stamps: dict[str, list[RowStamp]]
    contents: dict[str, list[tuple[RowStamp, PersonContent]]] = field(default_factory=dict)
    lost: dict[str, set[str]] = field(default_factory=dict)

    def of(self, name: str) -> list[RowStamp]:
        """Return the stamps of a person."""
        return self.stamps.get(name, [])

    def is_forgotten(self, name: str) -> bool:
        """Return whether a device has written that the person was forgotten."""
        return any(one.kind == RowKind.FORGOTTEN for one in self.of(name))


class ServerReader:
    """Reads one server; what it gives is checked against what the device has seen."""

    def __init__(self, server: FleetServer, sealer: RowSealer) -> None:
        self._server = server
        self._sealer = sealer

    def read(self, view: View, *, accept_loss: bool) -> Listing:
        """Return what the server has; with ``accept_loss`` also where rows are lost.

        Raises:
            GalleryIntegrityError: A row was changed or moved, or rows are gone.
            GalleryRollbackError: Rows are older than this device has seen them.
            GalleryModelError: A row belongs to another model.
            FleetUnavailableError: The server did not answer.
        """
        listing = self._listed(view)
        if listing.lost and not accept_loss:
            # A listing is not of one moment: a person may have been forgotten in the middle.
            listing = self._listed(view)
            is_back = any(
                keys & {one.key for one in listing.of(name)} for name, keys in listing.lost.items()
            )
            check_history(listing.lost, rolled_back=is_back)
        self._open_people(view, listing)
        if not accept_loss:
            self._check_templates(view, listing)
        return listing

    def templates(
        self, keys: Sequence[str], listing: Listing
    ) -> dict[str, tuple[bytes, StoredTemplate]]:
        """Return the templates of ``keys`` with their uids."""
        rows = self._fetched(keys, listing)
        return {row.stamp.key: self._sealer.open_template(row) for row in rows}

    def _listed(self, view: View) -> Listing:
        stamps: dict[str, list[RowStamp]] = {}
        for stamp in self._server.stamps():
            self._sealer.require_model(stamp)
            stamps.setdefault(stamp.person, []).append(stamp)
        listing = Listing(stamps)
        for name in view.states:
            lost = lost_rows(listing.of(name), view.state(name))
            if lost:
                listing.lost[name] = lost
        return listing

    def _open_people(self, view: View, listing: Listing) -> None:
        wanted = [
            stamp.key
            for name, stamps in listing.stamps.items()
            for stamp in stamps
            if stamp.kind != RowKind.TEMPLATE
            and (is_unseen(stamp, view.state(name)) or name in listing.lost)
        ]
        for row in self._fetched(wanted, listing):
            if row.stamp.kind == RowKind.FORGOTTEN:
                self._sealer.open_forgotten(row)
            else:
                opened = (row.stamp, self._sealer.open_person(row))
                listing.contents.setdefault(row.stamp.person, []).append(opened)

    def _fetched(self, keys: Sequence[str], listing: Listing) -> Iterator[FleetRow]:
        """Give the rows of ``keys``; one that was written again meanwhile as it is now."""
        listed = {one.key: one for stamps in listing.stamps.values() for one in stamps}
        for part in parts(keys, ROWS_AT_ONCE):
            found = {row.stamp.key: row for row in self._server.fetch(part)}
            if found.keys() != set(part):
                raise FleetUnavailableError(
                    "the fleet's server changed while it was read, or gave other rows than it was "
                    "asked for; try again"
                )
            for key, row in found.items():
                if (row.stamp.person, row.stamp.clock) < (listed[key].person, listed[key].clock):
                    raise GalleryRollbackError(
                        "the fleet's server gave an older row than it had a moment ago; nothing "
                        "of it was taken"
                    )
                yield row

    def _check_templates(self, view: View, listing: Listing) -> None:
        """Check that the server has every template that a new record speaks of."""
        lost: dict[str, set[str]] = {}
        for name, contents in listing.contents.items():
            if listing.is_forgotten(name):
                continue
            here = view.people[name].templates if name in view.people else frozenset()
            wanted = {uid for _, content in contents for uid in content.templates} - here
            missing = {self._sealer.template_key(name, uid) for uid in wanted}
            missing -= {one.key for one in listing.of(name)}
            if missing:
                lost[name] = missing
        check_history(lost, rolled_back=False)


def parts(values: Sequence[_Value], size: int) -> Iterator[Sequence[_Value]]:
    """Give ``values`` in parts of ``size``."""
    for start in range(0, len(values), size):
        yield values[start : start + size]
