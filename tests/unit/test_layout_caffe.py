"""Caffe's two files: weights and description, small ones made here, damaged and hostile ones."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from edgeface.errors import (
    ArchitectureError,
    CheckpointError,
    CheckpointFormatError,
    InvalidInputError,
    UnsafeCheckpointError,
)
from edgeface_export.architectures.network import Add, BatchNorm, Conv, Linear, PRelu
from edgeface_export.checkpoints import CheckpointFormat, ReadLimits, read_checkpoint
from edgeface_export.graph.emit import emit
from edgeface_export.graph.reference import reference_embeddings
from edgeface_export.graph.session import EmbeddingSession
from edgeface_export.inspection import inspect_checkpoint
from edgeface_export.intake.opening import Intake, open_model
from edgeface_export.intake.prototxt import parse_prototxt
from tests.builders_export import random_crops

Blobs = dict[str, list[np.ndarray]]


def varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def field(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def blob(array: np.ndarray, *, old: bool = False) -> bytes:
    data = field(5, array.astype("<f4").tobytes())
    if old:
        sides = (1,) * (4 - array.ndim) + array.shape
        return b"".join(varint(k << 3) + varint(n) for k, n in enumerate(sides, 1)) + data
    return data + field(7, field(1, b"".join(varint(n) for n in array.shape)))


def caffemodel(blobs: Blobs, *, old: bool = False) -> bytes:
    name, holds, layers = (4, 6, 2) if old else (1, 7, 100)
    made = b"".join(
        field(
            layers,
            field(name, at.encode()) + b"".join(field(holds, blob(a, old=old)) for a in arrays),
        )
        for at, arrays in blobs.items()
    )
    return field(1, b"net") + made


DESCRIPTION = """
name: "Small"  # a comment
input: "data"
input_dim: 1 input_dim: 3 input_dim: 112 input_dim: 96
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 16 kernel_size: 3 stride: 8 pad: 1 bias_term: false } }
layer { name: "bn" type: "BatchNorm" bottom: "conv" top: "conv" }
layer { name: "sc" type: "Scale" bottom: "conv" top: "conv" scale_param { bias_term: true } }
layer { name: "act" type: "PReLU" bottom: "conv" top: "conv" }
layer { name: "dw" type: "ConvolutionDepthwise" bottom: "conv" top: "dw"
  convolution_param { num_output: 16 kernel_size: 3 pad: 1 } }
layer { name: "sum" type: "Eltwise" bottom: "conv" bottom: "dw" top: "sum"
  eltwise_param { operation: SUM } }
