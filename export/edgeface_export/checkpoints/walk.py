"""Walks what a pickle describes, and gives each tensor and scalar its dotted name."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

from edgeface.errors import UnsafeCheckpointError
from edgeface_export.checkpoints.budget import Budget
from edgeface_export.checkpoints.nodes import (
    DictNode,
    GlobalName,
    NumpyArray,
    Record,
    TensorView,
    UnsupportedTensor,
)
from edgeface_export.checkpoints.text import clip, printable

__all__ = ["TENSOR_NODES", "is_module", "outermost_module", "walk"]

Child = tuple[str | None, object]
TENSOR_NODES = (TensorView, UnsupportedTensor, NumpyArray)
_SCALARS = (bool, int, float, str)
_ROOT_NAME = "tensor"


def walk(
    root: object, budget: Budget, *, prefix: str | None = None
) -> Iterator[tuple[str, object]]:
    """Dotted name and node of each tensor and scalar below ``root``, in file order.

    A container inside itself is not entered again. A shared one is walked on every path to it,
    so that both names exist; ``budget`` ends exponentially shared ones.

    Raises:
        UnsafeCheckpointError: Too deep, too many steps, or a name that is too long.
    """
    limits = budget.limits
    parts: list[str] = [] if prefix is None else [prefix]
    open_ids: set[int] = set()
    levels: list[tuple[Iterator[Child], object, int]] = [(iter([(None, root)]), None, len(parts))]
    while levels:
        children, owner, length = levels[-1]
        del parts[length:]
        child = next(children, None)
        if child is None:
            levels.pop()
            open_ids.discard(id(owner))
            continue
        budget.visit()
        part, node = child
        if part is not None:
            parts.append(part)
        if isinstance(node, (*TENSOR_NODES, *_SCALARS)):
            yield _joined(parts, limits.max_name_length), node
        elif id(node) not in open_ids and (below := _children(node, budget)) is not None:
            if len(levels) > limits.max_depth:
                raise UnsafeCheckpointError(
                    f"has containers nested deeper than {limits.max_depth} (ReadLimits.max_depth)"
                )
            _joined(parts, limits.max_name_length)
            open_ids.add(id(node))
            levels.append((iter(below), node, len(parts)))


def is_module(node: object) -> bool:
    """Whether ``node`` is a pickled ``torch.nn.Module``."""
    state = node.state if isinstance(node, Record) else None
    return isinstance(state, DictNode) and state.has("_modules") and state.has("_parameters")


def outermost_module(root: object, budget: Budget) -> Record | None:
    """The first module at ``root`` or inside plain dictionaries and lists below it."""
    waiting, seen = deque([root]), set[int]()
    while waiting:
        node = waiting.popleft()
        if isinstance(node, Record) and is_module(node):
            return node
        if isinstance(node, (DictNode, list, tuple)) and id(node) not in seen:
            budget.visit()
            seen.add(id(node))
            waiting.extend(child for _, child in _children(node, budget) or ())
    return None


def _joined(parts: list[str], longest: int) -> str:
    name = ".".join(parts) or _ROOT_NAME
    if len(name) > longest:
        raise UnsafeCheckpointError(
            f"has a name of more than {longest:,} characters: {clip(name)} "
            "(ReadLimits.max_name_length)"
        )
    return name


def _children(node: object, budget: Budget) -> Iterable[Child] | None:
    if isinstance(node, DictNode):
        return ((_key_text(key), value) for key, value in node.entries())
    if isinstance(node, (list, tuple)):
        return ((str(index), value) for index, value in enumerate(node))
    if isinstance(node, Record):
        return _module_children(node, budget) if is_module(node) else _record_children(node)
    return None


def _module_children(module: Record, budget: Budget) -> Iterator[Child]:
    """The order of ``state_dict``: own parameters, own buffers, then the modules inside.

    Other attributes are not part of it, except the packed weights of quantised layers, which
    torch keeps in script objects.
    """
    state = module.state
    if not isinstance(state, DictNode):
        return
    skipped = state.get("_non_persistent_buffers_set")
    budget.visit(len(state) + (len(skipped) if isinstance(skipped, list) else 0))
    yield None, state.get("_parameters")
    yield None, _persistent(state.get("_buffers"), skipped)
    for key, value in state.entries():
        if isinstance(value, Record) and str(value.of) == "torch.ScriptObject":
            yield _key_text(key), value
    yield None, state.get("_modules")


def _persistent(buffers: object, skipped: object) -> object:
    if not isinstance(buffers, DictNode) or not isinstance(skipped, list) or not skipped:
        return buffers
    names = {name for name in skipped if isinstance(name, str)}
    return DictNode(
        (key, value)
        for key, value in buffers.entries()
        if not (isinstance(key, str) and key in names)
    )


def _record_children(record: Record) -> Iterator[Child]:
    if str(record.of) == "torch.ScriptObject" and isinstance(record.state, tuple):
        # (packed weights, class name): state_dict shows the first alone.
        yield None, record.state[:1][0] if record.state else None
        return
    yield from ((str(index), value) for index, value in enumerate(record.args))
    # ``__slots__`` make the state a pair of dictionaries.
    halves = record.state if isinstance(record.state, tuple) else (record.state,)
    yield from ((None, half) for half in halves)
    yield from ((_key_text(key), value) for key, value in record.entries)


def _key_text(key: object) -> str:
    if isinstance(key, str):
        return printable(key)
    if isinstance(key, (GlobalName, Record)):
        return clip(key if isinstance(key, GlobalName) else key.of)
    if isinstance(key, DictNode):
        return "dict"
    if isinstance(key, int) and key.bit_length() > 64:
        return "int"
    if key is None or isinstance(key, (int, float)):
        return str(key)
    return type(key).__name__
