"""Labelled pairs as evidence of an export: gates on TAR, fitted operating points, the report."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeface.bundle import Bundle
from edgeface.errors import GateFailedError
from edgeface.types import ImageArray, OperatingPoint, Size

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
safetensors = pytest.importorskip("safetensors.numpy")

from edgeface_export import ExportOptions, crop_sets, export_checkpoint  # noqa: E402
from edgeface_export.gate_limits import GateLimits  # noqa: E402
from edgeface_export.pair_evidence import (  # noqa: E402
    PairEvidence,
    TarLoss,
    merged_points,
    tar_gates,
)
from edgeface_export.synthetic_faces import load_synthetic_faces  # noqa: E402
from tests.builders_export import names_in, settled_state  # noqa: E402

LIMITS = {
    "min_cosine_mean": 0.9,
    "min_cosine_p1": 0.8,
    "max_pair_change_p99": 0.5,
    "max_mean_score": 1.0,
    "min_effective_dimension": 0.0,
}


def point(artefact: str, fmr: float, threshold: float, **changes: Any) -> OperatingPoint:
    base = OperatingPoint(threshold, fmr, artefact, "pairs", fnmr=0.1, n_mated=10, n_non_mated=900)
    return replace(base, **changes)


def figures_of(tar: float) -> dict[str, Any]:
    return {
        "accuracy": 0.98,
        "accuracy_interval": {"low": 0.97, "high": 0.99},
        "tar": [{"target_fmr": 0.01, "tar": tar, "interval": {"low": tar - 0.01, "high": 1.0}}],
        "eer": 0.02,
        "det": [[1.0, 0.0], [0.01, 0.02], [0.0, 1.0]],
        "n_mated": 300,
        "n_non_mated": 300,
        "protocol": "pairs.txt",
        "notes": [],
    }


def evidence(loss: float, *, cpu_loss: float = 0.0) -> PairEvidence:
    return PairEvidence(
        protocol="pairs.txt",
        verification={"fp32": figures_of(0.98), "int8": figures_of(0.98 - loss)},
        losses={
            "int8": (TarLoss(0.01, loss, loss - 0.01, loss + 0.01),),
            "cpu-int8": (TarLoss(0.01, cpu_loss, cpu_loss, cpu_loss),),
        },
        points=tuple(
            point(name, fmr, threshold)
            for name in ("fp32", "int8", "cpu-fp32", "cpu-int8")
            for fmr, threshold in ((1e-2, 0.2), (1e-3, 0.3))
        ),
        pair_scores={"before": [0.7, 0.1], "after": [0.69, 0.12], "mated": [True, False]},
        notes=("two images show no face",),
    )


@pytest.fixture(autouse=True)
def _few_faces() -> Iterator[None]:
    def few(size: Size) -> ImageArray:
        return load_synthetic_faces(size)[::8]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(crop_sets, "load_synthetic_faces", few)
        yield


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "weights.safetensors"
    safetensors.save_file(settled_state("mobilefacenet-xiaoccer"), path)
    return path


def options(**changes: float) -> ExportOptions:
    return ExportOptions(int8=True, limits=LIMITS | changes, speed_budget_s=0.0)


def test_fitted_points_replace_provisional_ones_and_evidence_is_in_the_report(
    weights: Path, tmp_path: Path
) -> None:
    seen: list[Bundle] = []

    def evaluate(bundle: Bundle) -> PairEvidence:
        seen.append(bundle)
        assert {"fp32", "int8", "cpu-int8"} <= {a.name for a in bundle.manifest.artefacts}
        assert bundle.read("int8")
        return evidence(0.005)

    result = export_checkpoint(weights, tmp_path / "x.edgeface", options=options(), pairs=evaluate)
    assert names_in(tmp_path) == ["x.edgeface"]
    assert not seen[0].path.exists()
    manifest = result.bundle.manifest
    for name in ("fp32", "int8", "cpu-int8"):
        found = {p.target_fmr: p for p in manifest.operating_points if p.artefact == name}
        assert {fmr: p.provisional for fmr, p in found.items()} == {
            1e-2: False,
            1e-3: False,
            1e-4: True,
        }
        assert (found[1e-2].threshold, found[1e-2].protocol) == (0.2, "pairs")
        assert (found[1e-2].n_mated, found[1e-2].n_non_mated) == (10, 900)
    names = {a.name for a in manifest.artefacts}
    assert {p.artefact for p in manifest.operating_points} == names
    notes = manifest.verdict.notes
    assert any("at FMR 0.0001 are provisional: the pairs were too few" in note for note in notes)
    assert "two images show no face" in notes
    assert manifest.verdict.figures["int8_tar_loss_fmr_0.01"] == 0.005
    assert any(gate.gate == "loss of TAR at FMR 0.01, int8" for gate in result.gates)
    assert result.report["verification"]["int8"]["tar"][0]["tar"] == pytest.approx(0.975)
    assert result.report["tar_losses"]["int8"][0]["high"] == pytest.approx(0.015)
    assert result.report["pair_scores"]["mated"] == [True, False]
    page = (result.bundle.path / "report.html").read_text()
    assert "Does it still tell people apart?" in page
    assert "They are the labelled pairs" in page


def test_int8_that_tells_people_apart_less_well_fails_with_its_evidence(
    weights: Path, tmp_path: Path
) -> None:
    with pytest.raises(
        GateFailedError, match=r"loss of TAR at FMR 0\.01, int8 0\.03 .at most 0.02"
    ):
        export_checkpoint(
            weights,
            tmp_path / "x.edgeface",
            options=options(),
            pairs=lambda bundle: evidence(0.03),
        )
    assert names_in(tmp_path) == ["x.failed-report.html", "x.failed-report.json"]
    report = json.loads((tmp_path / "x.failed-report.json").read_text())
    assert report["tar_losses"]["int8"][0]["loss"] == 0.03
    page = (tmp_path / "x.failed-report.html").read_text()
    assert "an activation set of more faces" in page
    assert "Operating points" not in page


def test_a_cpu_artefact_that_loses_too_much_is_left_out_alone(
    weights: Path, tmp_path: Path
) -> None:
    result = export_checkpoint(
        weights,
        tmp_path / "x.edgeface",
        options=options(),
        pairs=lambda bundle: evidence(0.0, cpu_loss=0.5),
    )
    manifest = result.bundle.manifest
    assert "cpu-int8" not in {entry.name for entry in manifest.artefacts}
    assert "cpu-int8" not in {p.artefact for p in manifest.operating_points}
    assert any("cpu-int8 is left out" in note for note in manifest.verdict.notes)


def test_an_evaluator_that_refuses_ends_the_export_with_a_report(
    weights: Path, tmp_path: Path
) -> None:
    def evaluate(bundle: Bundle) -> PairEvidence:
        raise GateFailedError("int8 does not tell people apart")

    with pytest.raises(GateFailedError, match=r"does not tell people apart\. What was tried is in"):
        export_checkpoint(weights, tmp_path / "x.edgeface", options=options(), pairs=evaluate)
    report = json.loads((tmp_path / "x.failed-report.json").read_text())
    assert report["refusal"] == "int8 does not tell people apart"
    assert all(gate["passed"] for gate in report["gate_results"])


@pytest.mark.parametrize(
    ("loss", "passed"), [(-0.1, True), (0.0, True), (0.02, True), (0.021, False), (np.nan, False)]
)
def test_a_loss_on_the_limit_passes(loss: float, passed: bool) -> None:
    gates = tar_gates(evidence(loss), "int8", GateLimits())
    assert [gate.passed for gate in gates] == [passed]
    assert tar_gates(evidence(loss), "unknown", GateLimits()) == []


PROVISIONAL = [
    point("int8", fmr, threshold, provisional=True, protocol="provisional", fnmr=None)
    for fmr, threshold in ((1e-2, 0.33), (1e-3, 0.44), (1e-4, 0.52))
]


@pytest.mark.parametrize(
    ("fitted", "kept"),
    [
        ([], [1e-2, 1e-3, 1e-4]),
        ([point("fp32", 1e-2, 0.3)], [1e-2, 1e-3, 1e-4]),
        ([point("int8", 1e-2, 0.3)], [1e-3, 1e-4]),
        ([point("int8", 1e-2, 0.3), point("int8", 1e-3, 0.4)], [1e-4]),
        # A fitted threshold above a provisional one of a stricter target shows it to be too low.
        ([point("int8", 1e-3, 0.6)], []),
    ],
    ids=["nothing", "other artefact", "one", "two", "stricter than the provisional"],
)
def test_provisional_points_stay_where_nothing_better_is_known(
    fitted: list[OperatingPoint], kept: list[float]
) -> None:
    points = merged_points(PROVISIONAL, fitted)
    assert [p.target_fmr for p in points if p.provisional] == kept
    assert [p for p in points if not p.provisional] == fitted
