"""Thresholds for searches: what is counted, what is carried beyond the data, what is refused."""

from __future__ import annotations

from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from edgeface.errors import InvalidInputError, MissingDependencyError, OperatingPointError
from edgeface.operating_points import covers
from edgeface_calibration.extreme_value import ParetoTail, TailModel
from edgeface_calibration.identification import (
    LabelledRows,
    false_positive_rate,
    search_scores,
    threshold_at_fpir,
)
from edgeface_calibration.protocol_file import read_point_protocol
from edgeface_calibration.search_points import PointOptions, SearchPoint, threshold_figures
from edgeface_calibration.search_resampling import Resampler
from edgeface_calibration.threshold_page import render_thresholds
from edgeface_calibration.threshold_report import ThresholdReport, interval_text, rate_text
from tests.unit.test_identification import people

OPTIONS = PointOptions(target_fpirs=(0.1, 0.02), gallery_sizes=(20, 100), n_resamples=60)


@pytest.fixture(scope="module")
def labelled() -> LabelledRows:
    return people(200, 2, size=12)


def test_every_size_and_rate_has_a_point_that_keeps_it(labelled: LabelledRows) -> None:
    figures = threshold_figures("fp32", labelled, OPTIONS)
    scores = search_scores(labelled)
    assert [(p.gallery_size, p.target) for p in figures.searches] == [
        (20, 0.1), (20, 0.02), (100, 0.1), (100, 0.02),
    ]  # fmt: skip
    for point in figures.searches:
        assert point.evidence == "measured"
        assert point.threshold is not None
        assert point.fpir is not None
        assert point.fpir_interval is not None
        assert point.fpir <= point.target
        assert point.fpir_interval.low <= point.fpir <= point.fpir_interval.high
        measured = false_positive_rate(scores, point.threshold, point.gallery_size)
        assert measured == pytest.approx(point.fpir)


def test_a_rate_below_one_error_is_refused_in_words(labelled: LabelledRows) -> None:
    options = replace(OPTIONS, target_fpirs=(0.001,), target_fmrs=(1e-7,))
    figures = threshold_figures("fp32", labelled, options)
    for point in (*figures.searches, *figures.comparisons):
        assert point.threshold is None
        assert point.evidence == "not enough data"
    assert "needs at least 1,000 people, there are 200" in figures.searches[0].note
    assert "comparisons of different people" in figures.comparisons[0].note
    assert figures.operating_points("test") == ()


def test_a_cautious_threshold_keeps_its_whole_interval_below_the_target(
    labelled: LabelledRows,
) -> None:
    expected, cautious = (
        threshold_figures("fp32", labelled, replace(OPTIONS, cautious=c)).searches[0]
        for c in (False, True)
    )
    assert expected.threshold is not None
    assert cautious.threshold is not None
    assert cautious.fpir_interval is not None
    assert expected.fpir_interval is not None
    assert cautious.threshold > expected.threshold
    assert cautious.fpir_interval.high <= 0.1 < expected.fpir_interval.high


def test_a_larger_gallery_than_was_compared_is_labelled_and_no_laxer(
    labelled: LabelledRows,
) -> None:
    options = replace(OPTIONS, target_fpirs=(0.05,), gallery_sizes=(150, 300, 2000, 1_000_000))
    # The fit needs 300 faces: there are 400.
    figures = threshold_figures("fp32", labelled, options)
    inside, near, far, beyond = figures.searches
    assert inside.evidence == "measured"
    assert near.is_extrapolated
    assert far.is_extrapolated
    assert "beyond the data" in far.note
    assert beyond.threshold is None
    assert "over 100 times" in beyond.note
    thresholds = [p.threshold for p in (inside, near, far) if p.threshold is not None]
    assert thresholds == sorted(thresholds)
    points = figures.operating_points("test")
    assert [p.extrapolated for p in points if p.gallery_size] == [False, True, True]


def test_operating_points_carry_what_they_hold_for(labelled: LabelledRows) -> None:
    figures = threshold_figures("int8", labelled, replace(OPTIONS, target_fmrs=(1e-2,)))
    single, *searches = figures.operating_points("office")
    assert single.gallery_size is None
    assert single.fnmr is not None
    assert len(searches) == 4
    for point in searches:
        assert point.artefact == "int8"
        assert point.protocol == "office; measured"
        assert point.target_fpir is not None
        assert point.gallery_size is not None
        assert point.target_fmr == pytest.approx(point.target_fpir / point.gallery_size)
        assert covers(point, point.gallery_size)
        assert not covers(point, point.gallery_size + 1)
        assert point.fpir_low is not None
        assert point.fpir_high is not None


