"""The threshold on PAD scores, with the evidence for it."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from edgeface.errors import OperatingPointError

__all__ = ["PadOperatingPoint"]

_MAX_FILE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class PadOperatingPoint:
    """A threshold on the score of a window, and what was measured there.

    A window is accepted when its score is finite and at least ``threshold``, which is in 0..1.
    ``model_ids`` are the models whose scores were fused, in any order. ``bpcer`` and ``apcer``,
    the latter of the worst kind of attack, are None where nothing was measured; then the point is
    ``provisional``.
    """

    threshold: float
    model_ids: tuple[str, ...]
    protocol: str
    bpcer: float | None = None
    apcer: float | None = None
    n_bona_fide: int = 0
    n_attacks: int = 0
    provisional: bool = False

    def __post_init__(self) -> None:
        if not 0.0 <= self.threshold <= 1.0:
            raise OperatingPointError(
                f"a threshold on PAD scores must be in 0..1, got {self.threshold}"
            )
        for rate in (self.bpcer, self.apcer):
            if rate is not None and not 0.0 <= rate <= 1.0:
                raise OperatingPointError(f"an error rate must be in 0..1 or None, got {rate}")
        object.__setattr__(self, "model_ids", tuple(sorted(self.model_ids)))

    @classmethod
    def of_trainer(cls, model_ids: Sequence[str]) -> PadOperatingPoint:
        """Return the rule of MiniFASNet's trainer, that the bona fide class is the likeliest.

        At 0.5 no other class can be likelier. It was not measured on anybody's cameras.
        """
        return cls(
            threshold=0.5,
            model_ids=tuple(model_ids),
            protocol="the bona fide class is likelier than all others together",
            provisional=True,
        )

    def accepts(self, score: float) -> bool:
        """Return whether ``score`` is accepted; False for NaN, infinity and anything below."""
        return math.isfinite(score) and score >= self.threshold

    def require_models(self, model_ids: Sequence[str]) -> None:
        """Return if the point was made for these models.

        Raises:
            OperatingPointError: It was made for others.
        """
        if tuple(sorted(model_ids)) != self.model_ids:
            raise OperatingPointError(
                "the operating point was made for other models than those that are loaded; "
                "fit one with `edgeface pad evaluate --fit`"
            )

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write the point to ``path`` as JSON."""
        text = json.dumps(asdict(self), indent=2, sort_keys=True, allow_nan=False)
        Path(path).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> PadOperatingPoint:
        """Return the point written in the file at ``path``.

        Raises:
            OperatingPointError: The file cannot be read or holds no such point.
        """
        file = Path(path)
        try:
            if file.stat().st_size > _MAX_FILE_BYTES:
                raise OperatingPointError(f"{file} is too large to be an operating point")
            data = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as exc:
            raise OperatingPointError(f"{file} holds no operating point: {exc}") from exc
        return _checked(data, str(file))


def _checked(data: Any, where: str) -> PadOperatingPoint:
    """Return the point that ``data`` is, with every value's type looked at."""
    accepts: dict[str, Callable[[Any], bool]] = {
        "threshold": _is_number,
        "model_ids": lambda v: isinstance(v, list) and all(isinstance(each, str) for each in v),
        "protocol": lambda v: isinstance(v, str),
        "bpcer": lambda v: v is None or _is_number(v),
        "apcer": lambda v: v is None or _is_number(v),
        "n_bona_fide": lambda v: type(v) is int and v >= 0,
        "n_attacks": lambda v: type(v) is int and v >= 0,
        "provisional": lambda v: isinstance(v, bool),
    }
    names = {entry.name for entry in fields(PadOperatingPoint)}
    if not isinstance(data, dict) or set(data) != names:
        raise OperatingPointError(f"{where} must hold an object of {', '.join(sorted(names))}")
    wrong = [name for name, fits in accepts.items() if not fits(data[name])]
    if wrong:
        raise OperatingPointError(f"{where} has unusable values of {', '.join(wrong)}")
    return PadOperatingPoint(**data | {"model_ids": tuple(data["model_ids"])})


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)
