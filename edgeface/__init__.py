"""On-device face recognition: enrol people, identify them in pictures and camera streams.

The names below are the public interface. Importing the package loads numpy and nothing heavier;
what a name needs is imported when the name is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from edgeface._version import __version__
from edgeface.errors import (
    AccessError,
    AccessPolicyError,
    AccessStateError,
    ActivationSetError,
    ArchitectureError,
    AssetError,
    AssetIntegrityError,
    AssetMissingError,
    AuditError,
    BackendError,
    BundleError,
    BundleFormatError,
    BundleIntegrityError,
    BundleSignatureError,
    CameraError,
    CheckpointError,
    CheckpointFormatError,
    EdgefaceError,
    EnrolmentError,
    FleetUnavailableError,
    GalleryError,
    GalleryFormatError,
    GalleryIntegrityError,
    GalleryKeyError,
    GalleryModelError,
    GalleryRollbackError,
    GateFailedError,
    InvalidInputError,
    LeaseError,
    MissingDependencyError,
    OperatingPointError,
    RunRecordError,
    SubjectExistsError,
    SubjectNotFoundError,
    UnsafeCheckpointError,
    UnsupportedCheckpointError,
)
from edgeface.types import (
    AlignedFace,
    BoundingBox,
    Candidate,
    Event,
    EventKind,
    FaceDetection,
    FaceLandmarks,
    Frame,
    IdentificationResult,
    Observation,
    OperatingPoint,
    Outcome,
    QualityMeasure,
    QualityReport,
    RejectionReason,
    Size,
    Template,
)

if TYPE_CHECKING:
    from edgeface.bundle import Bundle
    from edgeface.default_model import default_bundle
    from edgeface.pipeline import (
        EnrolmentReport,
        FrameResult,
        PadOptions,
        Recognizer,
        RecognizerOptions,
    )

__all__ = [
    "AccessError",
    "AccessPolicyError",
    "AccessStateError",
    "ActivationSetError",
    "AlignedFace",
    "ArchitectureError",
    "AssetError",
    "AssetIntegrityError",
    "AssetMissingError",
    "AuditError",
    "BackendError",
    "BoundingBox",
    "Bundle",
    "BundleError",
    "BundleFormatError",
    "BundleIntegrityError",
    "BundleSignatureError",
    "CameraError",
    "Candidate",
    "CheckpointError",
    "CheckpointFormatError",
    "EdgefaceError",
    "EnrolmentError",
    "EnrolmentReport",
    "Event",
    "EventKind",
    "FaceDetection",
    "FaceLandmarks",
    "FleetUnavailableError",
    "Frame",
    "FrameResult",
    "GalleryError",
    "GalleryFormatError",
    "GalleryIntegrityError",
    "GalleryKeyError",
    "GalleryModelError",
    "GalleryRollbackError",
    "GateFailedError",
    "IdentificationResult",
    "InvalidInputError",
    "LeaseError",
    "MissingDependencyError",
    "Observation",
    "OperatingPoint",
    "OperatingPointError",
    "Outcome",
    "PadOptions",
    "QualityMeasure",
    "QualityReport",
    "Recognizer",
    "RecognizerOptions",
    "RejectionReason",
    "RunRecordError",
    "Size",
    "SubjectExistsError",
    "SubjectNotFoundError",
    "Template",
    "UnsafeCheckpointError",
    "UnsupportedCheckpointError",
    "__version__",
    "default_bundle",
]

_LAZY = {
    "Bundle": "edgeface.bundle",
    "EnrolmentReport": "edgeface.pipeline",
    "FrameResult": "edgeface.pipeline",
    "PadOptions": "edgeface.pipeline",
    "Recognizer": "edgeface.pipeline",
    "RecognizerOptions": "edgeface.pipeline",
    "default_bundle": "edgeface.default_model",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'edgeface' has no attribute {name!r}")
    value = getattr(importlib.import_module(_LAZY[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
