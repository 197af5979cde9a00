"""The report page: what it says, what it leaves out, and how it writes numbers."""

from __future__ import annotations

import itertools
import math
import re
from dataclasses import replace

import pytest

from edgeface.errors import InvalidInputError
from edgeface.manifest import Verdict

pytest.importorskip("onnx")

from edgeface_export.html_report import markup, render_report
from edgeface_export.html_report.schema import Report
from tests.html_report_sample import (
    COSINES,
    data_free,
    edited,
    full_report,
    gate,
    manifest,
    page_of,
    plain,
    report_of_today,
)

# What it says


def test_the_page_says_passed_first_then_the_figures() -> None:
    page = page_of(full_report())
    assert page.text.index("Passed") < page.text.index("What was exported")
    for said in ("0.997", "-0.13", "2.88x", "3.48x", "100 %"):
        assert said in page.text


def test_a_data_free_bundle_says_so_in_its_heading_and_on_its_charts() -> None:
    page = page_of({"cosines": COSINES}, data_free())
    assert "Passed, data-free" in page.text
    assert "Measured without pictures of real faces." in page.text
    assert page.text.count("Tried on 64 synthetic pictures.") == 1
    assert "another" in page.text


def test_a_data_free_bundle_that_was_tried_on_faces_is_not_said_to_be_tried_on_none() -> None:
    page = page_of({"cosines": COSINES, "faces": True}, data_free())
    assert "Measured without" not in page.text
    assert "none tried them" not in page.text


def test_one_failed_gate_makes_the_page_say_failed_and_which() -> None:
    report = full_report()
    report["gate_results"].append(gate("INT8 cosine, p1", 0.41, "at least", 0.92, passed=False))
    page = page_of(report)
    assert "Failed" in page.text
    assert "1 of 3 gates failed: INT8 cosine, p1." in page.text
    assert "Passed" not in page.text


def test_a_verdict_that_is_not_passed_is_failed() -> None:
    assert "Failed" in page_of({}, manifest(verdict=Verdict("failed"), artefacts=())).text


def test_int8_that_is_slower_is_said_to_be_slower() -> None:
    page = page_of(report_of_today())
    assert "0.73x" in page.text
    assert "the speed of plain FP32: slower" in page.text


def test_a_float_export_speaks_of_no_int8() -> None:
    figures = {"parity_max_difference": 1.5e-7}
    of = manifest(artefacts=manifest().artefacts[:1], verdict=Verdict("passed", figures=figures))
    page = page_of({"figures": figures}, replace(of, operating_points=()))
    assert "A float export" in page.text
    assert "INT8" not in page.text


def test_a_gate_shows_figure_limit_and_outcome() -> None:
    page = page_of(full_report())
    assert "2.119 x 10⁻⁷ at most 1 x 10⁻⁵ passed" in page.text
    assert "0.9968 at least 0.95 passed" in page.text


def test_the_layers_are_listed_with_the_worst_first_and_float_named() -> None:
    text = page_of(full_report()).text
    assert text.index("linear7.conv") < text.index("blocks.0.conv.6") < text.index("4 more layers")
    assert "1 stays in float." in text
    assert "11.6 % INT8" in text


def test_a_rate_that_the_pairs_cannot_tell_is_not_given() -> None:
    text = page_of(full_report()).text
    assert "too few pairs to tell" in text
    assert "97.90 to 98.80 % -0.13 points to FP32" in text


def test_a_provisional_threshold_is_marked() -> None:
    assert "33.0 %" not in page_of(full_report()).text
    assert "0.330 not measured provisional" in page_of(full_report()).text


# What it leaves out


def test_an_empty_report_is_a_page_with_what_the_manifest_knows() -> None:
    page = page_of({})
    assert "Passed" in page.text
    assert "Evidence" not in page.text
    assert "What was tried" not in page.text
    assert page.text.count("model.fp32.onnx") == 2


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("cosines", "Is it the same embedding?"),
        ("pair_scores", "Do the scores of pairs move?"),
        ("verification", "Does it still tell people apart?"),
        ("sensitivity", "Which layers are sensitive?"),
        ("speed", "How fast is it?"),
        ("ladder", "What was tried"),
        ("activation_set", "Activation set"),
        ("exported_at", "Exported"),
        ("discovery", "How the preprocessing was found"),
        ("preprocessing", "Preprocessing"),
    ],
)
def test_a_part_that_is_missing_is_left_out_alone(key: str, said: str) -> None:
    whole = full_report()
    parts = {other: value for other, value in whole.items() if other != key}
    assert said in page_of(whole).text
    assert said not in page_of(parts).text
    for empty in (None, type(whole[key])()):
        assert said not in page_of(parts | {key: empty}).text


def test_the_sentences_of_the_gates_stand_where_there_is_no_table_of_them() -> None:
    assert "parity to the checkpoint 2.12e-07" in page_of(report_of_today()).text


def test_times_without_plain_fp32_give_no_ratio() -> None:
    report = full_report()
    report["speed"] = [row for row in report["speed"] if row["artefact"] != "fp32"]
    assert "How fast is it?" not in page_of(report).text


def test_every_key_of_the_schema_is_tried_here() -> None:
    assert set(full_report()) | {"faces", "refusal"} == set(Report.__annotations__)


