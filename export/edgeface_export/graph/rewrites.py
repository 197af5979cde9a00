"""Exact float forms of PReLU that CPU engines run faster than their PReLU.

ONNX Runtime's CPU provider computes convolutions in blocks of channels, and has no such kernel
for PReLU: every PReLU costs two changes of layout and a slow loop, some 40 % of a MobileFaceNet.
Each form here is equal to PReLU(x) up to rounding and stays within the blocked layout. Which is
fastest depends on the engine's version and the processor, so they are measured, beside the plain
graph, which is kept where nothing is faster.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from edgeface.errors import GateFailedError
from edgeface.types import ImageArray
from edgeface_export.graph.session import EmbeddingSession

__all__ = [
    "FORMS",
    "PLAIN",
    "ROUNDS",
    "FastestFloat",
    "fastest_fp32",
    "rewrite_prelu",
    "time_in_turns",
]

PLAIN = "plain"
_MAX_DIFFERENCE = 1e-5
_WARM_UP_ROUNDS = 2
ROUNDS: Mapping[int, int] = {1: 25, 8: 3}
"""Runs that are timed, by batch size; the first decides. Fewer are noise on a busy machine."""
_Array = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class FastestFloat:
    """The fastest float graph: its form, and milliseconds of each candidate by batch size.

    ``form`` is ``plain`` where the graph given was the fastest.
    """

    form: str
    model: onnx.ModelProto
    milliseconds: dict[str, dict[int, float]]

    def speed_ratio(self, batch: int) -> float:
        """Return how many times faster than the plain graph it is."""
        return self.milliseconds[PLAIN][batch] / self.milliseconds[self.form][batch]


def fastest_fp32(
    plain: onnx.ModelProto,
    flipped: onnx.ModelProto,
    crops: ImageArray,
    *,
    forms: Sequence[str] | None = None,
    rounds: Mapping[int, int] | None = None,
    budget_s: float = math.inf,
) -> FastestFloat:
    """Return the fastest of ``plain`` and its rewrites on ONNX Runtime: one thread, one crop.

    ``flipped`` is the same network with no slope above 1 where that can be had
    (:func:`edgeface_export.graph.flip.flip_network`); rewrites start from it. ``crops`` are
    (n, height, width, 3) uint8; equality is checked on eight of them. ``forms`` are those tried,
    by default all. ``rounds`` are the runs that are timed, by batch size, by default ``ROUNDS``;
    each batch size ends after ``budget_s``. Nothing is lost where two are close and noise decides:
    they are equal.

    Raises:
        GateFailedError: A rewrite is not equal to the plain graph within 1e-5 (an error of ours).
    """
    models = {PLAIN: plain}
    for form in FORMS if forms is None else forms:
        rewritten = rewrite_prelu(flipped, form)
        if rewritten is not None:
            models[form] = rewritten
    sessions = {form: EmbeddingSession(model, threads=1) for form, model in models.items()}
    _require_equal(sessions, crops[:8])
    milliseconds: dict[str, dict[int, float]] = {form: {} for form in models}
    rounds = rounds or ROUNDS
    for batch, count in rounds.items():
        pixels = np.resize(crops, (batch, *crops.shape[1:]))
        runs = {form: partial(session.run, pixels) for form, session in sessions.items()}
        for form, taken in time_in_turns(runs, count, budget_s=budget_s).items():
            milliseconds[form][batch] = taken
    first = next(iter(rounds))
    best = min(models, key=lambda form: milliseconds[form][first])
    return FastestFloat(best, models[best], milliseconds)


def time_in_turns(
    runs: Mapping[str, Callable[[], object]], rounds: int, *, budget_s: float = math.inf
) -> dict[str, float]:
    """Return the median milliseconds of each of ``runs``, which take turns.

    They run ``rounds`` times, or fewer, at least once, when ``budget_s`` is over.
    """
    times: dict[str, list[float]] = {name: [] for name in runs}
    deadline = time.perf_counter() + budget_s
    for turn in range(_WARM_UP_ROUNDS + rounds):
        if turn > _WARM_UP_ROUNDS and time.perf_counter() > deadline:
            break
        for name, run in runs.items():
            started = time.perf_counter()
            run()
            if turn >= _WARM_UP_ROUNDS:
                times[name].append((time.perf_counter() - started) * 1e3)
    return {name: float(np.median(taken)) for name, taken in times.items()}


def _require_equal(sessions: Mapping[str, EmbeddingSession], crops: ImageArray) -> None:
    # One crop at a time: each session keeps the memory of its largest batch.
    expected = sessions[PLAIN].embed(crops, batch_size=1)
    for form, session in sessions.items():
        difference = float(np.abs(session.embed(crops, batch_size=1) - expected).max())
        # Written so that NaN fails.
        if not difference <= _MAX_DIFFERENCE:
            raise GateFailedError(
                f"the float rewrite {form!r} differs from the plain graph by {difference:.3g} "
                f"(at most {_MAX_DIFFERENCE:g})"
            )


def rewrite_prelu(model: onnx.ModelProto, form: str) -> onnx.ModelProto | None:
    """Return ``model`` with each PReLU in ``form``, one of ``FORMS``; None where it has none.

    A PReLU that has slopes above 1 takes the form ``split``, which holds for every slope.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    rewriter = _Rewriter(result.graph)
    if not rewriter.rewrite(form):
        return None
    onnx.checker.check_model(result, full_check=True)
    return result


