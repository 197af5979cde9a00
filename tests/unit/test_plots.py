from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeface.errors import InvalidInputError, MissingDependencyError
from edgeface.types import OperatingPoint
from edgeface_calibration.bootstrap import LabelledScores, TarAtFmr
from edgeface_calibration.error_rates import Interval
from edgeface_calibration.pairs import Pair, PairProtocol
from edgeface_calibration.plots import save_det_curve, save_score_histogram
from edgeface_calibration.report import ArtefactFigures, VerificationReport

cv2 = pytest.importorskip("cv2")
pytest.importorskip("matplotlib")


def figures(name: str) -> ArtefactFigures:
    return ArtefactFigures(
        artefact=name,
        backend="test",
        n_mated=300,
        n_non_mated=300,
        n_unusable=0,
        accuracy=0.987,
        accuracy_std=0.005,
        accuracy_interval=Interval(0.98, 0.99),
        accuracy_counting_missing=0.987,
        tar=(TarAtFmr(1e-2, 0.98, Interval(0.97, 0.99), 0.3), TarAtFmr(1e-3, note="none")),
        eer=0.013,
        auc=0.999,
        mean_mated_score=0.6,
        mean_non_mated_score=0.0,
        effective_dimension=60.0,
    )


def report(*names: str) -> VerificationReport:
    rng = np.random.default_rng(0)
    scores = {
        name: LabelledScores(
            rng.normal(0.6, 0.1, 300).clip(-1, 1),
            rng.normal(0, 0.1, 300).clip(-1, 1),
            np.arange(300),
            np.arange(600).reshape(-1, 2),
        )
        for name in names
    }
    protocol = PairProtocol("made up", Path(), (Pair("a", "b", same=True),), (1,))
    return VerificationReport(
        "tiny", "0" * 64, protocol, (), tuple(map(figures, names)), scores, embeddings={}
    )


def colours(path: Path) -> int:
    return len(np.unique(cv2.imread(str(path)).reshape(-1, 3), axis=0))


@pytest.mark.parametrize("names", [("fp32",), ("fp32", "int8"), ("a", "b", "c")])
def test_histogram_has_a_panel_for_each_artefact(tmp_path: Path, names: tuple[str, ...]) -> None:
    save_score_histogram(report(*names), tmp_path / "h.png")
    picture = cv2.imread(str(tmp_path / "h.png"))
    assert picture.shape[1] == pytest.approx(5.6 * 120 * len(names), abs=2)
    assert colours(tmp_path / "h.png") > 20


def test_histogram_draws_the_thresholds_given(tmp_path: Path) -> None:
    points = [OperatingPoint(0.4, 1e-3, "fp32", "test"), OperatingPoint(0.4, 1e-3, "int8", "test")]
    save_score_histogram(report("fp32"), tmp_path / "read.png")
    save_score_histogram(report("fp32"), tmp_path / "fitted.png", points)
    assert (tmp_path / "read.png").read_bytes() != (tmp_path / "fitted.png").read_bytes()


def test_trade_off_curve_is_drawn(tmp_path: Path) -> None:
    save_det_curve(report("fp32", "int8"), tmp_path / "d.png")
    assert colours(tmp_path / "d.png") > 20


def test_picture_that_cannot_be_written_is_the_users_mistake(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="cannot be written"):
        save_det_curve(report("fp32"), tmp_path / "no such folder" / "d.png")


def test_matplotlib_that_is_not_installed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    with pytest.raises(MissingDependencyError, match=r"edgeface\[report\]"):
        save_det_curve(report("fp32"), tmp_path / "d.png")
