"""Zip archives, safetensors and ONNX: what is wrong with them is named."""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeface.errors import (
    CheckpointError,
    CheckpointFormatError,
    UnsafeCheckpointError,
    UnsupportedCheckpointError,
)
from edgeface_export.checkpoints import CheckpointFormat, ReadLimits, read_checkpoint
from tests.unit.checkpoints.checkpoint_builders import (
    good_state_dict,
    mapping,
    safetensors_file,
    storage,
    tensor,
    zip_file,
    zip_of,
)
from tests.unit.checkpoints.conftest import Write

BODY = b"\x80\x02" + good_state_dict(legacy=False) + b"."
DATA = np.arange(4, dtype=np.float32).tobytes()
MEMBERS = [("m/data.pkl", BODY), ("m/data/0", DATA)]


def test_a_zip_of_any_folder_or_none_is_read(write: Write) -> None:
    for content in (
        zip_file(good_state_dict(legacy=False)),
        zip_of([("data.pkl", BODY), ("data/0", DATA)]),
    ):
        found = read_checkpoint(write(content))
        assert found.format is CheckpointFormat.ZIP_PICKLE
        assert found.tensors["conv.weight"].array.tolist() == [0, 1, 2, 3]


def test_a_compressed_zip_is_read(write: Write) -> None:
    found = read_checkpoint(write(zip_of(MEMBERS, zipfile.ZIP_DEFLATED)))
    assert found.tensors["conv.weight"].array.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("name", ["/etc/x", "../x", "m/../../x", "m\\x", "C:/x"])
def test_names_that_leave_the_archive_are_refused(name: str, write: Write) -> None:
    content = zip_of([*MEMBERS, ("m/abcd", b"")]).replace(
        b"m/abcd", name.ljust(6, "x").encode()[:6]
    )
    if len(name) > 6:
        content = zip_of([*MEMBERS, (name, b"")])
    with pytest.raises(UnsafeCheckpointError, match="outside the archive"):
        read_checkpoint(write(content))


def test_duplicate_members_are_refused(write: Write) -> None:
    content = zip_of([*MEMBERS, ("m/data/1", DATA)]).replace(b"m/data/1", b"m/data/0")
    with pytest.raises(UnsafeCheckpointError, match="twice"):
        read_checkpoint(write(content))


def test_overlapping_members_are_refused(write: Write) -> None:
    content = bytearray(zip_of([*MEMBERS, ("m/data/1", DATA)]))
    entries = [at for at in range(len(content)) if content[at : at + 4] == b"PK\x01\x02"]
    struct.pack_into(
        "<L", content, entries[2] + 42, struct.unpack_from("<L", content, entries[1] + 42)[0]
    )
    with pytest.raises(UnsafeCheckpointError, match=r"overlaps|two different names"):
        read_checkpoint(write(bytes(content)))


def test_a_zip_bomb_is_refused_before_it_is_unpacked(write: Write) -> None:
    bomb = zip_of([*MEMBERS, ("m/data/1", bytes(20 << 20))], zipfile.ZIP_DEFLATED)
    with pytest.raises(UnsafeCheckpointError, match="would unpack"):
        read_checkpoint(write(bomb))
    with pytest.raises(UnsafeCheckpointError, match="would unpack to"):
        read_checkpoint(
            write(bomb),
            limits=ReadLimits(max_compression_ratio=10_000, max_tensor_bytes_total=1 << 20),
        )


def test_a_member_that_unpacks_to_more_than_it_declares_is_refused(write: Write) -> None:
    content = bytearray(zip_of(MEMBERS, zipfile.ZIP_DEFLATED))
    entry = content.rfind(b"PK\x01\x02")
    struct.pack_into("<L", content, entry + 24, 8)
    with pytest.raises(CheckpointFormatError, match="checksum"):
        read_checkpoint(write(bytes(content)))


ZIP_DAMAGE: dict[str, tuple[bytes, str]] = {
    "empty": (zip_of([]), "empty zip"),
    "flipped bit": (zip_of(MEMBERS).replace(DATA, DATA[:-1] + b"\x41"), "checksum"),
    "missing storage": (zip_of(MEMBERS[:1]), "no member m/data/0"),
    "short storage": (zip_of([MEMBERS[0], ("m/data/0", DATA[:8])]), "8 bytes; 4 x float32 need 16"),
    "long storage": (zip_of([MEMBERS[0], ("m/data/0", DATA * 2)]), "32 bytes"),
    "big endian": (zip_of([*MEMBERS, ("m/byteorder", b"big")]), "big-endian"),
    "latin-1 name": (zip_of([("m/\xe4", b"")]).replace(b"m/\xc3\xa4", b"m/\xe4\xe4"), "not UTF-8"),
    "two pickles": (zip_of([*MEMBERS, ("n/data.pkl", BODY)]), "2 data.pkl"),
    "no pickle": (zip_of([("a.txt", b"")]), "0 data.pkl"),
    "bytes behind the pickle": (zip_of([("data.pkl", BODY + b"x")]), "follow the end"),
    "bytes behind the archive": (zip_of(MEMBERS) + b"x", "follow the zip"),
    "cut": (zip_of(MEMBERS)[:-30], "directory is missing"),
    "bzip2": (zip_of(MEMBERS, zipfile.ZIP_BZIP2), "method 12"),
    "npz": (zip_of([("a.npy", b"")]), "numpy archive"),
    "keras": (zip_of([("model.weights.h5", b"")]), "Keras"),
    "zip around": (zip_of([("x/best.pth", b"")]), "a zip around"),
    "office": (zip_of([("[Content_Types].xml", b"")]), "office"),
    "old torchscript": (zip_of([("m/model.json", b"")]), "before 1.4"),
    "pt2": (zip_of([("m/archive_format", b"pt2"), ("m/data.pkl", b"")]), "torch.export"),
    "old pt2": (zip_of([("serialized_exported_program.json", b"")]), "torch.export"),
}  # fmt: skip


