"""Two portraits that come inside of ordinary packages, both in the public domain.

Rear Admiral Grace Hopper (US Navy photograph, in matplotlib's sample data) and astronaut Eileen
Collins (NASA photograph, in scikit-image's data).
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from edgeface.camera import read_image
from edgeface.errors import CameraError, MissingDependencyError
from edgeface.types import ImageArray

__all__ = ["ENROLLED", "STRANGER", "photo"]

ENROLLED, STRANGER = "Grace Hopper", "Eileen Collins"

# Person: distribution, import name, path inside the package.
_PHOTOS = {
    ENROLLED: ("matplotlib", "matplotlib", "mpl-data/sample_data/grace_hopper.jpg"),
    STRANGER: ("scikit-image", "skimage", "data/astronaut.png"),
}


def photo(person: str) -> ImageArray:
    """Return the portrait of ``person`` as (height, width, 3) uint8 RGB, from an installed package.

    Raises:
        MissingDependencyError: The package is not installed.
        CameraError: The package does not hold the picture.
    """
    distribution, package, inside = _PHOTOS[person]
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise MissingDependencyError(distribution, extra="demo")
    path = Path(spec.origin).parent / inside
    if not path.is_file():
        raise CameraError(
            f"the installed {distribution} has no {inside}; install its usual release"
        )
    return read_image(path).pixels
