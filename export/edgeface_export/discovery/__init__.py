"""Which preprocessing a network was trained with, found by how well it separates labelled faces."""

from edgeface_export.discovery.candidates import Candidate, candidates, parse_preprocessing
from edgeface_export.discovery.faces import FacePatch, LabelledFaces, patch_of
from edgeface_export.discovery.result import Discovery, Tried
from edgeface_export.discovery.search import DiscoveryOptions, discover

__all__ = [
    "Candidate",
    "Discovery",
    "DiscoveryOptions",
    "FacePatch",
    "LabelledFaces",
    "Tried",
    "candidates",
    "discover",
    "parse_preprocessing",
    "patch_of",
]
