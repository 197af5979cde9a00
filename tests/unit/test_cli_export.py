"""``edgeface export`` on the command line: what is typed reaches the export."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer

from edgeface.cli import export_activation_set, export_options, export_pairs
from edgeface.cli.export_activation_set import chosen_activation_set
from edgeface.cli.export_pairs import evidence_of, pair_evaluator
from edgeface.errors import GateFailedError, InvalidInputError
from edgeface.types import FloatArray
from edgeface_calibration.figures import PairTable, artefact_figures
from edgeface_calibration.pairs import read_folder
from edgeface_calibration.report import VerificationReport

pytest.importorskip("onnx")

from edgeface_export.crop_sets import CropKind
from edgeface_export.gate_limits import GateLimits, limits_for

PEOPLE, PICTURES = 30, 4


def labelled_folder(folder: Path) -> Path:
    for person in range(PEOPLE):
        for k in range(PICTURES):
            path = folder / f"p{person:02d}" / f"{k}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"")
    return folder


def rows_of(names: tuple[str, ...], noise: float, seed: int = 0) -> FloatArray:
    """Unit rows near the direction of each person."""
    rng = np.random.default_rng(seed)
    people = rng.standard_normal((PEOPLE, 32))
    rows = np.stack([people[int(name[1:3])] for name in names])
    rows = rows + noise * np.random.default_rng(seed + 1).standard_normal(rows.shape)
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def report_of(folder: Path, **noises: float) -> VerificationReport:
    protocol = read_folder(labelled_folder(folder))
    table = PairTable.of(protocol)
    rows = {name: rows_of(protocol.image_names, noise) for name, noise in noises.items()}
    return VerificationReport(
        bundle="b",
        model_id="m",
        protocol=protocol,
        faces_not_found=(),
        artefacts=tuple(
            artefact_figures(table, each, artefact=name, backend="ort", n_missing=0)
            for name, each in rows.items()
        ),
        scores={name: table.labelled(table.scores(each)) for name, each in rows.items()},
        embeddings=rows,
    )


@pytest.fixture(autouse=True)
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []
    monkeypatch.setattr(export_activation_set, "note", lines.append)
    monkeypatch.setattr(export_activation_set, "need_cpu", lambda: None)
    monkeypatch.setattr(export_pairs, "need_cpu", lambda: None)
    return lines


@pytest.fixture
def own_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    folder = tmp_path / "edgeface" / "activations" / "default.activations"
    folder.mkdir(parents=True)
    return folder


def test_the_users_own_set_is_taken_and_named(own_set: Path, said: list[str]) -> None:
    assert chosen_activation_set(None, int8=True, data_free=False) is not None
    assert said == [f"activation set: {own_set}, your own; --data-free leaves it out"]


def test_the_users_own_set_is_left_out_when_asked(own_set: Path, said: list[str]) -> None:
    assert chosen_activation_set(None, int8=True, data_free=True) is None
    assert "synthetic faces" in said[0]


def test_without_a_set_of_their_own_synthetic_faces_are_taken(said: list[str]) -> None:
    assert chosen_activation_set(None, int8=True, data_free=False) is None
    assert "built-in synthetic faces" in said[0]


def test_a_float_export_looks_for_no_set(own_set: Path, said: list[str]) -> None:
    assert chosen_activation_set(None, int8=False, data_free=False) is None
    assert said == []


@pytest.mark.parametrize(("int8", "data_free"), [(False, False), (True, True)])
def test_a_set_that_contradicts_the_rest_is_refused(
    tmp_path: Path, int8: bool, data_free: bool
) -> None:
    with pytest.raises(typer.BadParameter):
        chosen_activation_set(tmp_path, int8=int8, data_free=data_free)


def test_pairs_without_a_folder_of_images_are_refused(tmp_path: Path) -> None:
    assert pair_evaluator(None, None, None, None) is None
    with pytest.raises(typer.BadParameter, match="need --images"):
        pair_evaluator(tmp_path / "pairs.txt", None, None, None)


def test_a_mistake_in_the_list_shows_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "pairs.csv").write_text("image_a,image_b,same\na.jpg,a.jpg,1\n")
    with pytest.raises(InvalidInputError, match="line 2: an image is paired with itself"):
        pair_evaluator(tmp_path / "pairs.csv", tmp_path, None, None)


def test_evidence_has_the_figures_losses_and_points_of_every_artefact(tmp_path: Path) -> None:
    report = report_of(tmp_path, fp32=0.3, int8=0.5)
    found = evidence_of(report)
    assert list(found.verification) == ["fp32", "int8"]
    assert list(found.losses) == ["int8"]
    for loss in found.losses["int8"]:
        rates = [
            next(
                t["tar"]
                for t in found.verification[name]["tar"]
                if t["target_fmr"] == loss.target_fmr
            )
            for name in ("fp32", "int8")
        ]
        assert loss.loss == pytest.approx(rates[0] - rates[1])
        assert loss.low <= loss.loss <= loss.high
    assert {p.artefact for p in found.points} == {"fp32", "int8"}
    assert {p.target_fmr for p in found.points} >= {1e-2, 1e-3}
    assert all(p.n_mated and p.n_non_mated and not p.provisional for p in found.points)
    assert set(found.pair_scores) == {"before", "after", "mated"}
    assert len(found.pair_scores["before"]) == len(found.pair_scores["mated"]) == 2000
    assert json.loads(json.dumps(dict(found.verification))) == found.verification


def test_the_curve_starts_and_ends_where_all_is_accepted_or_refused(tmp_path: Path) -> None:
    det = evidence_of(report_of(tmp_path, fp32=0.5)).verification["fp32"]["det"]
    assert det[0] == [1.0, 0.0]
    assert det[-1] == [0.0, 1.0]
    assert 10 < len(det) < 1000
    assert det == sorted(det, key=lambda rates: (-rates[0], rates[1]))


def test_artefacts_that_guess_or_collapse_are_refused(tmp_path: Path) -> None:
    whole = report_of(tmp_path, fp32=0.3, int8=0.3)
    export_pairs._require_better_than_guessing(whole)
    guessing = report_of(tmp_path, fp32=0.3, int8=1000.0)
    collapsed = replace(
        whole, artefacts=(whole.artefacts[0], replace(whole.artefacts[1], effective_dimension=1.1))
    )
    for report in (guessing, collapsed):
        with pytest.raises(GateFailedError, match=r"int8 has .* does not tell people apart"):
            export_pairs._require_better_than_guessing(report)


LIMIT_OPTIONS = {
    "max_parity_difference": "MaxParityDifference",
    "max_statistics_distance": "MaxStatisticsDistance",
    "max_first_layer_distance": "MaxFirstLayerDistance",
    "max_colour_ratio": "MaxColourRatio",
    "min_cosine_mean": "MinCosineMean",
    "min_cosine_p1": "MinCosineP1",
    "max_pair_change_p99": "MaxPairChange",
    "max_mean_score_rise": "MaxMeanScoreRise",
    "max_mean_score": "MaxMeanScore",
    "min_effective_dimension": "MinEffectiveDimension",
    "max_tar_loss": "MaxTarLoss",
}


def test_every_limit_is_an_option() -> None:
    assert set(LIMIT_OPTIONS) == set(GateLimits.__dataclass_fields__)


@pytest.mark.parametrize(("limit", "option"), LIMIT_OPTIONS.items())
def test_the_help_of_an_option_says_its_default(limit: str, option: str) -> None:
    described: Any = getattr(export_options, option).__metadata__[0].help
    told = re.search(r"\[([\d.e-]+)(?:; data-free ([\d.]+))?\]", described)
    assert told is not None
    assert float(told[1]) == getattr(GateLimits(), limit)
    synthetic = getattr(limits_for(CropKind.SYNTHETIC_FACES), limit)
    assert float(told[2] or told[1]) == synthetic
