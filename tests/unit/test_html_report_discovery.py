"""The section of the page on how the preprocessing was found."""

from __future__ import annotations

from typing import Any

import pytest

from edgeface.errors import InvalidInputError
from edgeface_export.html_report.discovery import discovery_section

ROW = {
    "name": "rgb:127.5/128", "crop": "arcface-112x112", "outcome": "chosen", "faces": 400,
    "d_prime": 4.941, "low": 4.54, "high": 5.37, "auc": 0.9984, "first_layer": None,
    "seconds": 7.2,
}  # fmt: skip


def report(**changes: Any) -> dict[str, Any]:
    found = {"name": "rgb:127.5/128", "faces": 400, "people": 104, "tried": [ROW], "crops": []}
    return {"discovery": found | changes}


def test_no_discovery_has_no_section() -> None:
    assert discovery_section({}) == ""


def test_every_candidate_has_a_row_with_its_interval() -> None:
    page = discovery_section(report(tried=[ROW, {**ROW, "name": "bgr:127.5/128"}]))
    assert page.count("4.54 to 5.37") == 2
    assert "400 faces of 104 people" in page
    assert "bgr:127.5/128" in page


def test_what_a_name_holds_is_text_and_no_markup() -> None:
    page = discovery_section(report(name="<script>", warnings=["<b>look</b>"]))
    assert "<script>" not in page
    assert "<b>" not in page
    assert "&lt;b&gt;look" in page


def test_another_kind_of_value_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="tried"):
        discovery_section(report(tried=[{"name": "only"}]))
