"""Counts what a file costs, and refuses it when a limit is passed."""

from __future__ import annotations

from edgeface.errors import UnsafeCheckpointError
from edgeface_export.checkpoints.values import ReadLimits

__all__ = ["Budget"]


class Budget:
    """What is left of the limits while one file is read."""

    def __init__(self, limits: ReadLimits) -> None:
        self.limits = limits
        self._opcodes_left = limits.max_opcodes
        self._built_left = limits.max_nodes
        self._remembered_left = limits.max_nodes
        self._visits_left = limits.max_nodes
        self._tensors_left = limits.max_tensors
        self._scalars_left = limits.max_tensors
        self._bytes_left = limits.max_tensor_bytes_total

    def opcode(self) -> None:
        """Count one pickle instruction."""
        self._opcodes_left -= 1
        if self._opcodes_left < 0:
            raise _over("pickle instructions", self.limits.max_opcodes, "max_opcodes")

    def built(self, count: int = 1) -> None:
        """Count objects built, or copied into another, by a pickle."""
        self._built_left -= count
        if self._built_left < 0:
            raise _over("pickled objects", self.limits.max_nodes, "max_nodes")

    def remembered(self) -> None:
        """Count one entry of a pickle's memo."""
        self._remembered_left -= 1
        if self._remembered_left < 0:
            raise _over("remembered objects", self.limits.max_nodes, "max_nodes")

    def visit(self, count: int = 1) -> None:
        """Count steps of the walk over the pickled objects."""
        self._visits_left -= count
        if self._visits_left < 0:
            raise _over(
                "values, counted on every path to them,", self.limits.max_nodes, "max_nodes"
            )

    def tensor(self) -> None:
        """Count one named tensor."""
        self._tensors_left -= 1
        if self._tensors_left < 0:
            raise _over("tensors", self.limits.max_tensors, "max_tensors")

    def scalar(self) -> None:
        """Count one named scalar."""
        self._scalars_left -= 1
        if self._scalars_left < 0:
            raise _over("named scalars", self.limits.max_tensors, "max_tensors")

    def bytes(self, count: int) -> None:
        """Count the bytes of one array before it is made."""
        self._bytes_left -= count
        if self._bytes_left < 0:
            raise _over(
                "bytes of tensors", self.limits.max_tensor_bytes_total, "max_tensor_bytes_total"
            )


def _over(what: str, limit: int, setting: str) -> UnsafeCheckpointError:
    return UnsafeCheckpointError(
        f"holds more than {limit:,} {what}; raise ReadLimits.{setting} if you trust the file"
    )
