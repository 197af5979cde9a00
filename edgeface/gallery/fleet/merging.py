"""What becomes of a person that several devices wrote about. Pure functions.

The rules, which are also in docs/fleet.md: forgetting beats everything; of two records of a person
the newer revision wins; templates are the union of all; people of one name stay apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from edgeface.errors import GalleryIntegrityError, GalleryRollbackError
from edgeface.gallery.base import MAX_NAME_LENGTH
from edgeface.gallery.fleet.rows import PersonContent, Revision, RowKind, RowStamp
from edgeface.gallery.fleet.state import PersonState, Seen
from edgeface.gallery.people import PersonEntry
from edgeface.gallery.records import Person

__all__ = [
    "Local",
    "Merged",
    "apart",
    "check_history",
    "is_unseen",
    "local_revision",
    "lost_rows",
    "merge",
    "renamed",
]

_ADVICE = (
    "the server was put back to an earlier state, or rows were removed there; nothing was taken. "
    "If that was on purpose, `edgeface gallery sync --accept-loss` writes what this device has "
    "there again"
)


@dataclass(frozen=True, slots=True)
class Local:
    """A person of the replica, with the uids of the templates that others may have."""

    entry: PersonEntry
    templates: frozenset[bytes]


@dataclass(frozen=True, slots=True)
class Merged:
    """What the replica is to hold of a person that the server has something new about.

    ``person`` is the record and ``revision`` the one that the server has of it; ``is_ours`` says
    that the record is newer than that and must be written there. ``templates`` are the keys of
    the template rows that are not here yet, and ``stamps`` the rows that are then known.
    ``was_renamed`` says that the name was somebody else's.
    """

    name: str
    uid: bytes
    person: Person
    revision: Revision | None
    is_ours: bool
    templates: tuple[str, ...]
    stamps: tuple[RowStamp, ...]
    was_renamed: bool = False


def is_unseen(stamp: RowStamp, state: PersonState) -> bool:
    """Return whether the row of ``stamp`` is new, or was written again since it was read."""
    return state.seen.get(stamp.key) != Seen.of(stamp)


def lost_rows(stamps: Sequence[RowStamp], state: PersonState) -> set[str]:
    """Return the keys of rows of one person that are gone without reason, or older than they were.

    Rows go with a person who is forgotten, and never otherwise.
    """
    forgotten = any(one.kind == RowKind.FORGOTTEN for one in stamps)
    if state.forgotten:
        back = {
            one.key
            for one in stamps
            if one.kind != RowKind.FORGOTTEN
            and (seen := state.seen.get(one.key)) is not None
            and (one.clock < seen.clock or Seen.of(one) == seen)
        }
        return back if forgotten else back | {""}
    older = {
        one.key
        for one in stamps
        if (seen := state.seen.get(one.key)) is not None and one.clock < seen.clock
    }
    return older if forgotten else older | (state.seen.keys() - {one.key for one in stamps})


def check_history(lost: Mapping[str, set[str]], rolled_back: bool) -> None:
    """Return if nothing is lost.

    Raises:
        GalleryRollbackError: Rows are there that are older than this device has seen them, or
            that were removed with a forgotten person.
        GalleryIntegrityError: Rows that this device has seen are gone.
    """
    count = sum(len(keys) for keys in lost.values())
    if not count:
        return
    kind = GalleryRollbackError if rolled_back else GalleryIntegrityError
    what = "older than this device has seen them" if rolled_back else "gone"
    raise kind(f"{count} rows of the fleet's server are {what}: {_ADVICE}")


def local_revision(entry: PersonEntry, state: PersonState | None, device: str) -> Revision:
    """Return the revision of the record in the replica."""
    if state is None or state.revision is None:
        return Revision(entry.version, device)
    changes = entry.version - state.version
    return state.revision if changes == 0 else Revision(state.revision.clock + changes, device)


def merge(
    name: str,
    local: Local | None,
    state: PersonState,
    contents: Iterable[PersonContent],
    device: str,
) -> Merged:
    """Return what becomes of a person, without the templates and stamps.

    ``contents`` are the person rows that were not seen before: at least one where ``local`` is
    None.
    """
    versions = [(content.revision, content.person, content.uid) for content in contents]
    known = [revision for revision, _, _ in versions]
    newest = max([*known, *([] if state.revision is None else [state.revision])], default=None)
    if local is not None:
        entry = local.entry
        revision = local_revision(entry, state, device)
        # First: of equal revisions the one that is here stays.
        versions.insert(0, (revision, entry.person, entry.uid))
    best = max(versions, key=lambda one: one[0])
    is_ours = local is not None and best is versions[0] and best[0] != newest
    return Merged(name, best[2], best[1], newest, is_ours, (), ())


def apart(people: Mapping[str, tuple[bytes, Person]]) -> dict[str, str]:
    """Return new names for people who have one of another, by what they are called on the server.

    Who was enrolled first keeps the name, by the time and then by the uid: every device finds the
    same without asking.
    """
    taken: dict[str, list[str]] = {}
    for key, (_, person) in people.items():
        taken.setdefault(person.name, []).append(key)
    renamed: dict[str, str] = {}
    for name, keys in list(taken.items()):
        later = sorted(keys, key=lambda key: (people[key][1].created_at, people[key][0]))[1:]
        for key in later:
            renamed[key] = new = _free_name(name, people[key][0].hex(), taken)
            taken[new] = [key]
    return renamed


def _free_name(name: str, digits: str, taken: Mapping[str, object]) -> str:
    for length in (6, 12, len(digits)):
        end = f" ({digits[:length]})"
        new = name[: MAX_NAME_LENGTH - len(end)].rstrip() + end
        if new not in taken:
            return new
    raise GalleryIntegrityError("two people of the fleet have one uid; remove one of them")


def renamed(merged: Merged, new_name: str) -> Merged:
    """Return ``merged`` under another name, which the server must be told."""
    return replace(
        merged, person=replace(merged.person, name=new_name), is_ours=True, was_renamed=True
    )
