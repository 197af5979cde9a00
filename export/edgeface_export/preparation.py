"""What an export does to a recognised network first: whose preprocessing it gets, and why."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from edgeface.types import FloatArray
from edgeface_export.architectures.network import Network
from edgeface_export.architectures.recognition import Recognition
from edgeface_export.discovery import (
    Candidate,
    Discovery,
    DiscoveryOptions,
    LabelledFaces,
    discover,
)
from edgeface_export.discovery.candidates import same
from edgeface_export.graph.mirror import NONE

__all__ = ["FaceLoader", "Preparation", "Prepared", "prepare"]

FaceLoader: TypeAlias = Callable[[], LabelledFaces]
"""Returns the labelled faces of a discovery."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Preparation:
    """What the user says, or has measured, about how crops are prepared.

    ``preprocessing`` replaces the recognised trainer's. ``faces`` are labelled faces to find it
    out with; with both, discovery is a check of what the user said. ``loss`` names the loss of
    the training, ``flip`` how the mirrored crop is joined in the graph: ``none``, ``sum`` or
    ``concatenate``.
    """

    preprocessing: Candidate | None = None
    loss: str | None = None
    flip: str = NONE
    faces: FaceLoader | None = None
    discovery: DiscoveryOptions = field(default_factory=DiscoveryOptions)


@dataclass(frozen=True, slots=True)
class Prepared:
    """The recognition with the preprocessing to export, sentences for the verdict, and evidence."""

    recognition: Recognition
    notes: tuple[str, ...] = ()
    discovery: Discovery | None = None


def prepare(
    recognition: Recognition,
    preparation: Preparation,
    tensors: Mapping[str, FloatArray] | None = None,
) -> Prepared:
    """Return ``recognition`` with the preprocessing that was said or found.

    ``tensors`` are the checkpoint's.

    Raises:
        GateFailedError: Discovery found that the network tells nobody apart.
        InvalidInputError: The faces of the discovery are too few.
    """
    said, notes = preparation.preprocessing, list[str]()
    if said is not None:
        recognition, notes = _said(recognition, said)
    if preparation.faces is None:
        return Prepared(recognition, tuple(notes))
    found = discover(
        recognition.network,
        preparation.faces(),
        tensors=tensors,
        assumed=recognition.assumed and said is None,
        options=preparation.discovery,
    )
    if said is None:
        network = replace(
            recognition.network,
            preprocessing=found.preprocessing,
            crop_size=found.crop_size,
            alignment_template=found.template,
        )
        return Prepared(_with(recognition, network), found.notes, found)
    return Prepared(recognition, (*notes, *found.notes, *_against(said, found)), found)


def _said(recognition: Recognition, said: Candidate) -> tuple[Recognition, list[str]]:
    network, notes = recognition.network, list[str]()
    if not recognition.assumed and not same(said.preprocessing, network.preprocessing):
        notes.append(
            f"the preprocessing {said.name} was given by hand; the recognised trainer, "
            f"{recognition.layout.trainer}, uses {network.preprocessing}"
        )
    return _with(recognition, replace(network, preprocessing=said.preprocessing)), notes


def _against(said: Candidate, found: Discovery) -> tuple[str, ...]:
    if found.agrees:
        return ()
    return (f"{said.name} was given by hand and kept, against what discovery found",)


def _with(recognition: Recognition, network: Network) -> Recognition:
    return replace(recognition, network=network)
