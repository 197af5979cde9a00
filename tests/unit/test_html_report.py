"""The report page: what it says, what it leaves out, and what no name can do to it."""

from __future__ import annotations

import copy
import itertools
import json
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from html.parser import HTMLParser
from importlib import resources
from typing import Any

import pytest

from edgeface.errors import InvalidInputError
from edgeface.manifest import Artefact, Manifest, ModelSource, Verdict
from edgeface.types import OperatingPoint, Size

pytest.importorskip("onnx")

from edgeface_export.html_report import markup, render_report
from edgeface_export.html_report.page import CONTENT_POLICY
from edgeface_export.html_report.schema import Report

# Measured on 225 crops of LFW with the MobileFaceNet of Xiaoccer, ranges from 375 others.
COSINES = [
    *(0.9910, 0.9933, 0.9943, 0.9947, 0.9951, 0.9952, 0.9953, 0.9954, 0.9955, 0.9956, 0.9957),
    *(0.9958, 0.9959, 0.9960, 0.9961, 0.9961, 0.9962, 0.9963, 0.9964, 0.9964, 0.9965, 0.9966),
    *(0.9967, 0.9967, 0.9968, 0.9969, 0.9970, 0.9970, 0.9971, 0.9972, 0.9972, 0.9973, 0.9973),
    *(0.9974, 0.9974, 0.9975, 0.9975, 0.9976, 0.9977, 0.9978, 0.9979, 0.9980, 0.9981, 0.9988),
]
BEFORE = [-0.363, -0.234, -0.125, -0.076, -0.014, 0.03, 0.093, 0.188, 0.356, 0.502, 0.715, 0.871]
AFTER = [-0.348, -0.234, -0.106, -0.068, -0.003, 0.043, 0.107, 0.185, 0.373, 0.492, 0.717, 0.864]
FP32_DET = [
    *([1.0, 0.0], [0.6707, 0.0007], [0.3433, 0.0013], [0.2367, 0.0033], [0.1127, 0.0053]),
    *([0.056, 0.0087], [0.0267, 0.0127], [0.014, 0.0193], [0.006, 0.0213], [0.0013, 0.0313]),
    *([0.0007, 0.04], [0.0, 0.0493], [0.0, 0.2173], [0.0, 1.0]),
]
INT8_DET = [
    *([1.0, 0.0], [0.6313, 0.0007], [0.34, 0.0013], [0.232, 0.0033], [0.124, 0.006]),
    *([0.0587, 0.0093], [0.0273, 0.0127], [0.0127, 0.0187], [0.0053, 0.0233], [0.0013, 0.034]),
    *([0.0007, 0.0407], [0.0, 0.046], [0.0, 0.2027], [0.0, 1.0]),
]
LAYERS = [
    ("conv1.conv", 0.000386, 4_644_864),
    ("dw_conv1.conv", 0.0005, 1_548_288),
    ("blocks.0.conv.0", 0.00053, 22_020_096),
    ("blocks.0.conv.3", 0.00035, 1_548_288),
    ("blocks.0.conv.6", 0.000635, 5_505_024),
    ("blocks.2.conv.0", 0.000358, 5_505_024),
    ("blocks.3.conv.3", 0.000334, 774_144),
    ("blocks.4.conv.6", 0.000381, 5_505_024),
    ("blocks.6.conv.0", 0.000329, 5_505_024),
    ("blocks.8.conv.6", 0.000366, 5_505_024),
    ("blocks.11.conv.3", 0.000338, 387_072),
    ("blocks.12.conv.6", 0.000489, 2_752_512),
    ("linear7.conv", 0.000752, 21_504),
    ("linear1.conv", 0.00043, 65_536),
]
FIGURES = {
    "parity_max_difference": 2.119e-7,
    "int8_cosine_mean": 0.9968,
    "int8_cosine_p1": 0.9939,
    "int8_pair_change_p99": 0.02978,
    "int8_pair_change_worst": 0.051,
    "int8_crops": 125.0,
    "int8_share": 1.0,
    "int8_speed_ratio": 0.7253,
    "multiply_adds": 189_408_256.0,
}
LIMITS = {"min_cosine_mean": 0.95, "min_cosine_p1": 0.92, "max_pair_change_p99": 0.08}
HOSTILE = [
    "<script>alert(1)</script>",
    "\"><img src=x onerror='alert(1)'>",
    "' onmouseover='alert(1)",
    "</style></title></svg><iframe src=//evil.example>",
    "photo\u202egpj.exe\u2066",
    "a" * 10_000,
    "&lt;b&gt; &amp;",
    "lone \ud800 half, bell \x07, null \x00",
]


