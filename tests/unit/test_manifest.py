"""The manifest of a bundle: no value in it is taken on trust."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeface.bundle import (
    MANIFEST_NAME,
    SCHEMA_VERSION,
    Artefact,
    Bundle,
    Verdict,
    manifest_from_json,
    manifest_to_json,
)
from edgeface.errors import (
    BundleFormatError,
)

onnx = pytest.importorskip("onnx")

from tests.builders import tiny_onnx  # noqa: E402
from tests.builders_export import MANIFEST, write_tiny_bundle  # noqa: E402

MODEL = tiny_onnx()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_tiny_bundle(tmp_path).path


def rewrite(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    data = json.loads((folder / MANIFEST_NAME).read_text())
    change(data)
    (folder / MANIFEST_NAME).write_text(json.dumps(data))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff\xfe{}", "not UTF-8"),
        (b"null", "must hold an object"),
        (b"[]", "must hold an object"),
        (b"{}", "schema version None"),
        (b"[" * 100 + b"]" * 100, "must hold an object"),
        (b'{"schema_version": 1}', "not a valid manifest"),
        (b'{"schema_version": "1"}', "schema version '1'"),
        (b'{"schema_version": true}', "schema version True"),
        (b'{"schema_version": 1.0}', "schema version 1.0"),
        (b'{"schema_version": 1' + b"0" * 5000 + b"}", "not JSON"),
    ],
)
def test_a_manifest_that_is_no_manifest_is_refused(folder: Path, text: bytes, said: str) -> None:
    (folder / MANIFEST_NAME).write_bytes(text)
    with pytest.raises(BundleFormatError, match=said):
        Bundle.open(folder)


def test_a_newer_schema_is_refused_with_what_to_do(folder: Path) -> None:
    rewrite(folder, lambda data: data.update(schema_version=SCHEMA_VERSION + 1))
    with pytest.raises(BundleFormatError, match="install a matching edgeface"):
        Bundle.open(folder)


def test_a_manifest_over_its_limit_is_refused_before_it_is_read(folder: Path) -> None:
    with (folder / MANIFEST_NAME).open("r+b") as file:
        file.truncate((4 << 20) + 1)
    with pytest.raises(BundleFormatError, match="larger than"):
        Bundle.open(folder)


@pytest.mark.parametrize("field", sorted(json.loads(manifest_to_json(MANIFEST))))
def test_every_field_but_the_optional_ones_is_required(folder: Path, field: str) -> None:
    optional = {"files", "metric", "operating_points", "task", "tools", "training"}
    rewrite(folder, lambda data: data.pop(field))
    if field in optional:
        Bundle.open(folder)
    else:
        with pytest.raises(BundleFormatError):
            Bundle.open(folder)


@pytest.mark.parametrize(
    "path",
    [(), ("crop_size",), ("source",), ("verdict",), ("artefacts", 0), ("operating_points", 0)],
)
def test_an_unknown_field_is_refused(folder: Path, path: tuple[str | int, ...]) -> None:
    def change(data: Any) -> None:
        for step in path:
            data = data[step]
        data["surprise"] = 1

    rewrite(folder, change)
    with pytest.raises(BundleFormatError, match="surprise"):
        Bundle.open(folder)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model_id", ""),
        ("model_id", None),
        ("model_id", 7),
        ("name", ""),
        ("name", ["tiny"]),
        ("embedding_size", None),
        ("embedding_size", True),
        ("embedding_size", 16.0),
        ("embedding_size", "16"),
        ("embedding_size", 0),
        ("embedding_size", -1),
        ("embedding_size", 65537),
        ("embedding_size", math.nan),
        ("crop_size", None),
        ("crop_size", [112, 96]),
        ("crop_size", {"width_px": 0, "height_px": 112}),
        ("crop_size", {"width_px": "96", "height_px": 112}),
        ("source", None),
        ("source", {}),
        ("verdict", None),
        ("verdict", []),
        ("artefacts", None),
        ("artefacts", []),
        ("artefacts", ["model.fp32.onnx"]),
        ("artefacts", [{}]),
        ("operating_points", [{}]),
        ("operating_points", [{"threshold": math.nan, "target_fmr": 0.1}]),
        ("schema_version", None),
        ("schema_version", 0),
        ("schema_version", math.nan),
    ],
)
def test_a_field_of_the_wrong_type_or_range_is_refused(
    folder: Path, field: str, value: object
) -> None:
    rewrite(folder, lambda data: data.update({field: value}))
    with pytest.raises(BundleFormatError):
        Bundle.open(folder)


@pytest.mark.parametrize(
    ("part", "change"),
    [
        ("", {"files": None}),
        ("", {"files": ["report.json"]}),
        ("", {"files": {"report.json": 5}}),
        ("", {"tools": 5}),
        ("", {"alignment_template": 5}),
        ("", {"alignment_template": ""}),
        ("", {"metric": "l2"}),
        ("", {"metric": None}),
        ("", {"crop_size": {"width_px": 96.5, "height_px": 112}}),
        ("", {"crop_size": {"width_px": math.nan, "height_px": 112}}),
        ("", {"crop_size": {"width_px": True, "height_px": 112}}),
        ("", {"crop_size": {"width_px": 96, "height_px": 1 << 20}}),
        ("", {"files": {"report.json": "0" * 63}}),
        ("", {"files": {"report.json": "G" * 64}}),
        ("", {"tools": {"numpy": 2.0}}),
        ("", {"operating_points": None}),
        ("", {"operating_points": {}}),
        ("source", {"sha256": "0" * 65}),
        ("source", {"sha256": "A" * 64}),
        ("source", {"loss": None}),
        ("source", {"format": ""}),
        ("artefacts", {"file": 5}),
        ("artefacts", {"file": None}),
        ("artefacts", {"file": ["model.fp32.onnx"]}),
        ("artefacts", {"name": 5}),
        ("artefacts", {"name": ""}),
        ("artefacts", {"sha256": "0" * 64 + "\n"}),
        ("artefacts", {"sha256": None}),
        ("artefacts", {"size_bytes": -3}),
        ("artefacts", {"size_bytes": True}),
        ("artefacts", {"size_bytes": 1.0}),
        ("artefacts", {"precision": 8}),
        ("verdict", {"figures": None}),
        ("verdict", {"figures": {"int8_cosine_mean": math.nan}}),
        ("verdict", {"status": "failed"}),
        ("verdict", {"data_free": "no"}),
        ("verdict", {"figures": {"int8_crops": True}}),
        ("verdict", {"figures": {"int8_crops": "64"}}),
        ("verdict", {"figures": {"int8_crops": 10**400}}),
        ("verdict", {"notes": "abc"}),
        ("verdict", {"notes": [1]}),
        ("operating_points", {"fnmr": math.nan}),
        ("operating_points", {"fnmr": -0.1}),
        ("operating_points", {"fnmr": True}),
        ("operating_points", {"artefact": 5}),
        ("operating_points", {"protocol": None}),
        ("operating_points", {"threshold": True}),
        ("operating_points", {"n_mated": -1}),
        ("operating_points", {"n_non_mated": 1.5}),
        ("operating_points", {"provisional": "no"}),
    ],
)
def test_no_value_of_a_manifest_is_taken_on_trust(
    folder: Path, part: str, change: dict[str, Any]
) -> None:
    def update(data: dict[str, Any]) -> None:
        target = data[part] if part else data
        (target[0] if isinstance(target, list) else target).update(change)

    rewrite(folder, update)
    with pytest.raises(BundleFormatError):
        Bundle.open(folder)


def test_two_artefacts_of_one_name_are_refused(folder: Path) -> None:
    rewrite(folder, lambda data: data["artefacts"].append(data["artefacts"][0]))
    with pytest.raises(BundleFormatError):
        Bundle.open(folder)


@pytest.mark.parametrize("text", ["[" * 200_000, '{"a":' * 200_000])
def test_a_manifest_nested_deeper_than_the_reader_can_is_refused(folder: Path, text: str) -> None:
    (folder / MANIFEST_NAME).write_text(text)
    with pytest.raises(BundleFormatError):
        Bundle.open(folder)


@pytest.mark.parametrize(
    "point",
    [
        {"threshold": math.nan},
        {"threshold": math.inf},
        {"threshold": 1.5},
        {"threshold": "0.3"},
        {"target_fmr": 0.0},
        {"target_fmr": math.nan},
    ],
)
def test_an_operating_point_that_accepts_anything_is_refused(
    folder: Path, point: dict[str, Any]
) -> None:
    rewrite(folder, lambda data: data["operating_points"][0].update(point))
    with pytest.raises(BundleFormatError):
        Bundle.open(folder)


def test_a_refusal_names_the_field_what_it_holds_and_what_it_should(folder: Path) -> None:
    rewrite(folder, lambda data: data["operating_points"][1].update(n_mated=-1))
    with pytest.raises(BundleFormatError) as caught:
        Bundle.open(folder)
    said = r"manifest.operating_points[1].n_mated must be a whole number in 0.."
    assert said in str(caught.value)
    assert str(caught.value).endswith("got -1")


def test_a_refusal_does_not_repeat_a_value_of_any_length(folder: Path) -> None:
    rewrite(folder, lambda data: data.update(metric="x" * 100_000))
    with pytest.raises(BundleFormatError) as caught:
        Bundle.open(folder)
    assert len(str(caught.value)) < 1000


def test_a_figure_that_is_a_whole_number_is_a_figure(folder: Path) -> None:
    rewrite(folder, lambda data: data["verdict"].update(figures={"int8_crops": 64}))
    assert Bundle.open(folder).manifest.verdict.figures == {"int8_crops": 64.0}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)
PATHS = [
    *((key,) for key in json.loads(manifest_to_json(MANIFEST))),
    *(("verdict", key) for key in ("status", "data_free", "figures", "notes")),
    *(("source", key) for key in ("file_name", "sha256", "format", "architecture", "loss")),
    *(("operating_points", 0, key) for key in ("threshold", "fnmr", "n_mated", "provisional")),
    *(("artefacts", 0, key) for key in ("name", "file", "sha256", "size_bytes", "precision")),
]


@given(st.sampled_from(PATHS), JSON)
def test_whatever_stands_in_a_field_the_manifest_is_read_or_refused(
    path: tuple[str | int, ...], value: object
) -> None:
    entry = Artefact("fp32", "model.fp32.onnx", "0" * 64, 12, "float32")
    data: Any = json.loads(manifest_to_json(replace(MANIFEST, artefacts=(entry,))))
    target = data
    for step in path[:-1]:
        target = target[step]
    target[path[-1]] = value
    try:
        manifest = manifest_from_json(json.dumps(data))
    except BundleFormatError:
        return
    assert manifest_from_json(manifest_to_json(manifest)) == manifest


def test_a_nan_is_not_written_into_a_manifest() -> None:
    with pytest.raises(ValueError, match="JSON"):
        manifest_to_json(replace(MANIFEST, verdict=Verdict("passed", figures={"x": math.nan})))
