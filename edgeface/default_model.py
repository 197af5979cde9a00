"""The recogniser that comes with the package: for demonstrations, first steps and tests."""

from __future__ import annotations

from pathlib import Path

from edgeface.bundle import Bundle

__all__ = ["DEFAULT_MODEL_NOTICE", "default_bundle", "default_bundle_path"]

_FOLDER = Path(__file__).parent / "models" / "default.edgeface"

DEFAULT_MODEL_NOTICE = (
    "model: edgeface's own default, a demonstration model trained on few people: not for access "
    "control (docs/models/default.md). Choose another with --model BUNDLE"
)
"""What a command says on stderr when no model was named."""


def default_bundle_path() -> Path:
    """Return the folder of the default bundle."""
    return _FOLDER


def default_bundle() -> Bundle:
    """Return the default bundle, its files checked against their hashes.

    A demonstration model: docs/models/default.md says how it was made, how good it is and what it
    must not be used for.

    Raises:
        BundleError: The installed files are damaged.
    """
    return Bundle.open(_FOLDER)