def test_people_who_all_look_the_same_have_no_threshold() -> None:
    rows = np.tile(np.array([[0.6, 0.8]], np.float32), (60, 1))
    labelled = LabelledRows(rows, np.arange(60), 60)
    figures = threshold_figures("fp32", labelled, replace(OPTIONS, gallery_sizes=(10,)))
    assert figures.searches[0].threshold is None
    assert "score 1" in figures.searches[0].note


def test_one_person_under_two_names_is_pointed_out() -> None:
    labelled = people(40, 3, size=24, within=0.3)
    assert threshold_figures("fp32", labelled, OPTIONS).n_twins == 0
    names = labelled.subjects.copy()
    # A picture of each of two people stands under a new name too, the 41st and the 42nd.
    names[[2, 5]] = [40, 41]
    rows = labelled.rows.copy()
    rows[[2, 5]] = rows[[0, 3]]
    renamed = LabelledRows(rows, names, 42)
    figures = threshold_figures("fp32", renamed, OPTIONS)
    assert figures.n_twins == 2
    assert "2 pairs of people" in figures.twins_note


@pytest.mark.parametrize("shape", [0.0, -0.15, -0.4])
def test_the_tail_that_made_the_values_is_found(shape: float) -> None:
    chances = np.random.default_rng(0).random(40_000)
    true = ParetoTail(0.4, 1.0, 0.05, shape)
    values = np.array([true.score(chance) for chance in chances])
    fit = ParetoTail.fit(values, np.ones(len(values), np.int64), 0.4)
    assert fit.shape == pytest.approx(shape, abs=0.03)
    assert fit.scale == pytest.approx(0.05, rel=0.03)
    assert fit.chance(fit.score(1e-4)) == pytest.approx(1e-4)
    assert fit.chance(0.3) == fit.above


def test_a_value_drawn_twice_counts_twice_in_the_fit() -> None:
    values = np.random.default_rng(1).exponential(size=400)
    counts = np.random.default_rng(2).integers(0, 4, 400)
    weighted = ParetoTail.fit(values, counts, 0.1)
    repeated = np.repeat(values, counts)
    plain = ParetoTail.fit(repeated, np.ones(len(repeated), np.int64), 0.1)
    assert weighted.scale == pytest.approx(plain.scale, rel=1e-6)
    assert weighted.shape == pytest.approx(plain.shape, abs=1e-6)


def test_what_is_said_beyond_the_data_holds_when_the_people_come() -> None:
    """Thresholds for 1,500 enrolled from 400 people, judged on 3,000 others."""
    truth = search_scores(people(3000, 1, size=16, seed=50), smallest_gallery=100)
    held = 0
    for seed in range(8):
        scores = search_scores(people(400, 1, size=16, seed=seed), smallest_gallery=100)
        tail = TailModel.of(scores, Resampler.of(scores, n_resamples=60, seed=seed))
        threshold = tail.threshold(0.05, 1500)
        interval = tail.interval(threshold, 1500)
        held += interval.low <= false_positive_rate(truth, threshold, 1500) <= interval.high
    assert held >= 6


def test_a_rate_that_can_be_counted_is_not_fitted() -> None:
    scores = search_scores(people(400, 1, size=16))
    tail = TailModel.of(scores, Resampler.of(scores, n_resamples=20))
    threshold = tail.threshold(0.3, 450)
    assert not tail.is_fitted(threshold)
    assert tail.fpir(threshold, 450) <= 0.3
    chance = 1 - 0.7 ** (399 / 450)
    assert threshold == threshold_at_fpir(scores, chance, 399)


def test_a_fit_to_a_few_faces_is_refused() -> None:
    scores = search_scores(people(40, 2))
    with pytest.raises(OperatingPointError, match="300 faces, there are 80"):
        TailModel.of(scores, Resampler.of(scores, n_resamples=20))