layer { name: "drop" type: "Dropout" bottom: "sum" top: "sum" }
layer { name: "fc" type: "InnerProduct" bottom: "sum" top: "fc"
  inner_product_param { num_output: 8 } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" include { phase: TRAIN } }
"""


@pytest.fixture
def blobs() -> Blobs:
    rng = np.random.default_rng(2)

    def normal(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(np.float32)

    factor = np.array([4.0], np.float32)
    return {
        "conv": [normal(16, 3, 3, 3)],
        "bn": [4 * normal(16), 4 * np.abs(normal(16)) + 1, factor],
        "sc": [normal(16), normal(16)],
        "act": [np.abs(normal(16)) * 0.3],
        "dw": [normal(16, 1, 3, 3), normal(16)],
        "fc": [normal(8, 16 * 14 * 12) * 0.05, normal(8)],
        "unused": [normal(3)],
    }


def written(folder: Path, content: bytes, description: str = DESCRIPTION) -> Path:
    (folder / "net.prototxt").write_text(description)
    path = folder / "net.caffemodel"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("old", [False, True])
def test_a_network_is_described_by_one_file_and_filled_by_the_other(
    blobs: Blobs, tmp_path: Path, old: bool
) -> None:
    opened = open_model(written(tmp_path, caffemodel(blobs, old=old)))
    assert opened.checkpoint.format is CheckpointFormat.CAFFE
    found = opened.recognition
    kinds = [type(layer) for layer in found.network.layers]
    assert [kinds.count(kind) for kind in (Conv, BatchNorm, PRelu, Add, Linear)] == [2, 1, 1, 1, 1]
    assert found.network.alignment_template == "arcface-112x96"
    assert str(found.network.preprocessing) == "BGR, (x - 127.5) / 128"
    assert [entry.names for entry in found.dropped] == [("unused.0",)]
    norm = next(layer for layer in found.network.layers if isinstance(layer, BatchNorm))
    np.testing.assert_allclose(norm.mean, blobs["bn"][0] / 4, rtol=1e-6)
    np.testing.assert_array_equal(norm.gamma, blobs["sc"][0])
    crops = random_crops(2, found.network.crop_size)
    ours = EmbeddingSession(emit(found.network, name="caffe")).embed(crops)
    assert np.abs(ours - reference_embeddings(found.network, crops)).max() <= 1e-5


def test_inspect_shows_the_network_or_says_what_is_missing(blobs: Blobs, tmp_path: Path) -> None:
    path = written(tmp_path, caffemodel(blobs))
    found = inspect_checkpoint(path)
    assert found.exportable
    assert found.architecture == "Caffe network Small"
    (tmp_path / "net.prototxt").unlink()
    found = inspect_checkpoint(path)
    assert not found.exportable
    assert "--prototxt" in found.reasons[0]


CHANGES = {
    "another kernel": ("kernel_size: 3 stride: 8", "kernel_size: 5 stride: 8", "kernel of"),
    "another width": (
        "num_output: 16 kernel_size: 3 stride",
        "num_output: 32 kernel_size: 3 stride",
        "the weights have 16",
    ),
    "an unknown layer": ('"PReLU"', '"Swish"', "of type 'Swish', which is not known"),
    "weights that are not there": ('name: "fc"', 'name: "fc9"', "no blob 0"),
    "a blob that nothing gives": ('bottom: "dw"', 'bottom: "nowhere"', "nothing gives its input"),
    "two outputs": ('bottom: "sum" top: "fc"', 'bottom: "conv" top: "fc"', "2 outputs"),
    "a crop of no template": ("input_dim: 112", "input_dim: 100", "no alignment template"),
    "a stride of 0": ("stride: 8", "stride: 0", "contradicts itself"),
    "padding without end": ("stride: 8 pad: 1", "stride: 8 pad: 99999999", "padding"),
    "grey pictures": ("input_dim: 3 ", "input_dim: 1 ", "the one for deployment"),
}


@pytest.mark.parametrize("case", CHANGES)
def test_a_description_that_does_not_fit_is_refused_by_name(
    case: str, blobs: Blobs, tmp_path: Path
) -> None:
    old, new, said = CHANGES[case]
    assert old in DESCRIPTION
    path = written(tmp_path, caffemodel(blobs), DESCRIPTION.replace(old, new))
    with pytest.raises(ArchitectureError, match=said):
        open_model(path)


def test_a_description_for_another_kind_of_file_is_refused(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    path = tmp_path / "net.safetensors"
    save_file({"a": np.ones(3, np.float32)}, path)
    with pytest.raises(InvalidInputError, match="leave --prototxt out"):
        open_model(path, Intake(description=tmp_path / "net.prototxt"))


@pytest.mark.parametrize("cut", [1, 7, 40, 300, 2000])
def test_a_file_cut_anywhere_is_refused(cut: int, blobs: Blobs, tmp_path: Path) -> None:
    path = written(tmp_path, caffemodel(blobs)[:-cut])
    with pytest.raises(CheckpointError):
        read_checkpoint(path)


HOSTILE = {
    "a shape that promises more": field(7, field(1, varint(1 << 40))) + field(5, bytes(8)),
    "a shape without end": field(7, field(1, b"\x01" * 40)) + field(5, bytes(4)),
    "half a float": field(5, bytes(7)),
    "a number of eleven bytes": varint(1 << 3) + b"\xff" * 11,
    "field 0": b"\x02\x00",
    "an unknown wire type": b"\x0b",
    "a number in place of data": varint(5 << 3) + b"\x01",
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_blob_is_refused(case: str, tmp_path: Path) -> None:
    layer = field(1, b"conv") + field(7, HOSTILE[case])
    path = tmp_path / "net.caffemodel"
    path.write_bytes(field(1, b"net") + field(100, layer))
    with pytest.raises(CheckpointFormatError):
        read_checkpoint(path)


def test_more_than_the_limits_allow_is_unsafe(blobs: Blobs, tmp_path: Path) -> None:
    path = written(tmp_path, caffemodel(blobs))
    with pytest.raises(UnsafeCheckpointError, match="max_tensor_bytes_total"):
        read_checkpoint(path, limits=ReadLimits(max_tensor_bytes_total=1000))
    many = b"".join(varint(5 << 3 | 5) + struct.pack("<f", 1.0) for _ in range(2000))
    path.write_bytes(field(1, b"net") + field(100, field(1, b"c") + field(7, many)))
    with pytest.raises(UnsafeCheckpointError, match="max_nodes"):
        read_checkpoint(path, limits=ReadLimits(max_nodes=1000))


def test_the_text_format_is_read_with_its_odd_forms() -> None:
    root = parse_prototxt(
        "a: 1, a: 2; m < b: 'x y' > # end\nlist: [1, 2.5, \"three\"] n { m { c: true } } f: 1e-05f"
    )
    assert root.integers("a") == [1, 2]
    assert root.message("m").text("b") == "x y"
    assert root.texts("list") == ["1", "2.5", "three"]
    assert root.message("n").message("m").flag("c", False)
    assert root.number("f", 0.0) == 1e-05
    assert parse_prototxt("").entries == {}


@pytest.mark.parametrize(
    "text",
    ["layer {", "a:", "}", "a: [1, 2", "a { b: } }", "\x00", "a: 'x", "n {" * 17 + "}" * 17, ": 1"],
)
def test_a_broken_description_is_refused(text: str) -> None:
    with pytest.raises(CheckpointFormatError):
        parse_prototxt(text)


def test_a_description_of_megabytes_is_refused() -> None:
    with pytest.raises(CheckpointFormatError, match="at most"):
        parse_prototxt(" " * 4_000_001)
    with pytest.raises(CheckpointFormatError, match="wanted a whole number"):
        parse_prototxt("a: 99999999999").integers("a")