class _Rewriter:
    """Replaces the PReLU nodes of a graph; new nodes are named after the one they replace."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._graph = graph
        self._constants = {tensor.name: tensor for tensor in graph.initializer}
        self._makers = {output: node for node in graph.node for output in node.output}
        self._readers: dict[str, int] = {}
        for node in graph.node:
            for name in node.input:
                self._readers[name] = self._readers.get(name, 0) + 1
        self._added: list[onnx.TensorProto] = []
        self._nodes: list[onnx.NodeProto] = []

    def rewrite(self, form: str) -> bool:
        """Return whether there was anything to rewrite."""
        for node in self._graph.node:
            if node.op_type != "PRelu":
                self._nodes.append(node)
                continue
            slope = numpy_helper.to_array(self._constants[node.input[1]]).reshape(-1)
            write = FORMS[form if (slope <= 1).all() else "split"]
            write(self, node.input[0], slope, node.output[0])
        found = any(node.op_type == "PRelu" for node in self._graph.node)
        if found:
            self._finish()
        return found

    def _finish(self) -> None:
        read = {name for node in self._nodes for name in node.input}
        read |= {output.name for output in self._graph.output}
        # A convolution that was replaced by two of its own kind has no reader left.
        nodes = [node for node in self._nodes if read.intersection(node.output)]
        read = {name for node in nodes for name in node.input}
        kept = [t for t in [*self._graph.initializer, *self._added] if t.name in read]
        del self._graph.node[:]
        self._graph.node.extend(nodes)
        del self._graph.initializer[:]
        self._graph.initializer.extend(kept)

    def node(self, kind: str, inputs: Sequence[str], name: str, **attributes: object) -> str:
        """Add a node; return the name of its output."""
        self._nodes.append(helper.make_node(kind, list(inputs), [name], name=name, **attributes))
        return name

    def constant(self, name: str, values: npt.NDArray[np.floating]) -> str:
        """Add an initialiser; return its name."""
        array = np.ascontiguousarray(values, np.float32)
        self._added.append(numpy_helper.from_array(array, name))
        return name

    def scaled(self, x: str, factors: _Array, name: str) -> str:
        """Add ``factors`` * x, by channel, as a depthwise 1x1 convolution: a blocked kernel."""
        weight = self.constant(f"{name}.weight", factors.reshape(-1, 1, 1, 1))
        return self.node(
            "Conv", [x, weight], name, kernel_shape=[1, 1], group=len(factors), pads=[0] * 4
        )

    def twin(self, x: str, factors: _Array, name: str) -> str | None:
        """Add the convolution that makes ``x`` again, its output scaled; None if there is none."""
        maker = self._makers.get(x)
        if maker is None or maker.op_type != "Conv" or self._readers[x] != 1:
            return None
        inputs = [maker.input[0]]
        for index, source in enumerate(maker.input[1:]):
            values = numpy_helper.to_array(self._constants[source])
            shaped = factors.reshape(-1, *(1,) * (values.ndim - 1))
            inputs.append(self.constant(f"{name}.{index}", values * shaped))
        attributes = {entry.name: helper.get_attribute_value(entry) for entry in maker.attribute}
        return self.node("Conv", inputs, name, **attributes)

    def is_depthwise(self, x: str) -> bool:
        """Return whether a convolution with groups makes ``x``."""
        maker = self._makers.get(x)
        groups = [a.i for a in maker.attribute if a.name == "group"] if maker is not None else []
        return bool(groups) and groups[0] > 1


def _maximum(rewriter: _Rewriter, x: str, slope: _Array, name: str) -> None:
    """Max(x, a * x): holds for slopes up to 1."""
    factors = rewriter.constant(f"{name}.factors", slope.reshape(-1, 1, 1))
    scaled = rewriter.node("Mul", [x, factors], f"{name}.scaled")
    rewriter.node("Max", [x, scaled], name)


def _split(rewriter: _Rewriter, x: str, slope: _Array, name: str) -> None:
    """A * x + (1 - a) * ReLU(x): holds for every slope."""
    positive = rewriter.node("Relu", [x], f"{name}.positive")
    linear = rewriter.scaled(x, slope, f"{name}.linear")
    bent = rewriter.scaled(positive, 1 - slope, f"{name}.bent")
    rewriter.node("Add", [linear, bent], name)


def _bend(rewriter: _Rewriter, x: str, slope: _Array, name: str) -> None:
    """A * x + ReLU((1 - a) * x), for slopes up to 1: ReLU and sum are part of the convolutions."""
    scaled = rewriter.scaled(x, 1 - slope, f"{name}.scaled")
    bent = rewriter.node("Relu", [scaled], f"{name}.bent")
    linear = rewriter.scaled(x, slope, f"{name}.linear")
    rewriter.node("Add", [linear, bent], name)


def _twins(rewriter: _Rewriter, x: str, slope: _Array, name: str) -> None:
    """As `_bend`, with both factors in two copies of the convolution before: twice its work."""
    scaled = rewriter.twin(x, 1 - slope, f"{name}.scaled")
    linear = rewriter.twin(x, slope, f"{name}.linear")
    if scaled is None or linear is None:
        _bend(rewriter, x, slope, name)
        return
    bent = rewriter.node("Relu", [scaled], f"{name}.bent")
    rewriter.node("Add", [linear, bent], name)


def _depthwise_twins(rewriter: _Rewriter, x: str, slope: _Array, name: str) -> None:
    """Twins of depthwise convolutions, which are cheap; `_bend` after the others."""
    (_twins if rewriter.is_depthwise(x) else _bend)(rewriter, x, slope, name)


FORMS: dict[str, Callable[[_Rewriter, str, _Array, str], None]] = {
    "max": _maximum,
    "split": _split,
    "bend": _bend,
    "twins": _twins,
    "depthwise-twins": _depthwise_twins,
}
"""The forms of PReLU by name. Each writes the nodes for PReLU(x) with these slopes."""
