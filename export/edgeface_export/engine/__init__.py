"""TensorRT engines of a bundle, built on the device: every precision, the fastest that is right."""

from __future__ import annotations

from edgeface_export.engine.candidates import Candidate, EngineReport, build_engines

__all__ = ["Candidate", "EngineReport", "build_engines"]
