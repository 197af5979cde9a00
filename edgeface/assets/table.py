"""The model files of the runtime: what they are, how large, and the SHA-256 they must have."""

from __future__ import annotations

from dataclasses import dataclass

from edgeface.errors import InvalidInputError

__all__ = ["ASSETS", "DEFAULT_ASSETS", "MEDIAPIPE_WHEEL", "Asset", "WheelMember", "known_asset"]

MEDIAPIPE_WHEEL = "mediapipe==0.10.21"
"""A release whose wheel still carries model files as plain members."""

_MODULES = "mediapipe/modules/"


@dataclass(frozen=True, slots=True)
class WheelMember:
    """One file inside the wheel of ``MEDIAPIPE_WHEEL``."""

    path: str
    size_bytes: int
    sha256: str

    @property
    def name(self) -> str:
        """The file name without its folders."""
        return self.path.rsplit("/", 1)[-1]


@dataclass(frozen=True, slots=True)
class Asset:
    """One model file of the runtime.

    ``official_url`` is the maker's address, None where the maker does not publish these bytes.
    ``wheel_members`` are the files of the wheel it is made of: one is taken as it is, several are
    assembled by :mod:`edgeface.assets.landmarker_bundle`. ``stand_in`` names the asset that does
    the same job when this one cannot be had.
    """

    name: str
    purpose: str
    size_bytes: int
    sha256: str
    licence: str = "Apache-2.0"
    official_url: str | None = None
    wheel_members: tuple[WheelMember, ...] = ()
    stand_in: str | None = None

    @property
    def file_names(self) -> tuple[str, ...]:
        """The names under which an offline folder may hold it: its own, and its maker's."""
        if len(self.wheel_members) != 1:
            return (self.name,)
        return (self.name, self.wheel_members[0].name)


_SHORT_RANGE = WheelMember(
    path=_MODULES + "face_detection/face_detection_short_range.tflite",
    size_bytes=229_714,
    sha256="bbff11cebd1eb27a1e004cae0b0e63ec8c551cbf34a4451148b4908b8db3eca8",
)
_FULL_RANGE = WheelMember(
    path=_MODULES + "face_detection/face_detection_full_range_sparse.tflite",
    size_bytes=676_746,
    sha256="2c3728e6da56f21e21a320433396fb06d40d9088f2247c05e5635a688d45dfe1",
)
_ATTENTION_MESH = WheelMember(
    path=_MODULES + "face_landmark/face_landmark_with_attention.tflite",
    size_bytes=2_495_106,
    sha256="e06a804e0144f9929eda782122916b35d60c697c3c9344013ca2bbe76a6ce2b4",
)

_TABLE = (
    Asset(
        name="face_landmarker.task",
        purpose="478 face landmarks and blendshapes (Google's float16 bundle)",
        size_bytes=3_758_596,
        sha256="64184e229b263107bc2b804c6625db1341ff2bb731874b0bcc2fe6544e0bc9ff",
        official_url=(
            "https://storage.googleapis.com/mediapipe-models/"
            "face_landmarker/face_landmarker/float16/1/face_landmarker.task"
        ),
        stand_in="face_landmarker_legacy.task",
    ),
    Asset(
        name="face_landmarker_legacy.task",
        purpose="478 face landmarks, assembled from the older attention mesh",
        size_bytes=2_740_486,
        sha256="0f3bd9f0a95d9b845f005d32a7fd3cecb37e4b614f8de442150052740367ef34",
        wheel_members=(_SHORT_RANGE, _ATTENTION_MESH),
    ),
    Asset(
        name="blaze_face_short_range.tflite",
        purpose="face detector for faces within about 2 m of a camera",
        size_bytes=_SHORT_RANGE.size_bytes,
        sha256=_SHORT_RANGE.sha256,
        wheel_members=(_SHORT_RANGE,),
    ),
    Asset(
        name="blaze_face_full_range_sparse.tflite",
        purpose="face detector for faces up to about 5 m from a camera",
        size_bytes=_FULL_RANGE.size_bytes,
        sha256=_FULL_RANGE.sha256,
        wheel_members=(_FULL_RANGE,),
    ),
)

ASSETS: dict[str, Asset] = {asset.name: asset for asset in _TABLE}
"""Every asset by name."""

DEFAULT_ASSETS = (
    "face_landmarker.task",
    "blaze_face_short_range.tflite",
    "blaze_face_full_range_sparse.tflite",
)
"""What the runtime needs; a stand-in does for the asset that names it."""


def known_asset(name: str) -> Asset:
    """Return the asset called ``name``.

    Raises:
        InvalidInputError: There is no such asset.
    """
    if name not in ASSETS:
        raise InvalidInputError(f"unknown asset {name!r}, choose one of {', '.join(ASSETS)}")
    return ASSETS[name]