def manifest(**changes: Any) -> Manifest:
    whole = Manifest(
        model_id="7253ff4b" * 8,
        name="arcface-mobilefacenet-112x96",
        embedding_size=128,
        crop_size=Size(96, 112),
        alignment_template="arcface-112x96",
        source=ModelSource(
            file_name="mobilefacenet.ckpt",
            sha256="e839247c" * 8,
            format="legacy torch pickle",
            architecture="MobileFaceNet",
            trainer="MobileFaceNet_Pytorch (Xiaoccer)",
            loss="ArcFace",
        ),
        artefacts=(
            Artefact("fp32", "model.fp32.onnx", "ea4330fa" * 8, 3_977_484, "float32"),
            Artefact("int8", "model.int8.onnx", "fd8407c6" * 8, 1_144_128, "int8"),
        ),
        verdict=Verdict("passed", False, FIGURES, ("fit them with `edgeface verify --fit`",)),
        operating_points=(
            OperatingPoint(0.3, 0.01, "fp32", "LFW", 0.0041, 1500, 120_000),
            OperatingPoint(0.33, 0.01, "int8", "provisional", provisional=True),
        ),
        files={"report.json": "f72145e7" * 8},
        tools={"edgeface": "0.1.0", "onnxruntime": "1.31.1"},
    )
    return replace(whole, **changes)


def data_free() -> Manifest:
    notes = ("data-free: tried on 64 synthetic pictures. Check with `edgeface verify`.", "another")
    return manifest(verdict=Verdict("passed", True, FIGURES, notes))


def verified(accuracy: float, det: list[list[float]]) -> dict[str, Any]:
    return {
        "accuracy": accuracy,
        "accuracy_interval": {"low": accuracy - 0.005, "high": accuracy + 0.004},
        "tar": [
            {"target_fmr": 0.01, "tar": 0.98, "interval": {"low": 0.97, "high": 0.99}},
            {"target_fmr": 0.0001, "tar": None, "interval": None, "note": "too few pairs"},
        ],
        "eer": 0.0167,
        "det": det,
        "n_mated": 1500,
        "n_non_mated": 1500,
        "protocol": "LFW, folds 1-5",
        "notes": ["rests on 15 false matches; 30 make it firm"],
    }


def gate(name: str, figure: float, bound: str, limit: float, passed: bool = True) -> dict[str, Any]:
    said = f"{name} {figure:g} ({bound} {limit:g})"
    return {"gate": name, "figure": figure, "limit": limit, "passed": passed, "sentence": said}


def report_of_today() -> dict[str, Any]:
    return {
        "layout": "mobilefacenet-xiaoccer",
        "preprocessing": "RGB, (x - 127.5) / 128",
        "reasons": ["all 283 tensors are there", "the last layer has 128 outputs"],
        "dropped": {"batch counters": 50},
        "figures": dict(FIGURES),
        "gates": ["parity to the checkpoint 2.12e-07 (at most 1e-05)"],
        "limits": dict(LIMITS),
        "quantised": {"data_free": False, "int8_nodes": [], "kept_float": {"conv1": "asked for"}},
    }


