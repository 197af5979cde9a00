"""What an export has found out so far: the report of it, whether it ends well or not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgeface.errors import GateFailedError
from edgeface.manifest import Training
from edgeface_export.architectures.recognition import Recognition
from edgeface_export.crop_sets import CropSets
from edgeface_export.discovery import Discovery
from edgeface_export.gate_limits import GateLimits
from edgeface_export.gates import GateResult, require_passed
from edgeface_export.int8 import Int8Result
from edgeface_export.pair_evidence import PairEvidence

__all__ = ["ExportRecord"]


class ExportRecord:
    """Collects figures, gates and evidence in the order in which they are found.

    ``refusal`` is the sentence that ended the export, empty where nothing did.
    """

    def __init__(self, recognition: Recognition, crops: CropSets, limits: GateLimits) -> None:
        self.recognition = recognition
        self.crops = crops
        self.limits = limits
        self.figures: dict[str, float] = {}
        self.gates: list[GateResult] = []
        self.notes: list[str] = []
        self.speed: tuple[dict[str, Any], ...] = ()
        self.cpu_notes: tuple[str, ...] = ()
        self.int8: Int8Result | None = None
        self.pairs: PairEvidence | None = None
        self.training = Training()
        self.discovery: Discovery | None = None
        self.refusal = ""

    def judge(
        self, results: Sequence[GateResult], figures: Mapping[str, float], tried: str = ""
    ) -> None:
        """Keep ``results`` and ``figures``, and return if all gates passed.

        Raises:
            GateFailedError: One or more failed.
        """
        self.figures |= figures
        self.gates += results
        try:
            require_passed(results, tried)
        except GateFailedError as exc:
            self.refusal = str(exc)
            raise
