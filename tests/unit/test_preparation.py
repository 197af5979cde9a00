"""What an export does to a recognised network first."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from edgeface.types import Size
from edgeface_export import preparation as module
from edgeface_export.architectures.network import Preprocessing
from edgeface_export.architectures.recognition import Recognition
from edgeface_export.discovery import Candidate, Discovery, parse_preprocessing
from edgeface_export.discovery.norm_fit import NormState
from edgeface_export.preparation import Preparation, prepare
from tests.builders_export import MOBILEFACENETS, small_network

LAYOUT = MOBILEFACENETS["mobilefacenet-xiaoccer"]
NETWORK = small_network(preprocessing=Preprocessing.uniform("RGB", 127.5, 128))
FOUND = Recognition(LAYOUT, NETWORK, "", (), (), ())
BGR = parse_preprocessing("bgr:127.5/128")


def discovered(candidate: Candidate, *, agrees: bool = True) -> Discovery:
    return Discovery(
        name=candidate.name,
        preprocessing=candidate.preprocessing,
        template="arcface-112x96",
        crop_size=Size(12, 16),
        implied="rgb:127.5/128",
        agrees=agrees,
        ambiguous=(),
        tried=(),
        crops=(),
        faces=200,
        people=50,
        norms=NormState.KEPT,
        notes=("measured",),
        warnings=(),
        seconds=1.0,
    )


def with_discovery(monkeypatch: pytest.MonkeyPatch, result: Discovery) -> list[Any]:
    calls: list[Any] = []

    def discover(network: Any, faces: Any, **options: Any) -> Discovery:
        calls.append((network, faces, options))
        return result

    monkeypatch.setattr(module, "discover", discover)
    return calls


def test_nothing_said_changes_nothing() -> None:
    prepared = prepare(FOUND, Preparation())
    assert prepared.recognition is FOUND
    assert (prepared.notes, prepared.discovery) == ((), None)


def test_what_the_user_says_is_taken_and_a_contradiction_noted() -> None:
    prepared = prepare(FOUND, Preparation(preprocessing=BGR))
    assert prepared.recognition.network.preprocessing == BGR.preprocessing
    assert len(prepared.notes) == 1
    assert LAYOUT.trainer in prepared.notes[0]


def test_to_say_what_is_known_anyway_is_no_contradiction() -> None:
    same = parse_preprocessing("rgb:127.5/128")
    assert prepare(FOUND, Preparation(preprocessing=same)).notes == ()


def test_where_no_trainer_is_known_the_user_contradicts_nobody() -> None:
    assumed = replace(FOUND, assumed=True)
    assert prepare(assumed, Preparation(preprocessing=BGR)).notes == ()


def test_what_is_discovered_is_exported(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = with_discovery(monkeypatch, discovered(BGR))
    prepared = prepare(FOUND, Preparation(faces=lambda: "faces"))  # type: ignore[arg-type,return-value]
    network = prepared.recognition.network
    assert network.preprocessing == BGR.preprocessing
    assert network.alignment_template == "arcface-112x96"
    assert prepared.notes == ("measured",)
    assert calls[0][1] == "faces"
    assert calls[0][2]["assumed"] is False


def test_the_user_stands_against_discovery_and_it_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = with_discovery(
        monkeypatch, discovered(parse_preprocessing("rgb:127.5/128"), agrees=False)
    )
    both = Preparation(preprocessing=BGR, faces=lambda: "faces")  # type: ignore[arg-type,return-value]
    prepared = prepare(FOUND, both)
    assert prepared.recognition.network.preprocessing == BGR.preprocessing
    assert calls[0][0].preprocessing == BGR.preprocessing
    assert "kept, against what discovery found" in prepared.notes[-1]
    assert prepared.discovery is not None
