"""Mutated files: each gives a checkpoint or a typed error, in bounded time, and imports nothing."""

from __future__ import annotations

import pickletools
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest

from edgeface.errors import EdgefaceError
from edgeface_export.checkpoints import Checkpoint, ReadLimits, read_checkpoint
from tests.unit.checkpoints.checkpoint_builders import (
    call,
    global_name,
    good_state_dict,
    legacy_file,
    literal,
    mapping,
    safetensors_file,
    storage,
    tensor,
    zip_file,
)

LIMITS = ReadLimits(
    max_file_bytes=8 << 20,
    max_tensor_bytes_total=16 << 20,
    max_tensors=2000,
    max_opcodes=200_000,
    max_nodes=50_000,
)
MOST_SECONDS_EACH = 3.0
MOST_GROWTH_BYTES = 200 << 20


def flip_bits(content: bytearray, chance: random.Random) -> None:
    for _ in range(chance.choice([1, 1, 2, 8])):
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)


def swap_bytes(content: bytearray, chance: random.Random) -> None:
    one, two = chance.randrange(len(content)), chance.randrange(len(content))
    content[one], content[two] = content[two], content[one]


def truncate(content: bytearray, chance: random.Random) -> None:
    del content[chance.randrange(len(content)) :]


def delete(content: bytearray, chance: random.Random) -> None:
    start = chance.randrange(len(content))
    del content[start : start + chance.choice([1, 2, 4, 8, 64])]


def splice(content: bytearray, chance: random.Random) -> None:
    start = chance.randrange(len(content))
    piece = content[start : start + chance.choice([1, 4, 16, 256])]
    at = chance.randrange(len(content))
    content[at:at] = piece


def overwrite(content: bytearray, chance: random.Random) -> None:
    value = chance.choice([b"\xff\xff\xff\xff", bytes(8), b"\x7f", b"Rb.", b"\x8e" + b"\xff" * 7])
    at = chance.randrange(len(content))
    content[at : at + len(value)] = value


MUTATIONS: list[Callable[[bytearray, random.Random], None]] = [
    flip_bits,
    swap_bytes,
    truncate,
    delete,
    splice,
    overwrite,
]


def rich_body(*, legacy: bool) -> bytes:
    """Opcodes with something of everything that the machine knows."""
    dtype = call("numpy", "dtype", literal("f4"), literal(False), literal(True))
    empty = (global_name("numpy", "ndarray"), literal((0,)), literal("b"))
    raw = call("_codecs", "encode", literal("abcdefgh"), literal("latin1"))
    state = b"(K\x01" + literal((2,)) + dtype + b"\x89" + raw + b"tb"
    array = call("numpy.core.multiarray", "_reconstruct", *empty) + state
    scale = b"(" + global_name("torch", "per_tensor_affine") + literal(0.5) + literal(1) + b"t"
    view = (storage("1", 8, "QInt8Storage", legacy=legacy), literal(0), literal((2, 4)))
    strides = literal((4, 1))
    quantised = call("torch._utils", "_rebuild_qtensor", *view, strides, scale, literal(False))
    module = (
        global_name("models", "Net")
        + b")\x81"
        + mapping(
            {
                "_parameters": mapping({"weight": tensor(legacy=legacy)}),
                "_buffers": mapping({"mean": tensor(legacy=legacy, size=(2, 2), stride=(2, 1))}),
                "_modules": mapping({}),
            }
        )
        + b"b"
    )
    return mapping({"epoch": literal(3), "net": module, "array": array, "q": quantised})


STORAGES = {"0": np.arange(4, dtype=np.float32).tobytes(), "1": bytes(range(8))}


def seeds() -> dict[str, bytes]:
    entry = {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}
    return {
        "legacy": legacy_file(rich_body(legacy=True), STORAGES, item_bytes={"1": 1}),
        "zip": zip_file(rich_body(legacy=False), STORAGES),
        "small legacy": legacy_file(good_state_dict()),
        "safetensors": safetensors_file({"__metadata__": {"a": "b"}, "w": entry}, STORAGES["0"]),
    }


def check(content: bytes, path: Path) -> bool:
    """Whether it was read; any error that is not one of edgeface fails the test."""
    path.write_bytes(content)
    started = time.perf_counter()
    message = ""
    try:
        assert isinstance(read_checkpoint(path, limits=LIMITS), Checkpoint)
    except EdgefaceError as error:
        message = str(error)
    assert time.perf_counter() - started < MOST_SECONDS_EACH
    assert "\n" not in message
    assert len(message) < 1000
    return not message


