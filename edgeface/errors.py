"""Every error that edgeface raises on purpose.

EdgefaceError
├── AccessError                 a door's policy, state or log cannot be relied on
│   ├── AccessPolicyError       the policy is malformed, or asks for what is not allowed
│   ├── AccessStateError        missing, changed, older than it was, or in use
│   ├── AuditError              the audit log was changed, or cannot be written
│   └── LeaseError              a lease that must not open anything
├── MissingDependencyError      an optional package is not installed
├── InvalidInputError           a value given by the caller is unusable (also a ValueError)
├── CheckpointError             a model file cannot be read
│   ├── CheckpointFormatError   damaged, truncated, or not a checkpoint
│   ├── UnsafeCheckpointError   more than data: over a limit, or built to attack the reader
│   └── UnsupportedCheckpointError  understood, but holds something that is not supported
├── ArchitectureError           no known network fits the tensors
├── ActivationSetError          the images given for quantisation are unusable
├── GateFailedError             the artefact was measured and is not good enough
├── BundleError                 a bundle cannot be used
│   ├── BundleFormatError       the manifest is missing, malformed or of an unknown version
│   └── BundleIntegrityError    a file is missing, changed, or reaches outside the bundle
│       └── BundleSignatureError    unsigned, or signed by nobody who is trusted
├── BackendError                an inference engine cannot load or run a model
├── OperatingPointError         no operating point fits what was asked
├── AssetError                  a model file of the runtime is not at hand
│   ├── AssetMissingError
│   └── AssetIntegrityError     its SHA-256 is not the pinned one
├── CameraError                 a source cannot be opened or read
├── RunRecordError              a recorded run cannot be written or read
├── EnrolmentError              the images given do not make a reference; carries the reasons
└── GalleryError                the gallery cannot do what was asked
    ├── GalleryFormatError      not a gallery, damaged, or of an unknown schema
    │   └── GalleryIntegrityError   a row or the file was changed, moved, or put back
    │       └── GalleryRollbackError    the whole file is an older copy
    ├── GalleryKeyError         the key is missing, wrong, or cannot be kept safely
    ├── GalleryModelError       the gallery belongs to another model
    ├── FleetUnavailableError   the server of a fleet does not answer
    ├── SubjectExistsError
    └── SubjectNotFoundError

An expected outcome (no face, too blurred, unknown person) is a value with a reason, never an
exception. ``exit_code`` is what the command line returns: 1 for an outcome "no", 2 for a mistake.
"""

from __future__ import annotations

__all__ = [
    "AccessError",
    "AccessPolicyError",
    "AccessStateError",
    "ActivationSetError",
    "ArchitectureError",
    "AssetError",
    "AssetIntegrityError",
    "AssetMissingError",
    "AuditError",
    "BackendError",
    "BundleError",
    "BundleFormatError",
    "BundleIntegrityError",
    "BundleSignatureError",
    "CameraError",
    "CheckpointError",
    "CheckpointFormatError",
    "EdgefaceError",
    "EnrolmentError",
    "FleetUnavailableError",
    "GalleryError",
    "GalleryFormatError",
    "GalleryIntegrityError",
    "GalleryKeyError",
    "GalleryModelError",
    "GalleryRollbackError",
    "GateFailedError",
    "InvalidInputError",
    "LeaseError",
    "MissingDependencyError",
    "OperatingPointError",
    "RunRecordError",
    "SubjectExistsError",
    "SubjectNotFoundError",
    "UnsafeCheckpointError",
    "UnsupportedCheckpointError",
]


class EdgefaceError(Exception):
    """Base of every error raised on purpose."""

    exit_code = 2


class AccessError(EdgefaceError):
    """What a door's controller rests on cannot be relied on; the door stays closed."""


class AccessPolicyError(AccessError):
    """The policy of a door is malformed, or asks for what is not allowed."""


class AccessStateError(AccessError):
    """The state of a door is missing, was changed, is older than it was, or is in use."""


class AuditError(AccessError):
    """The audit log was changed, cut short or put back, or cannot be written."""

    exit_code = 1


class LeaseError(AccessError):
    """A lease that must not open anything: foreign, changed, used, expired, or of another door."""

    exit_code = 1


class MissingDependencyError(EdgefaceError, ImportError):
    """An optional package is not installed; the message names the extra that brings it."""

    def __init__(self, package: str, *, extra: str) -> None:
        super().__init__(
            f"this needs the package {package!r}, which is not installed; "
            f"install it with: pip install 'edgeface[{extra}]'"
        )
        self.package = package
        self.extra = extra


class InvalidInputError(EdgefaceError, ValueError):
    """A value given by the caller has the wrong type, shape, range, or is not finite."""


class CheckpointError(EdgefaceError):
    """A model file cannot be read."""


class CheckpointFormatError(CheckpointError):
    """The file is damaged, truncated, or not a checkpoint."""


class UnsafeCheckpointError(CheckpointError):
    """The file goes over a limit or is built to attack the reader; nothing in it was run."""


class UnsupportedCheckpointError(CheckpointError):
    """The file was understood, but holds something that edgeface does not support."""


class ArchitectureError(EdgefaceError):
    """No known network fits the tensors of the checkpoint."""


class ActivationSetError(EdgefaceError):
    """The images given for quantisation are too few, or are not faces."""


class GateFailedError(EdgefaceError):
    """The exported artefact was measured and is not good enough; nothing was written."""

    exit_code = 1


class BundleError(EdgefaceError):
    """A bundle cannot be used."""


class BundleFormatError(BundleError):
    """The manifest is missing, malformed, or of a version that this release does not know."""


class BundleIntegrityError(BundleError):
    """A file of the bundle is missing, was changed, or reaches outside the bundle."""


class BundleSignatureError(BundleIntegrityError):
    """A signature was asked for, and none of a trusted key fits the bundle."""


class BackendError(EdgefaceError):
    """An inference engine cannot load or run a model."""


class OperatingPointError(EdgefaceError):
    """No operating point fits what was asked."""


class AssetError(EdgefaceError):
    """A model file of the runtime (detector, landmarker) cannot be used."""


class AssetMissingError(AssetError):
    """A model file of the runtime is on none of the places that were looked at."""


class AssetIntegrityError(AssetError):
    """A model file of the runtime has not the pinned SHA-256."""


class CameraError(EdgefaceError):
    """A source of frames cannot be opened or read."""


class RunRecordError(EdgefaceError):
    """A recorded run cannot be written, or is none."""


class EnrolmentError(EdgefaceError):
    """The images given do not make a reference.

    ``reasons`` holds one sentence for each image, in the order given.
    """

    def __init__(self, message: str, *, reasons: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.reasons = reasons


class GalleryError(EdgefaceError):
    """The gallery cannot do what was asked."""


class GalleryFormatError(GalleryError):
    """The file is not a gallery, is damaged, or has a schema that this release does not know."""


class GalleryIntegrityError(GalleryFormatError):
    """A row of the gallery was changed, moved, removed, or is an earlier one put back."""


class GalleryRollbackError(GalleryIntegrityError):
    """The whole gallery file is older than the one this machine wrote last."""


class GalleryKeyError(GalleryError):
    """The key of the gallery is missing or wrong, or there is no protected place for a new one."""


class GalleryModelError(GalleryError):
    """The gallery or template belongs to another model; scores across models mean nothing."""


class FleetUnavailableError(GalleryError):
    """The server of a fleet does not answer, or refused; this device goes on without it."""

    exit_code = 1


class SubjectExistsError(GalleryError):
    """A subject of that name is enrolled already."""


class SubjectNotFoundError(GalleryError):
    """No subject of that name is enrolled."""