def full_report() -> dict[str, Any]:
    times = (("fp32", 3.86), ("int8", 2.1), ("cpu-fp32", 2.84), ("cpu-int8", 1.34), ("odd", 9.0))
    return report_of_today() | {
        "cosines": list(COSINES),
        "pair_scores": {
            "before": list(BEFORE),
            "after": list(AFTER),
            "mated": [score > 0.3 for score in BEFORE],
        },
        "sensitivity": [
            {"layer": name, "error": error, "multiply_adds": n, "kept_float": name == "conv1.conv"}
            for name, error, n in LAYERS
        ],
        "speed": [
            {
                "engine": "ONNX Runtime 1.31.1",
                "artefact": artefact,
                "threads": 1,
                "batch": batch,
                "ms": ms * batch,
            }
            for batch in (1, 8)
            for artefact, ms in times
        ],
        "speed_conditions": "Medians of 25 rounds on two cores.",
        "gate_results": [
            gate("parity to the checkpoint", 2.119e-7, "at most", 1e-5),
            gate("INT8 cosine, mean", 0.9968, "at least", 0.95),
        ],
        "ladder": [
            {"step": "largest value", "cosine_mean": 0.961, "cosine_p1": 0.917, "passed": False},
            {"step": "percentile", "cosine_mean": 0.9968, "cosine_p1": 0.9939, "passed": True},
        ],
        "verification": {
            "fp32": verified(0.9853, FP32_DET),
            "int8": verified(0.984, INT8_DET),
        },
        "activation_set": {"pictures": 500, "near_duplicates": 12, "eye_px": {"p5": 38.2}},
        "exported_at": "2026-11-21T20:42:11+00:00",
    }


def plain(text: str) -> str:
    """Return ``text`` with single spaces, and with signs that a keyboard has."""
    return " ".join(text.split()).translate({0x2212: "-", 0x00D7: "x"})


