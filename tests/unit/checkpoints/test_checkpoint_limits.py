"""Structures that would cost their reader too much: each ends at a limit."""

from __future__ import annotations

import pytest

from edgeface.errors import UnsafeCheckpointError
from edgeface_export.checkpoints import ReadLimits, read_checkpoint
from tests.unit.checkpoints.checkpoint_builders import (
    call,
    global_name,
    good_state_dict,
    legacy_file,
    literal,
    mapping,
    tensor,
)
from tests.unit.checkpoints.conftest import Write


def test_a_container_inside_itself_is_entered_once(write: Write) -> None:
    cyclic = b"]q\x07h\x07a" + tensor() + b"a"
    found = read_checkpoint(write(legacy_file(mapping({"loop": cyclic}))))
    assert list(found.tensors) == ["loop.1"]


def test_exponentially_shared_lists_end_at_the_node_limit(write: Write) -> None:
    laughs = b"]" + tensor() + b"a" + b"q\x01" + b"0]q\x02(h\x01h\x01e" * 1
    for level in range(2, 60):
        laughs += b"0]" + b"q" + bytes([level + 1]) + b"(" + (b"h" + bytes([level])) * 2 + b"e"
    with pytest.raises(UnsafeCheckpointError, match="on every path"):
        read_checkpoint(
            write(legacy_file(mapping({"x": laughs}))), limits=ReadLimits(max_nodes=20_000)
        )


def test_deep_nesting_is_refused(write: Write) -> None:
    deep = b"]" * 100_000 + b"a" * 99_999
    with pytest.raises(UnsafeCheckpointError, match="nested deeper than 200"):
        read_checkpoint(write(legacy_file(mapping({"w": tensor(), "x": deep}))))


def test_deep_tuples_are_refused(write: Write) -> None:
    with pytest.raises(UnsafeCheckpointError, match="nested deeper than 200"):
        read_checkpoint(write(legacy_file(mapping({"w": tensor(), "x": b"N" + b"\x85" * 100_000}))))


@pytest.mark.parametrize(
    ("flood", "words"),
    [
        (b"N0" * 3000, "pickle instructions"),
        (b"}0" * 300, "pickled objects"),
        (b"N" + b"\x94" * 300 + b"0", "remembered objects"),
        (b"(" * 300, "pickled objects"),
    ],
    ids=["instructions", "dictionaries", "memo", "marks"],
)
def test_floods_end_at_a_limit(flood: bytes, words: str, write: Write) -> None:
    limits = ReadLimits(max_opcodes=1000, max_nodes=200)
    with pytest.raises(UnsafeCheckpointError, match=words):
        read_checkpoint(write(legacy_file(flood + good_state_dict())), limits=limits)


def test_copying_a_long_list_again_and_again_is_counted(write: Write) -> None:
    pairs = b"](" + b"N" * 2000 + b"eq\x01"
    copies = call("builtins", "list", b"h\x01") * 200
    with pytest.raises(UnsafeCheckpointError, match="pickled objects"):
        read_checkpoint(
            write(legacy_file(pairs + copies + good_state_dict())),
            limits=ReadLimits(max_nodes=100_000),
        )


def test_a_large_memo_index_costs_nothing(write: Write) -> None:
    body = mapping({"w": tensor(), "n": b"K\x05r\xff\xff\xff\xff"})
    assert read_checkpoint(write(legacy_file(body))).scalars == {"n": 5}


def test_long_names_are_refused(write: Write) -> None:
    with pytest.raises(UnsafeCheckpointError, match="a name of more than 1,024"):
        read_checkpoint(write(legacy_file(mapping({"x" * 5000: tensor()}))))
    with pytest.raises(UnsafeCheckpointError, match="a class of over"):
        read_checkpoint(write(legacy_file(mapping({"w": global_name("m" * 5000, "C")}))))


def test_too_many_tensors_and_scalars_are_refused(write: Write) -> None:
    tensors = mapping({str(index): tensor() for index in range(20)})
    with pytest.raises(UnsafeCheckpointError, match="more than 10 tensors"):
        read_checkpoint(write(legacy_file(tensors)), limits=ReadLimits(max_tensors=10))
    scalars = mapping({"w": tensor()} | {str(index): literal(index) for index in range(20)})
    with pytest.raises(UnsafeCheckpointError, match="named scalars"):
        read_checkpoint(write(legacy_file(scalars)), limits=ReadLimits(max_tensors=10))


def test_names_and_values_cannot_control_the_terminal(write: Write) -> None:
    body = mapping(
        {"a\x1b[2J\nb": tensor(), "s\ud800": literal("v\ud800"), "big": literal(1 << 80)}
    )
    found = read_checkpoint(write(legacy_file(body)))
    assert list(found.tensors) == ["a\\x1b[2J\\nb"]
    assert found.scalars == {"s\\ud800": "v?"}
