"""The manifest and the verdict of an export."""

from __future__ import annotations

from importlib import metadata

from edgeface._version import __version__
from edgeface.bundle import Manifest, ModelSource, Verdict
from edgeface.types import OperatingPoint
from edgeface_export.architectures.recognition import Recognition
from edgeface_export.bundle_writer import model_identity
from edgeface_export.checkpoints import Checkpoint
from edgeface_export.crop_sets import CropKind
from edgeface_export.export_record import ExportRecord
from edgeface_export.pair_evidence import merged_points
from edgeface_export.provisional import provisional_points

__all__ = ["build_manifest", "points_of", "verdict_of"]

_COLLECT = (
    "Collect aligned faces with `edgeface activation-set collect` and export again with "
    "`--activation-set`, or check with `edgeface verify`."
)


def build_manifest(
    checkpoint: Checkpoint,
    recognition: Recognition,
    fp32: bytes,
    *,
    name: str,
    verdict: Verdict,
    points: tuple[OperatingPoint, ...] = (),
) -> Manifest:
    """Return the manifest of the model whose float graph is ``fp32``, without its files."""
    network, layout = recognition.network, recognition.layout
    contract = {
        "crop_size": str(network.crop_size),
        "alignment_template": network.alignment_template,
        "embedding_size": network.embedding_size,
        "metric": "cosine",
    }
    return Manifest(
        model_id=model_identity(fp32, contract),
        name=name,
        embedding_size=network.embedding_size,
        crop_size=network.crop_size,
        alignment_template=network.alignment_template,
        source=ModelSource(
            file_name=checkpoint.path.name,
            sha256=checkpoint.sha256,
            format=checkpoint.format.value,
            architecture=layout.architecture,
            trainer=layout.trainer,
            loss=layout.loss,
        ),
        artefacts=(),
        verdict=verdict,
        operating_points=points,
        tools=_tools(),
    )


def verdict_of(record: ExportRecord, points: tuple[OperatingPoint, ...]) -> Verdict:
    """Return the verdict of what was found, ``failed`` where a gate ended it."""
    data_free = record.int8 is not None and record.crops.data_free
    notes = [_data_free(record)] if data_free else []
    unresolved = sorted({p.target_fmr for p in points if p.provisional}, reverse=True)
    if unresolved and record.pairs is None:
        notes.append(
            "the operating points are provisional: fit them with `edgeface verify --fit` on people "
            "like those the device will see."
        )
    elif unresolved:
        listed = ", ".join(f"{fmr:g}" for fmr in unresolved)
        notes.append(
            f"the operating points at FMR {listed} are provisional: the pairs were too few to fit "
            "them."
        )
    if record.pairs is not None:
        notes += record.pairs.notes
    status = "failed" if record.refusal else "passed"
    return Verdict(
        status, data_free, dict(record.figures), (*notes, *record.notes, *record.cpu_notes)
    )


def points_of(record: ExportRecord, artefacts: tuple[str, ...]) -> tuple[OperatingPoint, ...]:
    """Return the operating points of ``artefacts``: fitted where pairs were given."""
    provisional = [point for name in artefacts for point in provisional_points(name)]
    fitted = () if record.pairs is None else record.pairs.points
    return merged_points(provisional, [point for point in fitted if point.artefact in artefacts])


def _data_free(record: ExportRecord) -> str:
    crops = record.crops
    measured = len(crops.held_out)
    if crops.kind is CropKind.SYNTHETIC_FACES:
        ranging = 0 if crops.ranging is None else len(crops.ranging)
        return (
            f"data-free: {ranging} synthetic faces set the INT8 ranges and {measured} others "
            f"measured them. They are not people: real faces may lose more. {_COLLECT}"
        )
    return (
        "data-free: the INT8 ranges come from BatchNorm statistics and were tried on "
        f"{measured} synthetic pictures, not on faces. {_COLLECT}"
    )


def _tools() -> dict[str, str]:
    versions = {package: metadata.version(package) for package in ("onnx", "onnxruntime", "numpy")}
    return {"edgeface": __version__, **versions}