def mutated(content: bytes, chance: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(chance.choice([1, 1, 1, 3])):
        if changed:
            chance.choice(MUTATIONS)(changed, chance)
    return bytes(changed)


def as_it_is(content: bytes) -> bytes:
    return content


def fuzz(
    content: bytes,
    count: int,
    path: Path,
    seed: int,
    wrapped: Callable[[bytes], bytes] = as_it_is,
) -> int:
    """How many of ``count`` mutations of ``content`` were read; ``wrapped`` makes them files."""
    chance = random.Random(seed)
    check(wrapped(content), path)
    modules = set(sys.modules)
    memory = psutil.Process().memory_info().rss
    read = 0
    for _ in range(count):
        read += check(wrapped(mutated(content, chance)), path)
    assert set(sys.modules) == modules
    assert psutil.Process().memory_info().rss - memory < MOST_GROWTH_BYTES
    return read


@pytest.mark.parametrize("name", seeds())
def test_seeds_of_the_fuzzer_are_readable(name: str, tmp_path: Path) -> None:
    assert check(seeds()[name], tmp_path / "model.pt")


@pytest.mark.parametrize("name", seeds())
def test_mutations_end_in_a_checkpoint_or_a_typed_error(name: str, tmp_path: Path) -> None:
    fuzz(seeds()[name], 400, tmp_path / "model.pt", seed=len(name))


@pytest.mark.parametrize("name", seeds())
@pytest.mark.slow
def test_many_mutations_end_in_a_checkpoint_or_a_typed_error(name: str, tmp_path: Path) -> None:
    for seed in range(20):
        fuzz(seeds()[name], 1000, tmp_path / "model.pt", seed=1000 + seed)


@pytest.mark.parametrize(("container", "count"), [("zip", 1500), ("legacy", 1500)])
def test_mutated_pickles_in_whole_containers_end_in_a_checkpoint_or_a_typed_error(
    container: str, count: int, tmp_path: Path
) -> None:
    read = fuzz(
        rich_body(legacy=container == "legacy"),
        count,
        tmp_path / "model.pt",
        seed=11,
        wrapped=in_zip if container == "zip" else in_legacy,
    )
    assert 0 < read < count


def in_zip(body: bytes) -> bytes:
    return zip_file(body, STORAGES)


def in_legacy(body: bytes) -> bytes:
    return legacy_file(body, STORAGES, item_bytes={"1": 1})


def random_program(chance: random.Random) -> bytes:
    """Opcodes in random order, with arguments that suit them."""
    pieces = [
        *(opcode.code.encode("latin-1") for opcode in pickletools.opcodes if opcode.arg is None),
        *[b"K\x01", b"h\x00", b"h\x01", b"q\x00", b"q\x01", b"(", b"N", b"]", b"}", b")"] * 3,
        *[tensor(legacy=False), literal("key"), literal((2, 2)), storage(legacy=False)] * 3,
        *[global_name("collections", "OrderedDict"), global_name("torch", "Size")] * 2,
        *[global_name("models", "Net"), global_name("torch._utils", "_rebuild_qtensor")] * 2,
        *[global_name("numpy", "dtype"), global_name("numpy.core.multiarray", "scalar")] * 2,
    ]
    return b"".join(chance.choices(pieces, k=chance.randrange(60)))


def test_random_programs_end_in_a_checkpoint_or_a_typed_error(tmp_path: Path) -> None:
    chance = random.Random(13)
    for _ in range(1500):
        check(in_zip(random_program(chance)), tmp_path / "model.pt")


def real_head(path: Path) -> bytes:
    """The pickles of a real legacy file, without its storages."""
    return path.read_bytes()[: 60_000 if "triplet" not in path.name else 4000]


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("triplet-embedding-mlp-fdbtrs.pt", 100),
        ("cosface-toy.pth", 60),
        ("arcface-mobilefacenet-pruned-512d-whole-module-xuexingyu24.pt", 25),
        ("cosface-edgeface-xxs-dynamic-int8.pt", 15),
    ],
)
def test_mutations_of_real_files_end_in_a_checkpoint_or_a_typed_error(
    name: str, count: int, checkpoints: Path, tmp_path: Path
) -> None:
    fuzz((checkpoints / name).read_bytes(), count, tmp_path / "model.pt", seed=count)


def test_mutations_of_real_pickles_end_in_a_typed_error(checkpoints: Path, tmp_path: Path) -> None:
    for name in ("arcface-mobilefacenet-112x96-xiaoccer.ckpt", "triplet-embedding-mlp-fdbtrs.pt"):
        fuzz(real_head(checkpoints / name), 30, tmp_path / "model.pt", seed=7)


def test_mutations_of_onnx_models_end_in_a_checkpoint_or_a_typed_error(
    checkpoints: Path, tmp_path: Path
) -> None:
    pytest.importorskip("onnx", reason="onnx is not installed")
    fuzz((checkpoints.parent / "peers" / "yunet-2023mar.onnx").read_bytes(), 60,
         tmp_path / "model.onnx", seed=3)  # fmt: skip


def test_random_bytes_behind_every_signature_end_in_a_typed_error(tmp_path: Path) -> None:
    chance = random.Random(5)
    heads = [
        b"PK\x03\x04",
        b"\x80\x02",
        b"\x80\x04\x95",
        b"\x08\x07\x3a",
        b"\x10" + bytes(7) + b"{",
    ]
    for index in range(300):
        content = heads[index % len(heads)] + chance.randbytes(chance.randrange(400))
        check(content, tmp_path / "model.pt")
