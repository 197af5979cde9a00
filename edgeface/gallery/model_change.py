"""Moving a gallery from one model to another, and back.

Templates of different models are never compared, so every person needs new ones. They are made
from the crops that people agreed to keep, or collected while both models run. Meanwhile the old
model stays the active one. The switch is one transaction; the old templates stay until they are
dropped, so that the way back is the same switch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from edgeface.errors import GalleryError, GalleryModelError, InvalidInputError
from edgeface.gallery.base import ReferenceCrop, TemplateSource, check_templates, short_id
from edgeface.gallery.ledger import Change
from edgeface.gallery.people import ACTIVE, INCOMING, PREVIOUS, ModelEntry, PersonEntry
from edgeface.gallery.records import StoredTemplate
from edgeface.gallery.transfer import crops_of
from edgeface.gallery.vault import Vault
from edgeface.gallery.writing import add_template
from edgeface.types import FloatArray, OperatingPoint, Template

__all__ = ["MakeTemplates", "ModelChange", "Outlook"]

MakeTemplates: TypeAlias = "Callable[[Sequence[ReferenceCrop]], Sequence[Template | None]]"
"""Makes a template of the new model from each crop, or None where that is not possible."""


@dataclass(frozen=True, slots=True)
class Outlook:
    """How one person would fare with the new model.

    ``templates`` counts those of the new model that are there or can be made; with none the
    person would be found no more. ``own_score`` is the lowest score between the person's
    templates of the new model, and None with fewer than two. ``confused_with`` names who the
    new model takes the person for, at its operating point. A margin is the own score less the
    highest with anybody else; those of two models are on different scales, and are for people
    to look at.
    """

    name: str
    templates: int
    crops: int
    own_score: float | None = None
    own_is_accepted: bool = True
    confused_with: tuple[str, ...] = ()
    margin_before: float | None = None
    margin_after: float | None = None

    @property
    def is_worse(self) -> bool:
        """Whether the new model would not find this person, or take the person for another."""
        return not self.templates or bool(self.confused_with) or not self.own_is_accepted


class ModelChange:
    """The move of one gallery to the model ``model_id``.

    Raises:
        GalleryModelError: The gallery has that model with another embedding size.
    """

    def __init__(self, vault: Vault, *, model_id: str, embedding_size: int) -> None:
        if not model_id or embedding_size < 1:
            raise InvalidInputError("a model needs an id and an embedding size of at least 1")
        self._vault = vault
        self._model_id = model_id
        self._size = embedding_size
        with vault.reading():
            known = vault.people.model_called(model_id)
        if known is not None and known.embedding_size != embedding_size:
            raise GalleryModelError(
                f"the gallery knows model {short_id(model_id)} with embedding size "
                f"{known.embedding_size}, got {embedding_size}"
            )

    @property
    def is_done(self) -> bool:
        """Whether the new model is the active one."""
        with self._vault.reading():
            return self._vault.people.active.model_id == self._model_id

    def lacking(self) -> list[str]:
        """Return who has no template of the new model yet, by name; inactive people count."""
        with self._vault.reading():
            target = self._target()
            counts = self._vault.people.counts(target.row_id) if target else {}
            entries = self._vault.people.subjects.values()
            return sorted(one.person.name for one in entries if not counts.get(one.row_id))

    def fill(self, make: MakeTemplates, *, artefact: str = "", at: str = "") -> Iterator[str]:
        """Make templates of everybody who lacks them and has crops; give each name when stored.

        Each person is stored in a change of their own: after an interruption the next call goes
        on where this one stopped.

        Raises:
            GalleryModelError: ``make`` gave templates of another model.
        """
        self._begin()
        for name in self.lacking():
            with self._vault.reading():
                entry = self._vault.people.find(name)
                crops = [] if entry is None else crops_of(self._vault, entry)
            made = self._made(make, [crop.face for crop in crops])
            if made:
                self.store(name, made, artefact=artefact, at=at)
                yield name

    def store(
        self, name: str, templates: Sequence[Template], *, artefact: str = "", at: str = ""
    ) -> None:
        """Store templates of the new model for a person, while the old one is still active.

        Raises:
            SubjectNotFoundError: Nobody has that name.
            GalleryModelError: A template is of another model.
        """
        check_templates(templates, model_id=self._model_id, embedding_size=self._size)
        self._begin()
        with self._vault.changing() as change:
            entry, target = self._vault.require(name), self._require_target()
            for template in templates:
                stored = StoredTemplate(
                    template.vector,
                    float(template.quality),
                    TemplateSource.IMAGE,
                    at or entry.person.created_at,
                    artefact,
                )
                add_template(self._vault.keys, change, entry, target, stored)

    def switch(self, *, allow_missing: bool = False) -> None:
        """Make the new model the active one; the old templates stay.

        Raises:
            GalleryError: Somebody has no template of the new model, and ``allow_missing`` is
                false.
        """
        lacking = self.lacking()
        if lacking and not allow_missing:
            raise GalleryError(
                f"{len(lacking)} people have no template of the new model yet; enrol them with it, "
                "let both models run for a while, or accept that they are found no more"
            )
        self._begin()
        with self._vault.changing() as change:
            target, active = self._require_target(), self._vault.people.active
            if target.row_id != active.row_id:
                _set_state(change, active, PREVIOUS)
                _set_state(change, target, ACTIVE)

    def drop_others(self) -> int:
        """Remove the templates of every model but the new, active one; return how many there were.

        There is no way back afterwards.

        Raises:
            GalleryError: The new model is not the active one yet.
        """
        if not self.is_done:
            raise GalleryError("the new model is not active yet; switch to it first")
        removed = 0
        with self._vault.changing() as change:
            people = self._vault.people
            for model in [one for one in people.models.values() if one.state != ACTIVE]:
                for row_id in people.template_rows_of_model(model.row_id):
                    change.delete("template", row_id)
                    removed += 1
                change.delete("model", model.row_id)
        self._vault.empty_log()
        return removed

    def outlook(self, make: MakeTemplates | None, point: OperatingPoint | None) -> list[Outlook]:
        """Return how everybody would fare, sorted by name; nothing is stored."""
        with self._vault.reading():
            people, target = self._vault.people, self._target()
            entries = sorted(people.subjects.values(), key=lambda one: one.person.name)
            before = [
                _stack([one.stored.vector for one in people.templates_of(entry.row_id)])
                for entry in entries
            ]
            crops = [crops_of(self._vault, entry) for entry in entries]
            stored = [self._stored(entry, target) for entry in entries]
        after = []
        for have, faces in zip(stored, crops, strict=True):
            made = [] if have or make is None else self._made(make, [one.face for one in faces])
            after.append(_stack(have or [one.vector for one in made]))
        names = [entry.person.name for entry in entries]
        own = [_own_score(rows) for rows in after]
        return [
            Outlook(
                name,
                len(after[k]),
                len(crops[k]),
                own_score=own[k],
                own_is_accepted=_accepts(point, own[k]),
                confused_with=_confused(after, k, names, point),
                margin_before=_margin(before, k),
                margin_after=_margin(after, k),
            )
            for k, name in enumerate(names)
        ]

    def _begin(self) -> None:
        with self._vault.reading():
            if self._target() is not None:
                return
        with self._vault.changing() as change:
            if self._target() is None:
                change.insert("model", self._model_id, self._size, INCOMING)

    def _target(self) -> ModelEntry | None:
        return self._vault.people.model_called(self._model_id)

    def _require_target(self) -> ModelEntry:
        target = self._target()
        if target is None:  # pragma: no cover - _begin has stored it
            raise GalleryError("the new model was dropped meanwhile; start again")
        return target

    def _stored(self, entry: PersonEntry, target: ModelEntry | None) -> list[FloatArray]:
        if target is None:
            return []
        entries = self._vault.people.templates_of(entry.row_id, target.row_id)
        return [one.stored.vector for one in entries]

    def _made(self, make: MakeTemplates, faces: Sequence[ReferenceCrop]) -> list[Template]:
        made = [] if not faces else [one for one in make(faces) if one is not None]
        check_templates(made, model_id=self._model_id, embedding_size=self._size)
        return made


def _set_state(change: Change, model: ModelEntry, state: str) -> None:
    change.update("model", model.row_id, model.model_id, model.embedding_size, state)


def _stack(vectors: Sequence[FloatArray]) -> FloatArray:
    return np.stack(vectors) if vectors else np.empty((0, 0), np.float32)


def _own_score(own: FloatArray) -> float | None:
    """Return the lowest score between (n, d) templates of one person; None below two."""
    return float((own @ own.T).min()) if len(own) > 1 else None


def _margin(people: Sequence[FloatArray], k: int) -> float | None:
    """Return the lowest score within person ``k`` less the highest with anybody else."""
    own = _own_score(people[k])
    others = [one for number, one in enumerate(people) if number != k and len(one)]
    if own is None or not others:
        return None
    return own - float((people[k] @ np.concatenate(others).T).max())


def _accepts(point: OperatingPoint | None, score: float | None) -> bool:
    return point is None or score is None or point.accepts(score)


def _confused(
    people: Sequence[FloatArray], k: int, names: Sequence[str], point: OperatingPoint | None
) -> tuple[str, ...]:
    if point is None or not len(people[k]):
        return ()
    return tuple(
        names[number]
        for number, other in enumerate(people)
        if number != k and len(other) and point.accepts(float((people[k] @ other.T).max()))
    )