class Page(HTMLParser):
    """The elements and the visible text of a page; fails where tags do not pair up."""

    VOID = frozenset({"meta", "link", "br", "img"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.said: list[str] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.said.append(data)

    @property
    def text(self) -> str:
        return plain(" ".join(self.said))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for found, attributes in self.elements if found == tag]


def page_of(report: dict[str, Any], of: Manifest | None = None) -> Page:
    return Page(render_report(report, of or manifest()))


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
    assert "1 stay in float." in text
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
    assert set(full_report()) | {"faces"} == set(Report.__annotations__)


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


def edited(value: Any, change: Callable[[Any], Any]) -> Any:
    if isinstance(value, dict):
        return {key: edited(entry, change) for key, entry in value.items()}
    if isinstance(value, list):
        return [edited(entry, change) for entry in value]
    return change(value)


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


# Hostile text


def strings(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for entry in value.values():
            yield from strings(entry)
    elif isinstance(value, list):
        for entry in value:
            yield from strings(entry)
    elif isinstance(value, str):
        yield value


def soiled(text: str) -> tuple[dict[str, Any], Manifest]:
    """Return a report and a manifest with ``text`` in the place of every text, keys too."""
    report = edited(full_report(), lambda value: text if isinstance(value, str) else value)
    report["speed"] = full_report()["speed"]
    for row in report["speed"]:
        row["engine"] = text
    for key in ("dropped", "activation_set", "verification"):
        report[key] |= {text: copy.deepcopy(next(iter(report[key].values())))}
    report["quantised"]["kept_float"] = {text: text}
    source = ModelSource(text, text, text, text, text, text)
    return report, manifest(
        name=text,
        model_id=text,
        alignment_template=text,
        source=source,
        artefacts=(Artefact(text, text, text, 1, text), *manifest().artefacts),
        verdict=Verdict("passed", False, FIGURES, (text,)),
        operating_points=(OperatingPoint(0.3, 0.01, text, text),),
        files={text: text},
        tools={text: text, "edgeface": text},
    )


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_no_text_becomes_markup_or_leaves_its_place(text: str) -> None:
    page = render_report(*soiled(text))
    parsed = Page(page)
    clean = Page(render_report(*soiled("harmless")))
    assert [tag for tag, _ in parsed.elements] == [tag for tag, _ in clean.elements]
    assert [set(found) for _, found in parsed.elements] == [
        set(found) for _, found in clean.elements
    ]
    page.encode("utf-8")
    assert not re.search("[\u202a-\u202e\u2066-\u2069\x00\x07]", page)


def test_a_name_of_ten_thousand_letters_keeps_its_ends_alone() -> None:
    page = render_report(*soiled("a" * 10_000))
    assert len(page) < 200_000
    assert not re.search("a{2001}", page)
    assert "left out" in page


def test_what_is_escaped_once_is_not_escaped_twice() -> None:
    of = manifest(name="R&D <small>")
    assert "R&amp;D &lt;small&gt;" in render_report({}, of)
    assert "R&D <small>" in Page(render_report({}, of)).text


# The page as a document


def test_the_page_loads_nothing_and_runs_nothing() -> None:
    page = page_of(full_report())
    assert {"content": CONTENT_POLICY, "http-equiv": "Content-Security-Policy"} in page.all("meta")
    assert CONTENT_POLICY.startswith("default-src 'none'; style-src 'unsafe-inline'; img-src data:")
    tags = {tag for tag, _ in page.elements}
    assert tags.isdisjoint({"script", "img", "iframe", "object", "form", "a", "base"})
    assert page.all("link") == [{"rel": "icon", "href": "data:,"}]
    assert "url(" not in render_report({}, manifest())
    assert "http" not in render_report(full_report(), manifest()).replace("http-equiv", "")


def test_the_page_is_the_same_for_the_same_report() -> None:
    assert render_report(full_report(), manifest()) == render_report(full_report(), manifest())


def test_the_report_that_is_drawn_is_one_that_json_can_hold() -> None:
    again = json.loads(json.dumps(full_report(), allow_nan=False))
    assert render_report(again, manifest()) == render_report(full_report(), manifest())


def test_every_chart_has_a_title_and_a_description_of_its_own() -> None:
    page = page_of(full_report())
    charts = [svg for svg in page.all("svg") if svg.get("role") == "img"]
    assert len(charts) == 3
    ids = [found["id"] for _, found in page.elements if "id" in found]
    assert len(ids) == len(set(ids))
    for chart in charts:
        assert set((chart["aria-labelledby"] or "").split()) <= set(ids)
    others = [svg for svg in page.all("svg") if svg.get("role") != "img"]
    assert all(svg.get("aria-hidden") == "true" for svg in others)


def test_headings_descend_one_level_at_a_time_and_regions_are_named() -> None:
    page = page_of(full_report())
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    assert page.all("html") == [{"lang": "en-GB"}]
    assert all(head.get("scope") in ("col", "row") for head in page.all("th"))
    ids = {found.get("id") for _, found in page.elements}
    assert all(found["aria-labelledby"] in ids for found in page.all("section"))


# Colours


def palettes() -> list[dict[str, str]]:
    """Return the colours by name of the light and of the dark style."""
    style = resources.files("edgeface_export.html_report").joinpath("style.css").read_text("utf-8")
    light, dark = style.split("@media screen and (prefers-color-scheme: dark)")
    found = [
        dict(re.findall(r"--([a-z0-9-]+): (#[0-9a-f]{6})", part.split("* {")[0]))
        for part in (light, dark)
    ]
    assert set(found[0]) == set(found[1])
    return found


def contrast(one: str, other: str) -> float:
    """Return the contrast of WCAG 2.2 between two colours, 1 to 21."""

    def luminance(colour: str) -> float:
        channels = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("palette", palettes(), ids=["light", "dark"])
@pytest.mark.parametrize(
    ("ink", "grounds"),
    [
        ("ink", ("paper", "panel", "good-tint", "care-tint", "bad-tint")),
        ("soft", ("paper", "panel")),
        ("good", ("panel", "good-tint")),
        ("care", ("panel", "care-tint")),
        ("bad", ("panel", "bad-tint")),
        *((mark, ("panel",)) for mark in ("int8", "float", "kept")),
        *((f"line{k}", ("panel",)) for k in range(4)),
    ],
)
def test_every_colour_stands_out_from_what_it_stands_on(
    palette: dict[str, str], ink: str, grounds: tuple[str, ...]
) -> None:
    for ground in grounds:
        assert contrast(palette[ink], palette[ground]) >= 4.5, (ink, ground)
