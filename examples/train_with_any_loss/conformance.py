"""Every loss, from training to INT8 bundle: is the right network exported, and does it verify?

Usage: python -m examples.train_with_any_loss.conformance --images DIR --pairs PAIRS
       --pair-images DIR [--landmarks FILE] [--folds 1] [--losses arcface,magface]

prints one row of a table for each loss, and exits with 1 where a row is not as it must be.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from examples.train_default.train import embed
from examples.train_with_any_loss.faces import TEMPLATE, Faces, read_faces
from examples.train_with_any_loss.recipes import RECIPES
from examples.train_with_any_loss.save_formats import Trained
from examples.train_with_any_loss.train import Options, save, train

HEADER = (
    "| loss | first and last ten steps | saved as | found under | stripped | AUC fp32 | AUC INT8 "
    "| TAR@1e-2 fp32 | TAR@1e-2 INT8 | cosine of one crop | passed |"
)
_TARGET_FMR = 1e-2
_LARGEST_DIFFERENCE = 1e-4


@dataclass(frozen=True)
class Row:
    """One loss: what was found in its checkpoint, and what verification gave before and after.

    ``difference`` is that of a value of a unit embedding to the trained network in torch, which
    tells whether the right one of several copies was exported. ``problems`` is empty where all is
    as it must be.
    """

    loss: str
    course: tuple[float, float]
    saved_as: str
    prefix: str
    stripped: tuple[str, ...]
    known_as: str
    difference: float
    auc: dict[str, float]
    tar: dict[str, float]
    cosine: float
    problems: tuple[str, ...]

    def markdown(self) -> str:
        """Return the row of the table."""
        cells = [
            self.loss,
            f"{self.course[0]:.3g}, {self.course[1]:.3g}",
            self.saved_as,
            f"`{self.prefix or '(top)'}`",
            ", ".join(self.stripped),
            *(f"{self.auc[name]:.4f}" for name in ("fp32", "int8")),
            *(f"{self.tar[name]:.2%}" for name in ("fp32", "int8")),
            f"{self.cosine:.4f}",
            "yes" if not self.problems else "no: " + "; ".join(self.problems),
        ]
        return f"| {' | '.join(cells)} |"


class Judge:
    """Verifies bundles on the pairs of people whom no loss was trained on."""

    def __init__(
        self, pairs: Path, images: Path, landmarks: Path | None, folds: tuple[int, ...] | None
    ) -> None:
        from edgeface_calibration.pairs import read_pairs

        self._protocol = read_pairs(pairs, images, folds)
        self._images, self._landmarks = images, landmarks
        self._crops: dict[Path, Any] = {}
        self.reports: list[Any] = []

    def __call__(self, bundle: Any) -> Any:
        """Return the evidence, as an export takes it; the report is kept in ``reports``."""
        from edgeface.cli.export_pairs import evidence_of
        from edgeface.cli.labelled_pairs import crop_source
        from edgeface_calibration.verify import verify_bundle

        with crop_source(self._landmarks, self._images, TEMPLATE) as source:
            self._source = source
            self.reports.append(verify_bundle(bundle, self._protocol, self))
        return evidence_of(self.reports[-1])

    def crop(self, path: Path) -> Any:
        """Return the aligned face of ``path``, cut once for all losses."""
        if path not in self._crops:
            self._crops[path] = self._source.crop(path)
        return self._crops[path]


def conform(
    name: str, faces: Faces, judge: Judge, folder: Path, *, start: Path, options: Options
) -> Row:
    """Return what became of the loss called ``name``: trained, saved, exported, verified."""
    from edgeface_export import ExportOptions, export_checkpoint

    trained = train(name, faces, start=start, options=options)
    path = save(trained, folder / f"{name}{RECIPES[name].suffix}")
    result = export_checkpoint(
        path, folder / f"{name}.edgeface", options=ExportOptions(int8=True), pairs=judge
    )
    return _row(trained, result, judge.reports[-1], faces)


def _row(trained: Trained, result: Any, report: Any, faces: Faces) -> Row:
    from edgeface.backends import open_backend
    from edgeface_calibration.error_rates import area_under_roc

    recipe, found = RECIPES[trained.name], result.recognition
    crops = faces.crops[:16]
    wanted = embed(trained.average if recipe.averaged else trained.model, crops)
    backend = open_backend(result.bundle, backend="ort", artefact="fp32", threads=1)
    rows = backend.run(crops)
    backend.close()
    difference = float(np.abs(rows - wanted).max())
    scores = report.scores
    entries = {entry.artefact: entry for entry in report.artefacts}
    row = Row(
        loss=trained.name,
        course=(float(np.mean(trained.history[:10])), float(np.mean(trained.history[-10:]))),
        saved_as=recipe.save.__name__.replace("_", " "),
        prefix=found.prefix,
        stripped=tuple(entry.kind for entry in found.dropped if entry.kind != "batch counters"),
        known_as=result.bundle.manifest.training.loss,
        difference=difference,
        auc={k: area_under_roc(scores[k].mated, scores[k].non_mated) for k in ("fp32", "int8")},
        tar={k: _tar(entries[k]) for k in ("fp32", "int8")},
        cosine=result.bundle.manifest.verdict.figures["int8_cosine_mean"],
        problems=(),
    )
    return Row(**{**_fields(row), "problems": tuple(_problems(row, result))})


def _fields(row: Row) -> dict[str, Any]:
    return {name: getattr(row, name) for name in row.__dataclass_fields__}


def _tar(entry: Any) -> float:
    return float(next(found.tar for found in entry.tar if found.target_fmr == _TARGET_FMR))


def _problems(row: Row, result: Any) -> list[str]:
    problems = []
    if not row.difference <= _LARGEST_DIFFERENCE:
        problems.append(f"another network was exported, off by {row.difference:.3g}")
    if not all(gate.passed for gate in result.gates):
        problems.append("a gate failed")
    if RECIPES[row.loss].averaged != any("moving average" in r for r in result.recognition.reasons):
        problems.append("the choice of averaged weights is not said")
    return problems


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=Path, required=True, help="a folder for each person")
    parser.add_argument("--pairs", type=Path, required=True)
    parser.add_argument("--pair-images", type=Path, required=True)
    parser.add_argument("--landmarks", type=Path)
    parser.add_argument("--folds", default="1")
    parser.add_argument("--losses", default=",".join(RECIPES))
    parser.add_argument("--start", type=Path, required=True, help="weights to go on from")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--learning-rate", type=float, default=3e-4)
    parser.add_argument("--faces", type=int, default=800)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    faces = read_faces(args.images, args.landmarks, most=args.faces)
    folds = tuple(int(part) for part in args.folds.split(","))
    judge = Judge(args.pairs, args.pair_images, args.landmarks, folds)
    print(HEADER + "\n" + "|---" * HEADER.count(" | ") + "|---|", flush=True)
    failed, options = 0, Options(args.steps, learning_rate=args.learning_rate)
    with tempfile.TemporaryDirectory(prefix="edgeface-conformance-") as folder:
        for name in args.losses.split(","):
            row = conform(name, faces, judge, Path(folder), start=args.start, options=options)
            failed += bool(row.problems)
            print(row.markdown(), flush=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
