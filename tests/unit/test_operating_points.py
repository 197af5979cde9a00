"""Which threshold holds for how many enrolled people."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgeface.errors import InvalidInputError, OperatingPointError
from edgeface.manifest import Manifest, manifest_from_json, manifest_to_json
from edgeface.operating_points import chosen_for_gallery, covers, expected_fpir, outgrown
from edgeface.types import OperatingPoint

PLAIN = OperatingPoint(0.5, 1e-4, "fp32", "pairs")


def point(size: int, threshold: float, *, target: float = 0.01, **extra: object) -> OperatingPoint:
    return OperatingPoint(
        threshold, target / size, "fp32", "office", target_fpir=target, gallery_size=size,
        **extra,  # type: ignore[arg-type]
    )  # fmt: skip


POINTS = (PLAIN, point(100, 0.40), point(1000, 0.47), point(1000, 0.55, target=0.001))


@pytest.mark.parametrize(
    ("n_enrolled", "target", "threshold"),
    [
        (0, 0.01, 0.40),
        (1, 0.01, 0.40),
        (100, 0.01, 0.40),
        (101, 0.01, 0.47),
        (1000, 0.01, 0.47),
        (100, 0.001, 0.55),
        (100, 0.5, 0.40),
    ],
)
def test_the_lowest_threshold_that_keeps_the_rate_is_chosen(
    n_enrolled: int, target: float, threshold: float
) -> None:
    chosen = chosen_for_gallery(POINTS, "fp32", target_fpir=target, gallery_size=n_enrolled)
    assert chosen.threshold == threshold


@pytest.mark.parametrize(
    ("points", "artefact", "n_enrolled", "target", "says"),
    [
        (POINTS, "fp32", 1001, 0.01, "hold up to 1,000"),
        (POINTS, "int8", 5, 0.01, "there is none"),
        (POINTS, "fp32", 5, 1e-5, "there is none"),
        ((PLAIN,), "fp32", 5, 0.01, "there is none"),
        ((), "fp32", 0, 0.01, "there is none"),
    ],
)
def test_a_gallery_that_no_point_covers_is_refused(
    points: tuple[OperatingPoint, ...], artefact: str, n_enrolled: int, target: float, says: str
) -> None:
    with pytest.raises(OperatingPointError, match=says):
        chosen_for_gallery(points, artefact, target_fpir=target, gallery_size=n_enrolled)


@pytest.mark.parametrize(("size", "target"), [(-1, 0.01), (5, 0.0), (5, 1.0), (5, float("nan"))])
def test_a_question_that_makes_no_sense_is_refused(size: int, target: float) -> None:
    with pytest.raises(InvalidInputError):
        chosen_for_gallery(POINTS, "fp32", target_fpir=target, gallery_size=size)


def test_an_outgrown_point_is_said_to_be() -> None:
    assert outgrown(point(100, 0.4), 100) is None
    assert outgrown(PLAIN, 1) is None
    assert outgrown(PLAIN, 0) is None
    assert "up to 100 enrolled" in str(outgrown(point(100, 0.4), 101))
    # 1e-4 in one comparison is 9.5 % of strangers with 1,000 enrolled.
    assert "9.52%" in str(outgrown(PLAIN, 1000))


def test_the_expected_rate_is_that_of_independent_comparisons() -> None:
    assert expected_fpir(1e-4, 1000) == pytest.approx(0.0952, abs=1e-4)
    assert expected_fpir(0.0, 10**9) == 0.0
    assert expected_fpir(1.0, 1) == 1.0
    for wrong in ((-0.1, 5), (1.1, 5), (float("nan"), 5), (0.1, -1)):
        with pytest.raises(InvalidInputError):
            expected_fpir(*wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        {"target_fpir": 0.01},
        {"gallery_size": 5},
        {"target_fpir": 0.01, "gallery_size": 0},
        {"target_fpir": float("nan"), "gallery_size": 5},
        {"fpir_low": -0.1},
        {"fnir": 1.5},
    ],
)
def test_a_point_for_searches_is_whole_or_refused(wrong: dict) -> None:
    with pytest.raises(InvalidInputError):
        OperatingPoint(0.5, 1e-4, "fp32", "pairs", **wrong)


def test_covers_wants_a_point_that_says_what_it_holds_for() -> None:
    assert not covers(PLAIN, 0)
    assert covers(point(7, 0.4), 7)
    assert not covers(point(7, 0.4), 8)


def test_points_for_searches_survive_the_manifest(sample_manifest: Manifest) -> None:
    points = (PLAIN, point(10_000, 0.6, fpir_low=0.002, fpir_high=0.03, fnir=0.2,
                           extrapolated=True))  # fmt: skip
    written = manifest_to_json(replace(sample_manifest, operating_points=points))
    assert manifest_from_json(written).operating_points == points


def test_a_manifest_without_the_fields_for_searches_is_read(sample_manifest: Manifest) -> None:
    written = manifest_to_json(replace(sample_manifest, operating_points=(PLAIN,)))
    lines = [
        line for line in written.splitlines()
        if not any(f'"{name}"' in line for name in
                   ("target_fpir", "gallery_size", "fpir_low", "fpir_high", "fnir", "extrapolated"))
    ]  # fmt: skip
    text = "\n".join(lines).replace('"fnmr": null,', '"fnmr": null,')
    assert manifest_from_json(text).operating_points == (PLAIN,)


@pytest.fixture
def sample_manifest() -> Manifest:
    from edgeface.manifest import Artefact, ModelSource, Verdict
    from edgeface.types import Size

    digest = "0" * 64
    return Manifest(
        model_id=digest,
        name="m",
        embedding_size=4,
        crop_size=Size(112, 112),
        alignment_template="arcface-112x112",
        source=ModelSource("m.pt", digest, "pt", "net"),
        artefacts=(Artefact("fp32", "model.fp32.onnx", digest, 1, "float32"),),
        verdict=Verdict("passed"),
    )


def test_scores_that_are_no_numbers_are_never_accepted() -> None:
    chosen = chosen_for_gallery(POINTS, "fp32", target_fpir=0.01, gallery_size=5)
    assert not chosen.accepts(float("nan"))
    assert chosen.accepts(float(np.float32(0.4001)))
