"""Collects named tensors and scalars, whatever the format, into what a checkpoint holds."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from edgeface_export.checkpoints.budget import Budget
from edgeface_export.checkpoints.materialise import Decoded, Materialiser, Storages
from edgeface_export.checkpoints.nodes import Record
from edgeface_export.checkpoints.text import plural, without_surrogates
from edgeface_export.checkpoints.values import CheckpointFormat, CheckpointTensor, Scalar
from edgeface_export.checkpoints.walk import TENSOR_NODES, outermost_module, walk

__all__ = ["Contents"]


@dataclass(slots=True, eq=False, repr=False)
class Contents:
    """What was found so far; a name that is taken gets the suffix ``#2`` and so on."""

    format: CheckpointFormat
    budget: Budget
    scalars: dict[str, Scalar] = field(default_factory=dict)
    foreign: set[str] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)
    whole_module: bool = False
    root_class: str = ""
    _decoded: dict[str, Decoded] = field(default_factory=dict)
    _uses: Counter[str] = field(default_factory=Counter)
    _renamed: int = 0

    def add_tensor(self, name: str, decoded: Decoded) -> None:
        """Add one tensor."""
        self.budget.tensor()
        self._decoded[self._free_name(name)] = decoded

    def add_scalar(self, name: str, value: object) -> None:
        """Add one scalar; an integer beyond 64 bits is left out."""
        if isinstance(value, int) and value.bit_length() > 64:
            return
        if isinstance(value, (bool, int, float, str)):
            self.budget.scalar()
            shown = without_surrogates(value) if isinstance(value, str) else value
            self.scalars[self._free_name(name)] = shown

    def add_tree(
        self,
        root: object,
        storages: Storages,
        *,
        prefix: str | None = None,
        with_scalars: bool = True,
    ) -> None:
        """Add every tensor and scalar below the root of a pickle."""
        materialiser = Materialiser(storages, self.budget)
        for name, node in walk(root, self.budget, prefix=prefix):
            if isinstance(node, TENSOR_NODES):
                decoded = materialiser.decode(node, name)
                if decoded is not None:
                    self.add_tensor(name, decoded)
            elif with_scalars:
                self.add_scalar(name, node)

    def describe_root(self, root: object) -> None:
        """Note the class of the outermost object or module."""
        module = outermost_module(root, self.budget)
        self.whole_module = module is not None
        outermost = root if isinstance(root, Record) else module
        self.root_class = "" if outermost is None else str(outermost.of)

    def tensors(self) -> dict[str, CheckpointTensor]:
        """The tensors by name, in the order of adding."""
        keys = Counter(one.storage_key for one in self._decoded.values())
        return {
            name: CheckpointTensor(
                name=name,
                array=one.array,
                stored_dtype=one.stored_dtype,
                shares_storage=one.storage_key is not None and keys[one.storage_key] > 1,
            )
            for name, one in self._decoded.items()
        }

    def all_notes(self) -> tuple[str, ...]:
        """The notes of the reader, and those that follow from the tensors."""
        quantised = sum(one.stored_dtype.startswith(("qint", "quint")) for one in self._all())
        overflowed = sum(one.overflowed for one in self._all())
        notes = list(self.notes)
        if quantised:
            notes.append(f"{plural(quantised, 'quantised tensor')} dequantised to float32")
        if overflowed:
            notes.append(f"{plural(overflowed, 'tensor')} with values too large for float32")
        if self._renamed:
            notes.append(f"{plural(self._renamed, 'value')} renamed, as the name was taken")
        return tuple(notes)

    def _all(self) -> list[Decoded]:
        return list(self._decoded.values())

    def _free_name(self, name: str) -> str:
        free = name
        while free in self._decoded or free in self.scalars:
            self._uses[name] += 1
            free = f"{name}#{self._uses[name] + 1}"
        self._renamed += free != name
        return free
