"""A stack machine over the opcodes of a pickle that can build descriptions and nothing else.

The opcodes are read by ``pickletools.genops``, which decodes arguments and runs nothing. Where
the unpickler of Python would import a name or call it, this machine keeps the name.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Iterator
from typing import BinaryIO

from edgeface.errors import CheckpointFormatError, UnsafeCheckpointError
from edgeface_export.checkpoints.budget import Budget
from edgeface_export.checkpoints.call_policy import refuse_dangerous_call
from edgeface_export.checkpoints.nodes import (
    DictNode,
    GlobalName,
    NumpyArray,
    NumpyDtype,
    Record,
    StorageRef,
    TensorView,
    UnsupportedTensor,
)
from edgeface_export.checkpoints.rebuild import is_known, rebuild, set_numpy_state
from edgeface_export.checkpoints.text import clip, words

__all__ = ["PersistentLoader", "PickleMachine"]

PersistentLoader = Callable[[object], object]
_NEWEST_PROTOCOL = 5
_LONGEST_GLOBAL = 1024


def _refuse_persistent_id(_: object) -> object:
    raise CheckpointFormatError("damaged: a persistent id stands where torch never writes one")


class PickleMachine:
    """Reads one pickle. ``foreign`` collects the names of everything that was not built."""

    def __init__(
        self,
        budget: Budget,
        *,
        persistent: PersistentLoader = _refuse_persistent_id,
        foreign: set[str] | None = None,
    ) -> None:
        self._budget = budget
        self._persistent = persistent
        self._foreign = set() if foreign is None else foreign
        self._stack: list[object] = []
        self._below_marks: list[list[object]] = []
        self._memo: dict[object, object] = {}
        self._globals: dict[tuple[str, str], GlobalName] = {}

    def load(self, stream: BinaryIO) -> object:
        """The root node of the pickle at the position of ``stream``, left just behind it.

        Raises:
            CheckpointFormatError: The bytes are not a pickle, or are damaged or truncated.
            UnsafeCheckpointError: It calls something dangerous, or passes a limit.
        """
        for name, argument in self._opcodes(stream):
            if name in _PUSHED:
                self._stack.append(argument)
            elif name in _HANDLERS:
                _HANDLERS[name](self, argument)
            else:
                raise CheckpointFormatError(f"the pickle has the unexpected instruction {name}")
        return self._pop()

    def _opcodes(self, stream: BinaryIO) -> Iterator[tuple[str, object]]:
        opcodes = pickletools.genops(stream)
        while True:
            try:
                opcode, argument, _ = next(opcodes)
            except StopIteration:
                return
            except Exception as error:  # the decoders of pickletools raise what they like
                raise CheckpointFormatError(
                    f"the pickle is damaged or truncated ({clip(error)})"
                ) from error
            self._budget.opcode()
            yield opcode.name, argument

    def _pop(self) -> object:
        if not self._stack:
            raise CheckpointFormatError("damaged: the pickle takes from an empty stack")
        return self._stack.pop()

    def _top(self) -> object:
        if not self._stack:
            raise CheckpointFormatError("damaged: the pickle looks at an empty stack")
        return self._stack[-1]

    def _pop_mark(self) -> list[object]:
        if not self._below_marks:
            raise CheckpointFormatError("damaged: the pickle closes a group that it never opened")
        items, self._stack = self._stack, self._below_marks.pop()
        return items

    def _build(self, node: object) -> None:
        self._budget.built()
        self._stack.append(node)

    def _nothing(self, _: object) -> None:
        pass

    def _protocol(self, version: object) -> None:
        if not isinstance(version, int) or version > _NEWEST_PROTOCOL:
            raise CheckpointFormatError(
                f"pickle protocol {clip(version)} is unknown; wanted at most {_NEWEST_PROTOCOL}"
            )

    def push(self, value: object) -> None:
        """Put a plain value on the stack."""
        self._stack.append(value)

    def _mark(self, _: object) -> None:
        self._below_marks.append(self._stack)
        self._stack = []
        self._budget.built()

    def _pop_one(self, _: object) -> None:
        if self._stack or not self._below_marks:
            self._pop()
        else:
            self._pop_mark()

    def _drop_group(self, _: object) -> None:
        self._pop_mark()

    def _duplicate(self, _: object) -> None:
        self._stack.append(self._top())

    def _put(self, index: object) -> None:
        self._budget.remembered()
        self._memo[index] = self._top()

    def _memoize(self, _: object) -> None:
        self._put(len(self._memo))

    def _get(self, index: object) -> None:
        if index not in self._memo:
            raise CheckpointFormatError("damaged: the pickle recalls what it never remembered")
        self._stack.append(self._memo[index])

    def _empty_list(self, _: object) -> None:
        self._build([])

    def _empty_dict(self, _: object) -> None:
        self._build(DictNode())

    def _empty_tuple(self, _: object) -> None:
        self._stack.append(())

    def _tuple_of_one(self, _: object) -> None:
        self._build((self._pop(),))

    def _tuple_of_two(self, _: object) -> None:
        second, first = self._pop(), self._pop()
        self._build((first, second))

    def _tuple_of_three(self, _: object) -> None:
        third, second, first = self._pop(), self._pop(), self._pop()
        self._build((first, second, third))

    def _group_to_tuple(self, _: object) -> None:
        self._build(tuple(self._pop_mark()))

    def _group_to_list(self, _: object) -> None:
        self._build(self._pop_mark())

    def _group_to_dict(self, _: object) -> None:
        items = self._pop_mark()
        self._build(DictNode())
        self._set_items(items)

    def _append(self, _: object) -> None:
        self._append_items([self._pop()])

    def _append_group(self, _: object) -> None:
        self._append_items(self._pop_mark())

    def _append_items(self, items: list[object]) -> None:
        target = self._top()
        if isinstance(target, list):
            target.extend(items)
        elif isinstance(target, Record):
            start = len(target.entries)
            target.entries.extend((start + index, item) for index, item in enumerate(items))
        else:
            raise CheckpointFormatError("damaged: the pickle appends to what is not a list")

    def _set_item(self, _: object) -> None:
        value, key = self._pop(), self._pop()
        self._set_items([key, value])

    def _set_group(self, _: object) -> None:
        self._set_items(self._pop_mark())

    def _set_items(self, items: list[object]) -> None:
        target = self._top()
        if len(items) % 2:
            raise CheckpointFormatError("damaged: the pickle has a key without a value")
        pairs = zip(items[::2], items[1::2], strict=True)
        if isinstance(target, DictNode):
            for key, value in pairs:
                target.set(key, value)
        elif isinstance(target, Record):
            target.entries.extend(pairs)
        else:
            raise CheckpointFormatError("damaged: the pickle sets items of what is not a dict")

    def _global(self, pair: object) -> None:
        module, _, name = str(pair).partition(" ")
        self._push_global(module, name)

    def _global_from_stack(self, _: object) -> None:
        name, module = self._pop(), self._pop()
        if not isinstance(module, str) or not isinstance(name, str):
            raise CheckpointFormatError("damaged: the pickle names a class by what is not text")
        self._push_global(module, name)

    def _push_global(self, module: str, name: str) -> None:
        if len(module) + len(name) > _LONGEST_GLOBAL:
            raise UnsafeCheckpointError(f"names a class of over {_LONGEST_GLOBAL:,} characters")
        target = self._globals.get((module, name))
        if target is None:
            self._budget.built()
            target = self._globals[module, name] = GlobalName(module, name)
            if not is_known(target):
                self._foreign.add(clip(target))
        self._stack.append(target)

    def _call(self, target: object, arguments: object) -> None:
        if not isinstance(target, GlobalName):
            raise UnsafeCheckpointError(
                "calls a function that the pickle made itself; nothing was run, but no "
                "checkpoint needs this: do not load the file with torch"
            )
        if not isinstance(arguments, tuple):
            raise CheckpointFormatError(f"damaged: arguments of {clip(target)} are not a tuple")
        refuse_dangerous_call(target)
        for argument in arguments[:2]:
            if isinstance(argument, (list, DictNode)):  # the rebuilders copy these
                self._budget.built(len(argument))
        self._build(rebuild(target, arguments))

    def _reduce(self, _: object) -> None:
        arguments, target = self._pop(), self._pop()
        self._call(target, arguments)

    def _new_object_with_keywords(self, _: object) -> None:
        keywords, arguments, target = self._pop(), self._pop(), self._pop()
        self._call(target, arguments)
        made = self._top()
        if isinstance(made, Record) and isinstance(keywords, DictNode):
            made.entries.extend(keywords.entries())

    def _object_from_group(self, _: object) -> None:
        items = self._pop_mark()
        if not items:
            raise CheckpointFormatError("damaged: the pickle makes an object of no class")
        self._call(items[0], tuple(items[1:]))

    def _instance_from_group(self, pair: object) -> None:
        arguments = tuple(self._pop_mark())
        self._global(pair)
        self._call(self._pop(), arguments)

    def _set_state(self, _: object) -> None:
        state, target = self._pop(), self._top()
        if isinstance(target, GlobalName):
            raise UnsafeCheckpointError(
                f"changes {clip(target)} itself; nothing was changed, but no checkpoint needs "
                "this: do not load the file with torch"
            )
        if isinstance(target, Record):
            target.state = state
        elif isinstance(target, (NumpyDtype, NumpyArray)):
            set_numpy_state(target, state)
        elif not isinstance(target, (DictNode, TensorView, UnsupportedTensor, StorageRef, list)):
            raise CheckpointFormatError("damaged: the pickle sets the state of a plain value")

    def _persistent_id(self, _: object) -> None:
        self._build(self._persistent(self._pop()))

    def _text_persistent_id(self, _: object) -> None:
        raise CheckpointFormatError("a persistent id of pickle protocol 0; torch writes none")

    def _extension(self, _: object) -> None:
        raise UnsafeCheckpointError(
            "uses the extension registry of pickle, which hides what it calls; nothing was run"
        )

    def _out_of_band(self, _: object) -> None:
        raise CheckpointFormatError(
            "the pickle keeps data outside of the file; save it in one file"
        )


_PUSHED = words(
    "INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT STRING BINSTRING SHORT_BINSTRING "
    "UNICODE SHORT_BINUNICODE BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8"
)
_Handler = Callable[[PickleMachine, object], None]


def _constant(value: object) -> _Handler:
    return lambda machine, _: machine.push(value)


# The rest of pickletools.opcodes.
_HANDLERS: dict[str, _Handler] = {
    "NONE": _constant(None),
    "NEWTRUE": _constant(True),
    "NEWFALSE": _constant(False),
    "PROTO": PickleMachine._protocol,
    "FRAME": PickleMachine._nothing,
    "STOP": PickleMachine._nothing,
    "MARK": PickleMachine._mark,
    "POP": PickleMachine._pop_one,
    "POP_MARK": PickleMachine._drop_group,
    "DUP": PickleMachine._duplicate,
    "PUT": PickleMachine._put,
    "BINPUT": PickleMachine._put,
    "LONG_BINPUT": PickleMachine._put,
    "MEMOIZE": PickleMachine._memoize,
    "GET": PickleMachine._get,
    "BINGET": PickleMachine._get,
    "LONG_BINGET": PickleMachine._get,
    "EMPTY_TUPLE": PickleMachine._empty_tuple,
    "TUPLE1": PickleMachine._tuple_of_one,
    "TUPLE2": PickleMachine._tuple_of_two,
    "TUPLE3": PickleMachine._tuple_of_three,
    "TUPLE": PickleMachine._group_to_tuple,
    "FROZENSET": PickleMachine._group_to_list,
    "EMPTY_SET": PickleMachine._empty_list,
    "ADDITEMS": PickleMachine._append_group,
    "EMPTY_LIST": PickleMachine._empty_list,
    "LIST": PickleMachine._group_to_list,
    "APPEND": PickleMachine._append,
    "APPENDS": PickleMachine._append_group,
    "EMPTY_DICT": PickleMachine._empty_dict,
    "DICT": PickleMachine._group_to_dict,
    "SETITEM": PickleMachine._set_item,
    "SETITEMS": PickleMachine._set_group,
    "GLOBAL": PickleMachine._global,
    "STACK_GLOBAL": PickleMachine._global_from_stack,
    "REDUCE": PickleMachine._reduce,
    "NEWOBJ": PickleMachine._reduce,
    "NEWOBJ_EX": PickleMachine._new_object_with_keywords,
    "OBJ": PickleMachine._object_from_group,
    "INST": PickleMachine._instance_from_group,
    "BUILD": PickleMachine._set_state,
    "BINPERSID": PickleMachine._persistent_id,
    "PERSID": PickleMachine._text_persistent_id,
    "EXT1": PickleMachine._extension,
    "EXT2": PickleMachine._extension,
    "EXT4": PickleMachine._extension,
    "NEXT_BUFFER": PickleMachine._out_of_band,
    "READONLY_BUFFER": PickleMachine._out_of_band,
}
