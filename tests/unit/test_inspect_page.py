"""``edgeface inspect`` as a page for people."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from edgeface.cli.inspect_command import render
from edgeface_export.inspection import Inspection

TRAINING: dict[str, Any] = {
    "loss": "triplet", "known_from": "stated in the checkpoint", "metric": "euclidean",
    "unit_rows": True, "flip": "sum", "flip_in_graph": "none", "length_is_quality": False,
}  # fmt: skip
FOUND = Inspection(
    file="net.pt",
    size_bytes=1234,
    sha256="ab" * 32,
    format="torch zip",
    whole_module=False,
    root_class="",
    foreign_classes=(),
    tensors=3,
    parameters=99,
    scalars={"optimizer.param_groups.0.lr": 0.1, "epoch": 7, **{f"k{n}": n for n in range(9)}},
    notes=(),
    exportable=True,
    reasons=("all tensors are there", "one\ntwo"),
    architecture="MobileFaceNet",
    layout="mobilefacenet",
    trainer="somebody",
    prefix="ema.",
    crop_height_px=112,
    crop_width_px=96,
    alignment_template="arcface-112x96",
    preprocessing="RGB, (x - 127.5) / 128",
    output="embedding",
    embedding_size=128,
    dropped=(("classification head", 2, "head.weight"), ("class centres", 1, "centers")),
    averaged=True,
    batch_norm="never trained",
    training=TRAINING,
)


def lines_of(found: Inspection) -> dict[str, str]:
    rows = [line.split(maxsplit=1) for line in render(found).splitlines() if line.startswith("  ")]
    return {row[0]: row[1] for row in rows if len(row) == 2}


def test_the_page_has_its_sections_in_order() -> None:
    titles = [line for line in render(FOUND).splitlines() if line and not line.startswith(" ")]
    assert titles == ["File", "Network", "Training", "Left out", "Export"]


def test_the_state_of_an_optimiser_is_not_what_a_person_wants_to_read() -> None:
    page = render(FOUND)
    assert "epoch = 7" in page
    assert "param_groups" not in page
    assert "and 4 more" in page


def test_averages_statistics_and_what_the_loss_means_are_said() -> None:
    page = render(FOUND)
    assert "a moving average" in page
    assert "never trained, or reset" in page
    assert "triplet, stated in the checkpoint" in page
    assert "the same as the score s: d * d = 2 - 2 * s" in page
    assert "sum of crop and mirror image: --flip" in page


def test_what_is_left_out_has_a_line_for_each_kind() -> None:
    page = render(FOUND)
    assert any(line.split() == ["class", "centres", "1,", "centers"] for line in page.splitlines())
    assert "2, head.weight …" in page


def test_a_reason_of_two_lines_stays_in_its_column() -> None:
    one, two = render(FOUND).splitlines()[-2:]
    assert two.index("two") == one.index("one")


def test_an_unknown_loss_says_how_to_name_it() -> None:
    unknown = replace(FOUND, training={**TRAINING, "loss": ""})
    assert "name it with --loss" in render(unknown)


def test_what_cannot_be_exported_has_no_network() -> None:
    page = render(replace(FOUND, exportable=False, reasons=("no convolution",)))
    assert "Network" not in page
    assert lines_of(replace(FOUND, exportable=False))["export"] == "no"