def test_a_failed_page_says_what_ended_the_export_and_what_to_do() -> None:
    failed = manifest(verdict=Verdict("failed"), artefacts=())
    advice = "give more faces"
    gates = [gate("INT8 cosine, mean", 0.9, "at least", 0.99, passed=False) | {"advice": advice}]
    page = page_of({"gate_results": gates, "refusal": "unseen"}, failed)
    assert "1 of 1 gates failed: INT8 cosine, mean. No bundle was written." in page.text
    assert advice in page.text
    page = page_of({"refusal": "int8 <does> not tell people apart"}, failed)
    assert "int8 <does> not tell people apart. No bundle was written." in page.text


def test_the_steps_of_the_ladder_say_which_gates_they_failed() -> None:
    step = {"step": "all in INT8", "cosine_mean": 0.9, "cosine_p1": 0.8, "passed": False}
    page = page_of({"ladder": [step | {"failed": ["cosine 0.9 (at least 0.99)", "another"]}]})
    assert "cosine 0.9 (at least 0.99); another" in page.text
    assert "not enough" in page.text


def test_artefacts_are_compared_in_the_same_order_however_the_file_is_sorted() -> None:
    measured = full_report()["verification"]
    shuffled = {"cpu-int8": measured["int8"], "int8": measured["int8"], "fp32": measured["fp32"]}
    text = page_of({"verification": shuffled}).text
    rates = text[text.index("On labelled pairs, with") :]
    assert rates.index("fp32") < rates.index("int8") < rates.index("cpu-int8")


def test_labelled_pairs_are_not_called_pictures_without_faces() -> None:
    pairs = full_report()["pair_scores"]
    text = page_of({"pair_scores": pairs}, data_free()).text
    assert "They are the labelled pairs" in text
    assert "Measured without pictures of real faces" not in text
    bare = {key: pairs[key] for key in ("before", "after")}
    assert "Measured without" in page_of({"pair_scores": bare}, data_free()).text


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("cosines", "0.9"),
        ("figures", [1.0]),
        ("preprocessing", 3),
        ("speed", [{"engine": "x"}]),
        ("ladder", ["step"]),
        ("pair_scores", {"before": [0.1], "after": []}),
        ("pair_scores", {"before": [0.1], "after": [0.1], "mated": [True, False]}),
        ("verification", {"fp32": {"det": [0.1]}}),
    ],
)
def test_a_part_of_the_wrong_kind_is_refused(key: str, value: object) -> None:
    with pytest.raises(InvalidInputError, match=f"report.{key}"):
        render_report({key: value}, manifest())


# Numbers


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 10**400])
@pytest.mark.parametrize("every", [1, 2, 3, 7])
def test_no_number_that_is_not_finite_is_written(bad: float, every: int) -> None:
    seen = itertools.count(1)

    def spoil(value: object) -> object:
        return bad if isinstance(value, float) and next(seen) % every == 0 else value

    page = render_report(edited(full_report(), spoil), manifest())
    assert not re.search(r"\b(nan|inf|infinity)\b", page, re.IGNORECASE)
    assert len(page) < 100_000


def test_crops_without_a_usable_cosine_are_counted_not_hidden() -> None:
    text = page_of({"cosines": [*COSINES, math.nan, None]}).text
    assert "2 embeddings without a usable value are counted here and not drawn." in text


def test_a_model_without_any_usable_embedding_is_not_passed_over() -> None:
    pairs = {"before": [math.nan], "after": [0.1]}
    text = page_of({"cosines": [math.nan, math.nan], "pair_scores": pairs}).text
    assert "None of 2 has a usable value." in text
    assert "None of 1 has a usable value." in text


@pytest.mark.parametrize("value", [-1.0, -0.5, 0.0, 0.5, 1.0, 1.0000001])
@pytest.mark.parametrize("count", [1, 5])
def test_cosines_that_are_all_alike_are_drawn(value: float, count: int) -> None:
    pairs = {"before": [value] * count, "after": [value] * count}
    page = page_of({"cosines": [value] * count, "pair_scores": pairs})
    assert len(page.all("title")) == 3


def test_curves_without_a_single_error_are_drawn() -> None:
    perfect = {"fp32": {"det": [[1.0, 0.0], [0.0, 0.0], [0.0, 1.0]]}}
    assert len(page_of({"verification": perfect}).all("title")) == 2


def test_layers_and_steps_without_any_error_are_drawn() -> None:
    layer = {"layer": "a", "error": 0.0, "multiply_adds": 0, "kept_float": False}
    step = {"step": "b", "cosine_mean": 1.0, "cosine_p1": 1.0}
    assert "What was tried" in page_of({"sensitivity": [layer], "ladder": [step]}).text


@pytest.mark.parametrize(
    ("made", "wanted"),
    [
        (markup.percent(0.0), "0 %"),
        (markup.percent(1.0), "100 %"),
        (markup.percent(0.9999), "99.9 %"),
        (markup.percent(0.0002), "under 0.1 %"),
        (markup.percent(0.98403, 2), "98.40 %"),
        (markup.fixed(0.99999, 3), "0.999"),
        (markup.fixed(-0.5, 1), "-0.5"),
        (markup.compact(1.53e-7), "1.53 x 10⁻⁷"),
        (markup.compact(0.05), "0.05"),
        (markup.compact(None), "not a number"),
        (markup.points(-0.0013), "-0.13"),
        (markup.points(-0.000001), "0.00"),
        (markup.times(2.868), "2.87x"),
        (markup.size(0), "0 bytes"),
        (markup.size(999.9), "1 kB"),
        (markup.size(1_144_128), "1.14 MB"),
        (markup.size(5e12), "5e+03 GB"),
    ],
)
def test_numbers_are_written_for_people(made: str, wanted: str) -> None:
    assert plain(made) == wanted
