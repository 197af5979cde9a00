"""Activations that exporters write as several nodes, as the one node that they are.

GELU is written with Erf before operator set 20, hard swish with HardSigmoid before 14, or as a
trainer's own code has it, with ReLU6.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper

__all__ = ["with_whole_activations"]

_TOLERANCE = 1e-4


def with_whole_activations(
    nodes: Sequence[onnx.NodeProto], constants: Mapping[str, npt.NDArray[Any]], end: str
) -> list[onnx.NodeProto]:
    """Return ``nodes``, in order, with one Gelu or HardSwish in place of those that make one.

    ``end`` is the tensor that is kept whatever reads it. Nodes that something else reads as well
    stay, and with them their whole group.
    """
    finder = _Finder(nodes, constants, end)
    for node in nodes:
        if node.op_type == "Erf":
            finder.gelu(node)
        elif node.op_type == "HardSigmoid":
            finder.hard_swish(node)
        elif node.op_type == "Clip":
            finder.own_hard_swish(node)
    return [finder.whole.get(id(node), node) for node in nodes if id(node) not in finder.parts]


class _Finder:
    """Finds groups; ``whole`` is what stands for the last node of each, ``parts`` are the others.

    Both are by the identity of nodes, as those are no keys.
    """

    def __init__(
        self,
        nodes: Sequence[onnx.NodeProto],
        constants: Mapping[str, npt.NDArray[Any]],
        end: str,
    ) -> None:
        self._constants = constants
        self._end = end
        self._makers = {name: node for node in nodes for name in node.output}
        self._readers: dict[str, list[onnx.NodeProto]] = {}
        for node in nodes:
            for name in dict.fromkeys(node.input):
                self._readers.setdefault(name, []).append(node)
        self.whole: dict[int, onnx.NodeProto] = {}
        self.parts: set[int] = set()

    def gelu(self, erf: onnx.NodeProto) -> None:
        """Take x / sqrt(2) -> Erf -> + 1, times x and one half in either order."""
        over = self._makers.get(erf.input[0])
        x = self._scaled(over, 1 / math.sqrt(2))
        shifted = self._reader(erf.output[0], "Add")
        if over is None or x is None or shifted is None or self._number(shifted) != 1.0:
            return
        group = [over, erf, shifted]
        product = self._reader(shifted.output[0], "Mul")
        if product is None:
            return
        group.append(product)
        other = _other(product, shifted.output[0])
        half = self._makers.get(other)
        if other == x:
            last = self._reader(product.output[0], "Mul")
            if last is not None and self._is(last, 0.5):
                self._take([*group, last], "Gelu", x)
        elif half is not None and self._scaled(half, 0.5) == x:
            self._take([half, *group], "Gelu", x)
        elif self._is(product, 0.5):
            last = self._reader(product.output[0], "Mul")
            if last is not None and _other(last, product.output[0]) == x:
                self._take([*group, last], "Gelu", x)

    def hard_swish(self, gate: onnx.NodeProto) -> None:
        """Take x times HardSigmoid(x), of MobileNetV3's slope."""
        of = {entry.name: helper.get_attribute_value(entry) for entry in gate.attribute}
        line = of.get("alpha", 0.2) * 6, of.get("beta", 0.5) * 2
        product = self._reader(gate.output[0], "Mul")
        if product is not None and np.allclose(line, 1.0, atol=_TOLERANCE):
            x = gate.input[0]
            if _other(product, gate.output[0]) == x:
                self._take([gate, product], "HardSwish", x)

    def own_hard_swish(self, clipped: onnx.NodeProto) -> None:
        """Take x times ReLU6(x + 3) and a sixth, in either order."""
        shifted = self._makers.get(clipped.input[0])
        bounds = [self._constants.get(name) for name in clipped.input[1:3]]
        if shifted is None or shifted.op_type != "Add" or self._number(shifted) != 3.0:
            return
        if [None if bound is None else float(bound.reshape(-1)[0]) for bound in bounds] != [0, 6]:
            return
        x = self._data(shifted)
        following = self._readers.get(clipped.output[0], [])
        if x is None or len(following) != 1:
            return
        first = following[0]
        if self._scaled(first, 1 / 6) is not None:
            product = self._reader(first.output[0], "Mul")
            if product is not None and _other(product, first.output[0]) == x:
                self._take([shifted, clipped, first, product], "HardSwish", x)
        elif first.op_type == "Mul" and _other(first, clipped.output[0]) == x:
            last = self._readers.get(first.output[0], [])
            if len(last) == 1 and self._scaled(last[0], 1 / 6) is not None:
                self._take([shifted, clipped, first, last[0]], "HardSwish", x)

    def _take(self, group: list[onnx.NodeProto], kind: str, x: str) -> None:
        """Replace ``group`` if nothing but its next node reads what its nodes make."""
        *inner, last = group
        own = {id(node) for node in group}
        for node in inner:
            readers = self._readers.get(node.output[0], [])
            if node.output[0] == self._end or any(id(reader) not in own for reader in readers):
                return
        if own & (self.parts | set(self.whole)):
            return
        self.parts |= {id(node) for node in inner}
        name = last.name or last.output[0]
        self.whole[id(last)] = helper.make_node(kind, [x], [last.output[0]], name=name)

    def _reader(self, name: str, kind: str) -> onnx.NodeProto | None:
        """Return the only node that reads ``name`` if it is of ``kind``."""
        found = self._readers.get(name, [])
        return found[0] if len(found) == 1 and found[0].op_type == kind else None

    def _number(self, node: onnx.NodeProto) -> float | None:
        """Return the one number among the inputs of ``node``."""
        found = [self._constants[name] for name in node.input if name in self._constants]
        return float(found[0].reshape(-1)[0]) if len(found) == 1 and found[0].size == 1 else None

    def _data(self, node: onnx.NodeProto) -> str | None:
        """Return the only input of ``node`` that is no constant."""
        found = [name for name in node.input if name not in self._constants]
        return found[0] if len(found) == 1 else None

    def _is(self, node: onnx.NodeProto, factor: float) -> bool:
        number = self._number(node)
        return number is not None and math.isclose(number, factor, rel_tol=_TOLERANCE)

    def _scaled(self, node: onnx.NodeProto | None, factor: float) -> str | None:
        """Return what ``node`` multiplies by ``factor``, or divides by its inverse."""
        if node is None or node.op_type not in ("Mul", "Div"):
            return None
        wanted = factor if node.op_type == "Mul" else 1 / factor
        backwards = node.op_type == "Div" and node.input[0] in self._constants
        return self._data(node) if self._is(node, wanted) and not backwards else None


def _other(node: onnx.NodeProto, name: str) -> str:
    """Return the other of the two inputs of ``node``."""
    return str(node.input[1] if node.input[0] == name else node.input[0])
