"""Face image quality: what is measured of a face, whether it may be compared, how useful it is.

Measures are named as in ISO/IEC 29794-5 where they are the standard's. Formulas and constants of
those are read in OFIQ, its reference implementation (github.com/BSI-OFIQ/OFIQ-Project, MIT
licence); docs/quality.md lists every measure with its unit, its limits and what differs.

:func:`assess` measures a face and applies the gates of a profile (:class:`QualityGateOptions`).
:func:`component` turns a value into the standard's quality component, 0..100.
:func:`unified_quality` combines measures into one number, 0..100, that predicts how well the face
is recognised; :func:`with_agreement` sharpens it by a second embedding.
"""

from __future__ import annotations

from edgeface.quality.assessment import assess, with_agreement
from edgeface.quality.components import component
from edgeface.quality.gates import advice
from edgeface.quality.options import PROFILES, QualityGateOptions
from edgeface.quality.pixels import luminance, sharpness
from edgeface.quality.unified import embedding_agreement, unified_quality

__all__ = [
    "PROFILES",
    "QualityGateOptions",
    "advice",
    "assess",
    "component",
    "embedding_agreement",
    "luminance",
    "sharpness",
    "unified_quality",
    "with_agreement",
]
