"""The preprocessings that discovery tries, and how a person writes one."""

from __future__ import annotations

import pytest

from edgeface.errors import InvalidInputError
from edgeface_export.architectures.network import Preprocessing
from edgeface_export.discovery.candidates import (
    NORMALISATIONS,
    Candidate,
    candidates,
    parse_preprocessing,
    same,
    written,
)

PLUS_MINUS_ONE = Preprocessing.uniform("RGB", 127.5, 127.5)


def test_without_a_trainer_every_order_is_tried_with_every_normalisation() -> None:
    names = [entry.name for entry in candidates()]
    assert len(names) == len(set(names)) == 2 * len(NORMALISATIONS)
    assert {"rgb:127.5/128", "bgr:imagenet", "rgb:0/255", "bgr:0/1"} <= set(names)


def test_what_the_trainer_implies_comes_first_and_is_not_tried_twice() -> None:
    tried = candidates(PLUS_MINUS_ONE)
    assert tried[0].name == "rgb:127.5/127.5"
    assert len(tried) == 2 * len(NORMALISATIONS)


def test_an_unheard_of_preprocessing_of_the_trainer_is_tried_as_well() -> None:
    own = Preprocessing("BGR", (91.5, 103.9, 131.1), (1.0, 1.0, 1.0))
    tried = candidates(own)
    assert tried[0].name == "bgr:91.5,103.9,131.1/1"
    assert tried[0].preprocessing == own
    assert len(tried) == 2 * len(NORMALISATIONS) + 1


@pytest.mark.parametrize("entry", candidates(), ids=lambda entry: entry.name)
def test_every_candidate_is_read_back_from_its_name_and_from_its_numbers(entry: Candidate) -> None:
    assert parse_preprocessing(entry.name) == entry
    assert same(
        parse_preprocessing(written(entry.preprocessing)).preprocessing, entry.preprocessing
    )


def test_imagenet_for_a_bgr_network_begins_with_blue() -> None:
    rgb, bgr = (parse_preprocessing(f"{order}:imagenet").preprocessing for order in ("rgb", "BGR"))
    assert rgb.mean == bgr.mean[::-1]
    assert rgb.mean[0] == pytest.approx(123.675)
    assert rgb.scale[0] == pytest.approx(58.395)


@pytest.mark.parametrize(
    "text",
    [
        "", "rgb", "rgb:", "127.5/128", "grb:127.5/128", "rgb:127.5", "rgb:127.5/0", "rgb:1,2/3",
        "rgb:nan/1", "rgb:inf/1", "rgb:127.5/-128", "rgb:unknown", "rgb:127.5/128;x", "rgb:1/1/1",
    ],
)  # fmt: skip
def test_what_is_no_preprocessing_is_refused_with_how_to_write_one(text: str) -> None:
    with pytest.raises(InvalidInputError, match="preprocessing"):
        parse_preprocessing(text)


def test_the_scale_by_128_and_by_127_5_are_not_the_same() -> None:
    assert not same(PLUS_MINUS_ONE, Preprocessing.uniform("RGB", 127.5, 128.0))
    assert not same(PLUS_MINUS_ONE, Preprocessing.uniform("BGR", 127.5, 127.5))
