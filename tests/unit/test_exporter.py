"""Whole exports of checkpoints with random weights."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeface.bundle import Bundle
from edgeface.errors import (
    ActivationSetError,
    ArchitectureError,
    CheckpointError,
    GateFailedError,
    InvalidInputError,
)
from edgeface.types import ImageArray, Size

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
safetensors = pytest.importorskip("safetensors.numpy")

from edgeface_export import (  # noqa: E402
    ExportOptions,
    ExportResult,
    crop_sets,
    export_checkpoint,
    inspect_checkpoint,
)
from edgeface_export import int8 as int8_module  # noqa: E402
from edgeface_export.architectures.network import Network  # noqa: E402
from edgeface_export.crop_sets import ActivationCrops  # noqa: E402
from edgeface_export.gates import compare_embeddings  # noqa: E402
from edgeface_export.graph.session import EmbeddingSession  # noqa: E402
from edgeface_export.probes import synthetic_crops  # noqa: E402
from edgeface_export.provisional import PROVISIONAL_THRESHOLDS  # noqa: E402
from edgeface_export.quantise import QuantiseOptions  # noqa: E402
from edgeface_export.quantise.lint import lint  # noqa: E402
from edgeface_export.synthetic_faces import PROVENANCE, load_synthetic_faces  # noqa: E402
from tests.builders_export import State, names_in, settled_state  # noqa: E402

XIAOCCER = "mobilefacenet-xiaoccer"
# Random weights move a little more in INT8 than trained ones, and tell nobody apart; these limits
# are no statement.
RELAXED = {
    "min_cosine_mean": 0.9,
    "min_cosine_p1": 0.8,
    "max_pair_change_p99": 0.5,
    "max_mean_score": 1.0,
    "min_effective_dimension": 0.0,
}


def save(folder: Path, changes: State) -> Path:
    state = {f"module.{key}": array for key, array in settled_state(XIAOCCER).items()}
    path = folder / "weights.safetensors"
    safetensors.save_file(state | changes, path)
    return path


def few_faces(size: Size) -> ImageArray:
    """A sixth of the synthetic faces: enough for random weights."""
    return load_synthetic_faces(size)[::6]


def options_of(**changes: Any) -> ExportOptions:
    """Options of a quick export of random weights."""
    return replace(ExportOptions(limits=RELAXED, speed_budget_s=0.0), **changes)


def picture_crops(network: Network) -> ImageArray:
    return synthetic_crops(40, network.crop_size, seed=5)


def pictures(network: Network) -> ActivationCrops:
    return ActivationCrops(picture_crops(network), {"taken_from": "a test"})


@pytest.fixture(scope="module", autouse=True)
def _few_synthetic_faces() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(crop_sets, "load_synthetic_faces", few_faces)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("exports")


@pytest.fixture(scope="module")
def weights(folder: Path) -> Path:
    return save(folder, {"head.weight": np.ones((10, 32), np.float32)})


@pytest.fixture(scope="module")
def float_only(weights: Path, folder: Path) -> ExportResult:
    return export_checkpoint(weights, folder / "float.edgeface", options=options_of())


@pytest.fixture(scope="module")
def data_free(weights: Path, folder: Path) -> ExportResult:
    options = options_of(int8=True)
    return export_checkpoint(weights, folder / "free.edgeface", options=options)


@pytest.fixture(scope="module")
def with_pictures(weights: Path, folder: Path) -> ExportResult:
    options = options_of(int8=True, name="named")
    return export_checkpoint(
        weights, folder / "pictures.edgeface", options=options, activation_set=pictures
    )


def model_of(result: ExportResult, artefact: str) -> Any:
    return onnx.load_from_string(result.bundle.read(artefact))


def test_a_float_export_says_where_it_came_from_and_what_it_is(
    float_only: ExportResult, weights: Path
) -> None:
    manifest = float_only.bundle.manifest
    # A float rewrite for CPUs is there where it was measured to be faster.
    assert {entry.name for entry in manifest.artefacts} - {"cpu-fp32"} == {"fp32"}
    assert manifest.name == "weights"
    assert (manifest.embedding_size, manifest.crop_size) == (32, Size(112, 112))
    assert (manifest.alignment_template, manifest.metric) == ("arcface-112x112", "cosine")
    source = manifest.source
    assert source.sha256 == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert (source.file_name, source.format) == ("weights.safetensors", "safetensors")
    assert (source.architecture, source.loss) == ("MobileFaceNet", "ArcFace")
    assert "Xiaoccer" in source.trainer
    assert {"edgeface", "onnx", "onnxruntime", "numpy"} <= set(manifest.tools)
    assert float_only.seconds > 0


def test_a_float_export_claims_nothing_about_int8(float_only: ExportResult) -> None:
    verdict = float_only.bundle.manifest.verdict
    assert (verdict.status, verdict.data_free) == ("passed", False)
    assert not [name for name in verdict.figures if "int8" in name]
    assert verdict.figures["parity_max_difference"] <= 1e-5
    assert not any("data-free" in note for note in verdict.notes)
    assert "quantised" not in float_only.report


def test_the_report_on_disk_is_the_report_returned(
    float_only: ExportResult, data_free: ExportResult
) -> None:
    for result in (float_only, data_free):
        text = (result.bundle.path / "report.json").read_text()
        assert json.loads(text) == json.loads(json.dumps(result.report))
    report = data_free.report
    assert report["layout"] == XIAOCCER
    assert report["preprocessing"] == "RGB, (x - 127.5) / 128"
    assert report["dropped"] == {"classification head": 1}
    assert report["gates"] == [gate.sentence for gate in data_free.gates]
    assert report["gate_results"] == [asdict(gate) for gate in data_free.gates]
    assert len(report["cosines"]) == data_free.bundle.manifest.verdict.figures["int8_crops"]
    assert {entry["layer"] for entry in report["sensitivity"]} == set(
        report["quantised"]["int8_nodes"]
    )
    page = (data_free.bundle.path / "report.html").read_text()
    assert "data-free" in page
    assert "no face image was read" in page
    assert report["limits"]["min_cosine_mean"] == 0.9
    assert any(XIAOCCER in reason for reason in report["reasons"])
    quantised = report["quantised"]
    assert quantised["data_free"] is True
    assert len(quantised["int8_nodes"]) + len(quantised["kept_float"]) == 50
    assert len(quantised["int8_nodes"]) > len(quantised["kept_float"])
    # Synthetic faces are pictures: ranges are measured on them, and not taken from BatchNorm.
    methods = {entry["method"] for entry in quantised["ranges"].values()}
    assert "exact" in methods
    assert "batchnorm" not in methods
    assert report["activation_set"]["synthetic_faces"] == PROVENANCE
    assert report["activation_set"]["crops_that_set_ranges"] == 32
    assert report["faces"] is False


def test_a_data_free_export_says_so_everywhere(data_free: ExportResult) -> None:
    verdict = data_free.bundle.manifest.verdict
    assert (verdict.status, verdict.data_free) == ("passed", True)
    assert "data-free" in verdict.notes[0]
    assert "32 synthetic faces set the INT8 ranges and 11 others" in verdict.notes[0]
    assert "edgeface activation-set collect" in verdict.notes[0]
    assert "provisional" in verdict.notes[1]
    assert verdict.figures["int8_crops"] == 11


def test_an_export_with_pictures_is_not_data_free(with_pictures: ExportResult) -> None:
    verdict = with_pictures.bundle.manifest.verdict
    assert (verdict.status, verdict.data_free) == ("passed", False)
    assert not any("data-free" in note for note in verdict.notes)
    methods = {e["method"] for e in with_pictures.report["quantised"]["ranges"].values()}
    assert "exact" in methods
    assert "batchnorm" not in methods
    assert with_pictures.bundle.manifest.name == "named"


def test_a_quarter_of_the_pictures_measures_what_the_others_set(
    with_pictures: ExportResult,
) -> None:
    assert with_pictures.bundle.manifest.verdict.figures["int8_crops"] == 10


@pytest.mark.parametrize("which", ["data_free", "with_pictures"])
def test_figures_tell_what_the_written_artefacts_do(
    which: str, request: pytest.FixtureRequest
) -> None:
    result: ExportResult = request.getfixturevalue(which)
    network = result.recognition.network
    crops = (
        picture_crops(network)[::4]
        if which == "with_pictures"
        else few_faces(network.crop_size)[::4]
    )
    before, after = (
        EmbeddingSession(model_of(result, name)).embed(crops) for name in ("fp32", "int8")
    )
    figures = result.bundle.manifest.verdict.figures
    assert figures["int8_cosine_mean"] == pytest.approx((before * after).sum(1).mean(), abs=1e-3)
    assert figures["int8_cosine_mean"] > 0.97
    assert 0.9 < figures["int8_share"] <= 1.0
    assert figures["multiply_adds"] == sum(network.multiply_adds().values())
    assert figures["int8_speed_ratio"] > 0


def test_all_artefacts_are_written_and_the_int8_one_is_clean(data_free: ExportResult) -> None:
    entries = data_free.bundle.manifest.artefacts
    precisions = {entry.name: entry.precision for entry in entries}
    assert precisions.pop("cpu-fp32", "float32") == "float32"
    assert precisions == {"fp32": "float32", "int8": "int8", "cpu-int8": "int8"}
    assert lint(model_of(data_free, "int8")) == []
    assert Bundle.open(data_free.bundle.path).manifest == data_free.bundle.manifest


def test_every_artefact_has_provisional_operating_points(data_free: ExportResult) -> None:
    points = data_free.bundle.manifest.operating_points
    for artefact in ("fp32", "int8", "cpu-int8"):
        found = {p.target_fmr: p.threshold for p in points if p.artefact == artefact}
        assert found == PROVISIONAL_THRESHOLDS
    assert all(point.provisional and point.fnmr is None for point in points)


def test_the_identity_is_that_of_the_weights_and_not_of_int8_or_the_bundles_path(
    float_only: ExportResult, data_free: ExportResult
) -> None:
    assert float_only.bundle.manifest.model_id == data_free.bundle.manifest.model_id
    assert float_only.bundle.read("fp32") == data_free.bundle.read("fp32")


def test_the_identity_does_not_depend_on_the_name(
    float_only: ExportResult, with_pictures: ExportResult
) -> None:
    assert float_only.bundle.manifest.name != with_pictures.bundle.manifest.name
    assert float_only.bundle.manifest.model_id == with_pictures.bundle.manifest.model_id


def test_other_weights_have_another_identity(float_only: ExportResult, tmp_path: Path) -> None:
    key = "module.linear1.bn.bias"
    bias = settled_state(XIAOCCER)["linear1.bn.bias"] + np.float32(0.25)
    result = export_checkpoint(
        save(tmp_path, {key: bias}), tmp_path / "other.edgeface", options=options_of()
    )
    assert result.bundle.manifest.model_id != float_only.bundle.manifest.model_id


def test_exporting_a_file_again_gives_the_same_artefacts(
    data_free: ExportResult, weights: Path, tmp_path: Path
) -> None:
    options = options_of(int8=True)
    again = export_checkpoint(weights, tmp_path / "again.edgeface", options=options)
    assert again.bundle.manifest.model_id == data_free.bundle.manifest.model_id
    # Which float rewrite is the fastest is measured, and two may be equally fast.
    first, second = (
        {entry.name: entry for entry in result.bundle.manifest.artefacts}
        for result in (data_free, again)
    )
    for name in ("fp32", "int8", "cpu-int8"):
        assert first[name] == second[name]


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ({"max_parity_difference": 0.0}, "parity to the checkpoint"),
        ({"max_mean_score": -1.0}, "mean score of different faces, float"),
    ],
)
def test_a_failed_gate_writes_no_bundle(
    weights: Path, tmp_path: Path, limits: dict[str, float], said: str
) -> None:
    options = options_of(int8=True, limits=RELAXED | limits)
    with pytest.raises(GateFailedError, match=said) as caught:
        export_checkpoint(weights, tmp_path / "x.edgeface", options=options)
    assert caught.value.exit_code == 1
    assert names_in(tmp_path) == ["x.failed-report.html", "x.failed-report.json"]
    assert str(tmp_path / "x.failed-report.html") in str(caught.value)


def test_a_failed_export_reports_every_step_and_gate(weights: Path, tmp_path: Path) -> None:
    page = tmp_path / "reports" / "why.html"
    options = options_of(int8=True, limits=RELAXED | {"min_cosine_mean": 1.1}, report=page)
    with pytest.raises(
        GateFailedError, match=r"INT8 cosine, mean .*at least 1\.1.*form.s. were tried"
    ):
        export_checkpoint(weights, tmp_path / "x.edgeface", options=options)
    assert names_in(tmp_path) == ["reports"]
    report = json.loads((tmp_path / "reports" / "why.json").read_text())
    assert report["ladder"]
    for step in report["ladder"]:
        assert step["passed"] is False
        assert [said for said in step["failed"] if "at least 1.1" in said]
        assert 0.9 < step["cosine_mean"] <= 1.0
    outcomes = {gate["gate"]: gate["passed"] for gate in report["gate_results"]}
    assert outcomes["parity to the checkpoint"]
    assert not outcomes["INT8 cosine, mean"]
    assert "INT8 cosine, mean" in report["refusal"]
    text = page.read_text()
    assert "Failed" in text
    assert "No bundle was written" in text
    assert "not enough" in text


def test_the_report_of_a_failure_goes_when_the_export_succeeds(
    weights: Path, tmp_path: Path
) -> None:
    for limits in ({"max_parity_difference": 0.0}, {}):
        options = options_of(limits=RELAXED | limits)
        try:
            export_checkpoint(weights, tmp_path / "x.edgeface", options=options)
        except GateFailedError:
            assert "x.failed-report.html" in names_in(tmp_path)
    assert names_in(tmp_path) == ["x.edgeface"]


def test_a_report_that_cannot_be_written_does_not_hide_the_failure(
    weights: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("no folder")
    options = options_of(
        limits=RELAXED | {"max_parity_difference": 0.0}, report=tmp_path / "file" / "page.html"
    )
    with pytest.raises(GateFailedError, match=r"parity .* could not be written"):
        export_checkpoint(weights, tmp_path / "x.edgeface", options=options)


def test_a_model_that_gives_one_embedding_for_every_face_is_refused(tmp_path: Path) -> None:
    flat = {"module.linear1.bn.weight": np.zeros(32, np.float32)}
    options = options_of(int8=True, limits={})
    with pytest.raises(GateFailedError, match=r"mean score of different faces, float 1 .*trained"):
        export_checkpoint(save(tmp_path, flat), tmp_path / "x.edgeface", options=options)
    assert not (tmp_path / "x.edgeface").exists()


def test_a_limit_that_is_not_known_is_refused(weights: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="no limit is called 'min_cosine', choose of"):
        export_checkpoint(
            weights, tmp_path / "x.edgeface", options=options_of(limits={"min_cosine": 0.9})
        )


def test_a_network_whose_crops_no_synthetic_face_has_is_data_free_by_its_batchnorms(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weights: Path
) -> None:
    def none(size: Size) -> ImageArray:
        raise InvalidInputError("none")

    monkeypatch.setattr(crop_sets, "load_synthetic_faces", none)
    result = export_checkpoint(weights, tmp_path / "x.edgeface", options=options_of(int8=True))
    methods = {entry["method"] for entry in result.report["quantised"]["ranges"].values()}
    assert methods == {"exact", "batchnorm"}
    verdict = result.bundle.manifest.verdict
    assert verdict.data_free
    assert "64 synthetic pictures, not on faces" in verdict.notes[0]
    assert not any("different faces" in gate.gate for gate in result.gates)


def test_int8_that_gives_a_nan_fails_its_gate(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = compare_embeddings

    def broken(before: Any, after: Any, *, faces: bool) -> Any:
        after[5] = np.nan
        return real(before, after, faces=faces)

    monkeypatch.setattr(int8_module, "compare_embeddings", broken)
    options = options_of(int8=True)
    with pytest.raises(GateFailedError, match="crops without an embedding 1 "):
        export_checkpoint(weights, tmp_path / "x.edgeface", options=options)
    assert not (tmp_path / "x.edgeface").exists()


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize(
    "key", ["conv1.conv.weight", "blocks.3.conv.5.weight", "linear1.bn.running_var"]
)
def test_weights_that_are_no_numbers_are_refused_by_name(
    tmp_path: Path, key: str, value: float
) -> None:
    array = settled_state(XIAOCCER)[key].copy()
    array.flat[0] = value
    file = save(tmp_path, {f"module.{key}": array})
    with pytest.raises(ArchitectureError, match=f"{key.rsplit('.', 1)[0]}: .*NaN or infinity"):
        export_checkpoint(file, tmp_path / "x.edgeface")
    assert names_in(tmp_path) == [file.name]


def test_a_file_that_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.pt").write_bytes(b"not a checkpoint")
    for path in (tmp_path / "x.pt", tmp_path / "missing.pt"):
        with pytest.raises(CheckpointError, match=path.name):
            export_checkpoint(path, tmp_path / "x.edgeface")


def test_an_output_that_is_taken_is_kept(float_only: ExportResult, weights: Path) -> None:
    path = float_only.bundle.path
    before = (path / "manifest.json").read_bytes()
    with pytest.raises(InvalidInputError, match="exists already"):
        export_checkpoint(weights, path)
    assert (path / "manifest.json").read_bytes() == before


def test_an_output_is_replaced_when_asked(weights: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        options = options_of(name=name, overwrite=True)
        result = export_checkpoint(weights, tmp_path / "x.edgeface", options=options)
        assert result.bundle.manifest.name == name
    assert names_in(tmp_path) == ["x.edgeface"]


@pytest.mark.parametrize("count", [1, 40])
def test_pictures_that_set_no_range_are_refused(weights: Path, tmp_path: Path, count: int) -> None:
    def black(network: Network) -> ActivationCrops:
        return ActivationCrops(np.zeros((count, 112, 112, 3), np.uint8))

    options = options_of(int8=True)
    with pytest.raises((ActivationSetError, GateFailedError)):
        export_checkpoint(weights, tmp_path / "x.edgeface", options=options, activation_set=black)
    assert not (tmp_path / "x.edgeface").exists()


@pytest.mark.parametrize(
    "crops",
    [
        np.zeros((0, 112, 112, 3), np.uint8),
        np.zeros((1, 112, 112, 3), np.uint8),
        np.zeros((112, 112, 3), np.uint8),
        np.zeros((8, 112, 96, 3), np.uint8),
        np.zeros((8, 112, 112, 3), np.float32),
        np.zeros((8, 3, 112, 112), np.uint8),
    ],
    ids=lambda crops: f"{crops.shape} {crops.dtype}",
)
def test_pictures_of_the_wrong_kind_are_refused_as_such(
    weights: Path, tmp_path: Path, crops: Any
) -> None:
    options = options_of(int8=True)
    with pytest.raises(ActivationSetError, match=r"activation set must .*, got .*;"):
        export_checkpoint(
            weights,
            tmp_path / "x.edgeface",
            options=options,
            activation_set=lambda _: ActivationCrops(crops),
        )


def test_an_activation_set_without_int8_is_refused_and_not_forgotten(
    weights: Path, tmp_path: Path
) -> None:
    with pytest.raises(InvalidInputError, match="no INT8 artefact is asked for"):
        export_checkpoint(weights, tmp_path / "x.edgeface", activation_set=pictures)
    assert names_in(tmp_path) == []


def test_ways_to_set_ranges_reach_the_quantiser(weights: Path, tmp_path: Path) -> None:
    options = options_of(
        int8=True,
        quantise=QuantiseOptions(method="minmax", keep_float=frozenset({"conv1.conv"})),
    )
    labels: list[str] = []

    def progress(label: str, items: Any) -> Any:
        labels.append(label)
        return items

    result = export_checkpoint(
        weights,
        tmp_path / "x.edgeface",
        options=options,
        activation_set=pictures,
        progress=progress,
    )
    quantised = result.report["quantised"]
    methods = {entry["method"] for entry in quantised["ranges"].values()}
    assert methods - {"exact"} == {"minmax"}
    assert quantised["kept_float"]["conv1.conv"] == "asked for"
    assert result.bundle.manifest.verdict.figures["int8_share"] < 1
    wanted = {"measuring activations", "fitting layers", "measuring layers"}
    assert wanted <= set(labels)


def test_an_inspection_says_what_an_export_would_make(weights: Path) -> None:
    found = inspect_checkpoint(weights)
    assert found.exportable
    assert (found.layout, found.prefix, found.embedding_size) == (XIAOCCER, "module.", 32)
    assert (found.crop_height_px, found.crop_width_px) == (112, 112)
    assert found.dropped == (("classification head", 1, "head.weight"),)
    assert found.sha256 == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert json.loads(json.dumps(found.to_dict()))["dropped"] == [
        {"kind": "classification head", "count": 1, "first": "head.weight"}
    ]


def test_an_inspection_of_something_else_says_why_it_cannot_be_exported(tmp_path: Path) -> None:
    safetensors.save_file({"fc.weight": np.ones((8, 16), np.float32)}, tmp_path / "x.safetensors")
    found = inspect_checkpoint(tmp_path / "x.safetensors")
    assert not found.exportable
    assert "fully connected" in found.reasons[0]
    assert found.parameters == 128