@pytest.mark.parametrize(
    "wrong",
    [
        {"target_fpirs": (0.0,)},
        {"target_fmrs": (1.0,)},
        {"target_fpirs": (float("nan"),)},
        {"gallery_sizes": (0,)},
        {"templates": 0},
        {"n_resamples": 5},
        {"cohort_share": 0.9},
    ],
)
def test_options_out_of_range_are_refused(wrong: dict) -> None:
    with pytest.raises(InvalidInputError):
        PointOptions(**wrong)


@pytest.mark.parametrize(
    ("rate", "text"),
    [
        (None, "-"), (0.0, "0 %"), (1e-9, "< 0.00001 %"), (1.0, "100 %"), (0.5, "50 %"),
        (0.01, "1 %"), (0.01234, "1.23 %"), (0.0001, "0.01 %"), (9.996e-6, "0.001 %"),
        (0.1, "10 %"),
    ],
)  # fmt: skip
def test_rates_are_written_with_three_digits(rate: float | None, text: str) -> None:
    assert rate_text(rate) == text


def test_a_missing_interval_is_a_dash() -> None:
    assert interval_text(None) == "-"


def report(labelled: LabelledRows, name: str = "office") -> ThresholdReport:
    options = replace(OPTIONS, gallery_sizes=(50, 1000), target_fpirs=(0.05, 0.001))
    figures = threshold_figures("fp32", labelled, options)
    return ThresholdReport(name, "0" * 64, name, options, (figures,))


def test_the_page_shows_every_point_and_loads_nothing(labelled: LabelledRows) -> None:
    pytest.importorskip("matplotlib")
    made = report(labelled)
    page = render_thresholds(made)
    for point in made.artefacts[0].searches:
        if point.threshold is not None:
            assert f"{point.threshold:.4f}" in page
        assert point.evidence in page
    assert "http" not in page.replace("http-equiv", "")
    assert "<script" not in page
    assert page.count("data:image/svg+xml;base64,") == 2
    assert not made.complete


def test_a_hostile_name_is_shown_and_not_run(labelled: LabelledRows) -> None:
    pytest.importorskip("matplotlib")
    page = render_thresholds(report(labelled, "<script>alert(1)</script>"))
    assert "<script" not in page
    assert "&lt;script&gt;" in page


def test_a_search_point_of_one_person_is_a_comparison() -> None:
    assert not SearchPoint(1, 0.1, "measured").is_extrapolated


PROTOCOL = """
name = "Office"
images = ["faces", "more"]
landmarks = "marks.txt"
[points]
target_fpirs = [0.01]
gallery_sizes = [100, 1000]
cautious = true
"""


def test_a_protocol_file_is_read(tmp_path: Path) -> None:
    file = tmp_path / "office.toml"
    file.write_text(PROTOCOL, encoding="utf-8")
    read = read_point_protocol(file)
    assert read.name == "Office"
    assert read.images == (tmp_path / "faces", tmp_path / "more")
    assert read.landmarks == tmp_path / "marks.txt"
    assert read.pairs is None
    assert read.options == PointOptions(
        target_fpirs=(0.01,), gallery_sizes=(100, 1000), cautious=True
    )


@pytest.mark.parametrize(
    "text",
    [
        "name = 3",
        "nam = 'x'",
        "images = 4",
        "images = [4]",
        "[points]\ngallery_sizes = [1.5]",
        "[points]\ngallery_sizes = []",
        "[points]\ntemplates = true",
        "[points]\ncautious = 1",
        "[points]\ntarget_fpirs = ['a']",
        "[points]\nthreshold = 0.5",
        "points = 3",
        "not toml",
    ],
)
def test_a_wrong_protocol_file_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "wrong.toml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(InvalidInputError):
        read_point_protocol(file)


def test_a_protocol_file_that_is_missing_or_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="cannot be read"):
        read_point_protocol(tmp_path / "none.toml")
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InvalidInputError, match="cannot be read"):
        read_point_protocol(tmp_path / "bytes.toml")


def test_without_a_reader_of_toml_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.toml").write_text("", encoding="utf-8")
    monkeypatch.setattr("edgeface_calibration.protocol_file.find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r"edgeface\[report\]"):
        read_point_protocol(tmp_path / "a.toml")


def test_the_protocol_that_is_shipped_is_read() -> None:
    folder = files("edgeface_calibration.protocols")
    read = read_point_protocol(Path(str(folder / "lfw_search.toml")))
    assert read.options.gallery_sizes == (100, 1000, 3000)
    assert read.images == ()