@pytest.mark.parametrize("case", ZIP_DAMAGE)
def test_a_zip_that_is_no_checkpoint_is_refused(case: str, write: Write) -> None:
    content, words = ZIP_DAMAGE[case]
    with pytest.raises(CheckpointError, match=words):
        read_checkpoint(write(content))


def test_an_encrypted_zip_is_refused(write: Write) -> None:
    content = bytearray(zip_of(MEMBERS))
    for at in range(len(content)):
        if content[at : at + 4] == b"PK\x01\x02":
            content[at + 8] |= 1
    with pytest.raises(UnsupportedCheckpointError, match="encrypted"):
        read_checkpoint(write(bytes(content)))


def test_every_truncation_of_a_zip_is_a_typed_error(write: Write) -> None:
    content = zip_of(MEMBERS)
    for length in range(len(content)):
        with pytest.raises(CheckpointError):
            read_checkpoint(write(content[:length]))


def test_a_storage_key_cannot_leave_its_folder(write: Write) -> None:
    body = mapping({"w": tensor(storage(key="../data.pkl", legacy=False))})
    with pytest.raises(CheckpointFormatError, match="no member"):
        read_checkpoint(write(zip_file(body)))


def entry(dtype: str = "F32", shape: object = (2,), offsets: object = (0, 8)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


EIGHT = np.array([1.5, -2], np.float32).tobytes()
SAFETENSORS_DAMAGE: dict[str, tuple[bytes, str]] = {
    "no json": (safetensors_file(b"{" + b"x" * 20), "not JSON"),
    "deep json": (safetensors_file(b'{"a":' + b"[" * 100_000), "not JSON"),
    "long number": (safetensors_file(b'{"a":' + b"9" * 10_000 + b"}"), "not JSON"),
    "header too long": (safetensors_file({}, length=5000), "truncated"),
    "nan": (safetensors_file(b'{"a": NaN}'), "NaN"),
    "name twice": (safetensors_file(b'{"a": {}, "a": {}}'), "a name twice"),
    "no tensors": (safetensors_file({}), "without tensors"),
    "field missing": (safetensors_file({"a": {"dtype": "F32"}}), "not just"),
    "field too many": (safetensors_file({"a": {**entry(), "x": 1}}), "not just"),
    "entry not an object": (safetensors_file({"a": 5}), "not just"),
    "negative shape": (safetensors_file({"a": entry(shape=[-2])}, EIGHT), "unusable shape"),
    "true as length": (safetensors_file({"a": entry(shape=[True])}, EIGHT), "unusable shape"),
    "huge shape": (safetensors_file({"a": entry(shape=[1 << 61, 8])}, EIGHT), "has 8 bytes"),
    "product": (safetensors_file({"a": entry(shape=[3])}, EIGHT), "has 8 bytes"),
    "offsets reversed": (safetensors_file({"a": entry(offsets=[8, 0])}, EIGHT), "has -8 bytes"),
    "out of bounds": (safetensors_file({"a": entry()}, EIGHT[:4]), "need 8 bytes"),
    "too much data": (safetensors_file({"a": entry()}, EIGHT * 2), "need 8 bytes"),
    "hole": (safetensors_file({"a": entry(offsets=[8, 16])}, EIGHT * 2), "wanted 0"),
    "overlap": (safetensors_file({"a": entry(), "b": entry()}, EIGHT), "wanted 8"),
    "metadata": (safetensors_file({"__metadata__": {"a": 1}}, EIGHT), "__metadata__"),
    "float8": (safetensors_file({"a": entry("F8_E4M3", [8])}, EIGHT), "F8_E4M3"),
    "complex": (safetensors_file({"a": entry("C64", [1])}, EIGHT), "C64"),
    "dtype": (safetensors_file({"a": entry(5)}, EIGHT), "unusable dtype"),  # type: ignore[arg-type]
    "many axes": (safetensors_file({"a": entry(shape=[1] * 70)}, EIGHT), "unusable shape"),
}


@pytest.mark.parametrize("case", SAFETENSORS_DAMAGE)
def test_a_damaged_safetensors_file_is_refused(case: str, write: Write) -> None:
    content, words = SAFETENSORS_DAMAGE[case]
    with pytest.raises(CheckpointError, match=words) as info:
        read_checkpoint(write(content))
    assert "\n" not in str(info.value)


EVERY_TYPE = [
    *("float64", "float32", "float16", "bool"),
    *("int64", "int32", "int16", "int8", "uint64", "uint32", "uint16", "uint8"),
]


def test_safetensors_of_every_type_are_read(tmp_path: Path) -> None:
    numpy_format = pytest.importorskip("safetensors.numpy", reason="safetensors is not installed")
    arrays = {name: (np.arange(6).reshape(2, 3) % 2).astype(name) for name in EVERY_TYPE}
    arrays["empty"] = np.zeros((0, 3), np.float32)
    arrays["scalar"] = np.array(3.0, np.float32)
    path = tmp_path / "model.bin"
    numpy_format.save_file(arrays, str(path), metadata={"format": "pt"})
    found = read_checkpoint(path)
    assert found.format is CheckpointFormat.SAFETENSORS
    assert found.scalars == {"__metadata__.format": "pt"}
    assert set(found.tensors) == set(arrays)
    for name, array in arrays.items():
        wanted = np.float32 if array.dtype.kind == "f" else array.dtype
        assert found.tensors[name].array.dtype == wanted
        assert np.array_equal(found.tensors[name].array, array)
        assert not found.tensors[name].array.flags.writeable


def test_safetensors_bfloat16_keeps_its_bits(write: Write) -> None:
    bits = np.array([0x3FC0, 0xC000, 0x0001], "<u2")
    content = safetensors_file({"a": entry("BF16", [3], [0, 6])}, bits.tobytes())
    one = read_checkpoint(write(content)).tensors["a"]
    assert one.stored_dtype == "bfloat16"
    assert one.array.view(np.uint32).tolist() == [0x3FC00000, 0xC0000000, 0x00010000]


def onnx_model(*tensors: Any) -> Any:
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    value = onnx.helper.make_tensor_value_info("x", 1, [1])
    node = onnx.helper.make_node("Identity", ["x"], ["y"])
    out = onnx.helper.make_tensor_value_info("y", 1, [1])
    graph = onnx.helper.make_graph([node], "g", [value], [out], list(tensors))
    return onnx.helper.make_model(graph)


@pytest.mark.parametrize(
    ("kind", "stored", "wanted"),
    [
        (1, "float32", np.float32),
        (10, "float16", np.float32),
        (11, "float64", np.float32),
        (16, "bfloat16", np.float32),
        (7, "int64", np.int64),
        (3, "int8", np.int8),
        (9, "bool", np.bool_),
    ],
)
def test_onnx_initialisers_are_read(kind: int, stored: str, wanted: type, write: Write) -> None:
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    initialiser = onnx.helper.make_tensor("w", kind, [3], [1, 0, 1])
    found = read_checkpoint(write(onnx_model(initialiser).SerializeToString()))
    assert found.format is CheckpointFormat.ONNX
    one = found.tensors["w"]
    assert one.stored_dtype == stored
    assert one.array.dtype == wanted
    assert one.array.tolist() == [1, 0, 1]


def test_onnx_with_external_data_is_refused(write: Write, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    (tmp_path / "secret").write_bytes(b"\0" * 12)
    outside = onnx.helper.make_tensor("w", 1, [3], [1, 0, 1])
    outside.ClearField("float_data")
    outside.data_location = 1
    outside.external_data.add(key="location", value="secret")
    with pytest.raises(UnsafeCheckpointError, match="another file"):
        read_checkpoint(write(onnx_model(outside).SerializeToString()))


def test_onnx_of_odd_types_or_shapes_is_refused(write: Write) -> None:
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    odd = onnx.helper.make_tensor("w", 17, [1], [1.0])
    with pytest.raises(UnsupportedCheckpointError, match="float8"):
        read_checkpoint(write(onnx_model(odd).SerializeToString()))
    huge = onnx.helper.make_tensor("w", 1, [1], [1.0])
    huge.dims[0] = 1 << 40
    with pytest.raises(UnsafeCheckpointError):
        read_checkpoint(write(onnx_model(huge).SerializeToString()))
    huge.dims[0] = 5
    with pytest.raises(CheckpointFormatError, match="does not fit its shape"):
        read_checkpoint(write(onnx_model(huge).SerializeToString()))


def test_a_truncated_onnx_model_is_refused(write: Write) -> None:
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    content = onnx_model(onnx.helper.make_tensor("w", 1, [99], [1.0] * 99)).SerializeToString()
    with pytest.raises(CheckpointFormatError):
        read_checkpoint(write(content[: len(content) // 2]))
