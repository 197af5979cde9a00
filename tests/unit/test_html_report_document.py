"""The report page as a document: no name changes it, it loads nothing, and everyone can read it."""

from __future__ import annotations

import itertools
import json
import re
from importlib import resources

import pytest

pytest.importorskip("onnx")

from edgeface_export.html_report import render_report
from edgeface_export.html_report.page import CONTENT_POLICY
from tests.html_report_sample import (
    HOSTILE,
    Page,
    full_report,
    manifest,
    page_of,
    soiled,
)

# Hostile text


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
    assert not re.search("a{601}", page)
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
