"""Checkpoints that other people trained, compared bit by bit with torch."""

from __future__ import annotations

import io
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeface.errors import CheckpointFormatError, UnsupportedCheckpointError
from edgeface_export.checkpoints import CheckpointFormat, ReadLimits, read_checkpoint
from edgeface_export.checkpoints.budget import Budget
from edgeface_export.checkpoints.pickle_machine import PickleMachine
from edgeface_export.checkpoints.torch_pickle import StorageTable, item_bytes
from tests.unit.checkpoints.checkpoint_builders import legacy_file

READABLE = [
    "arcface-mobilefacenet-112-bubbliiiing.pth",
    "arcface-mobilefacenet-112x96-xiaoccer.ckpt",
    "arcface-mobilefacenet-relu-112-foamliu.pt",
    "arcface-mobilefacenet-small-112x96-lh.ckpt",
    "centerloss-mnist-toy-with-head.pth",
    "cosface-edgeface-xxs-dynamic-int8.pt",
    "cosface-toy.pth",
    "triplet-embedding-mlp-fdbtrs.pt",
]
WHOLE_MODULE = "arcface-mobilefacenet-pruned-512d-whole-module-xuexingyu24.pt"
DAMAGED = "damaged-storage-size-xuexingyu24.pt"


def flattened(value: Any, torch: Any, name: str = "") -> dict[str, Any]:
    """Tensors of nested containers by dotted name."""
    if isinstance(value, torch.Tensor):
        return {name: value}
    children: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        children = list(value.items())
    elif isinstance(value, (list, tuple)):
        children = list(enumerate(value))
    found: dict[str, Any] = {}
    for key, child in children:
        found |= flattened(child, torch, f"{name}.{key}" if name else str(key))
    return found


@pytest.mark.parametrize("name", READABLE)
@pytest.mark.filterwarnings("ignore:.*is deprecated")
@pytest.mark.filterwarnings("ignore:.*quantize_per_tensor")
def test_every_tensor_equals_that_of_torch(name: str, checkpoints: Path, torch: Any) -> None:
    loaded = torch.load(checkpoints / name, map_location="cpu", weights_only=True)
    wanted = flattened(loaded, torch)
    found = read_checkpoint(checkpoints / name)
    assert list(found.tensors) == list(wanted)
    for key, reference in wanted.items():
        dense = (reference.dequantize() if reference.is_quantized else reference).detach()
        array = found.tensors[key].array
        assert array.dtype == dense.numpy().dtype, key
        assert np.array_equal(array, dense.numpy()), key
        assert found.tensors[key].stored_dtype == str(reference.dtype).removeprefix("torch.")


def test_every_file_of_the_folder_is_known_to_this_test(checkpoints: Path) -> None:
    kinds = {".pt", ".pth", ".ckpt"}
    names = {path.name for path in checkpoints.iterdir() if path.suffix in kinds}
    assert names == {*READABLE, WHOLE_MODULE, DAMAGED}


def test_an_epoch_and_the_file_itself_are_described(checkpoints: Path) -> None:
    found = read_checkpoint(checkpoints / "arcface-mobilefacenet-112x96-xiaoccer.ckpt")
    assert found.scalars == {"epoch": 68}
    assert found.format is CheckpointFormat.LEGACY_PICKLE
    assert found.foreign_classes == ()
    assert not found.whole_module
    assert found.size_bytes == 4130855
    assert len(found.sha256) == 64


@pytest.mark.parametrize("name", [DAMAGED, WHOLE_MODULE])
def test_storages_that_do_not_fit_are_refused_in_one_line(name: str, checkpoints: Path) -> None:
    # The storages of the whole module are displaced from the 54th on: torch refuses it too.
    with pytest.raises(
        CheckpointFormatError, match="elements in the file; the tensors say"
    ) as info:
        read_checkpoint(checkpoints / name)
    assert name in str(info.value)
    assert "\n" not in str(info.value)


def with_new_storages(content: bytes) -> bytes:
    """A legacy file again, with random storages of the sizes that its tensors ask for."""
    stream, budget, table = io.BytesIO(content), Budget(ReadLimits()), StorageTable()
    for _ in range(3):
        PickleMachine(budget).load(stream)
    start = stream.tell()
    PickleMachine(budget, persistent=table.persistent).load(stream)
    body = content[start + 2 : stream.tell() - 1]
    random = np.random.default_rng(1)
    storages = table.by_key.items()
    return legacy_file(
        body,
        {key: random.bytes(one.numel * item_bytes(one)) for key, one in storages},
        item_bytes={key: item_bytes(one) for key, one in storages},
    )


def test_a_whole_module_of_torch_04_is_read_without_importing_its_classes(
    checkpoints: Path, tmp_path: Path
) -> None:
    path = tmp_path / "whole.pt"
    path.write_bytes(with_new_storages((checkpoints / WHOLE_MODULE).read_bytes()))
    before = set(sys.modules)
    found = read_checkpoint(path)
    assert set(sys.modules) == before
    assert "Base_Model" not in sys.modules
    assert found.whole_module
    assert found.root_class == "Base_Model.face_model.MobileFaceNet"
    assert "Base_Model.face_model.Depth_Wise" in found.foreign_classes
    assert "torch.nn.modules.conv.Conv2d" in found.foreign_classes
    assert list(found.tensors)[:6] == [
        "conv1.conv.weight",
        "conv1.bn.weight",
        "conv1.bn.bias",
        "conv1.bn.running_mean",
        "conv1.bn.running_var",
        "conv1.bn.num_batches_tracked",
    ]
    assert len(found.tensors) == 333
    assert found.tensors["conv1.conv.weight"].array.shape[1:] == (3, 3, 3)
    assert found.scalars == {}


def test_of_caffe_the_weights_are_read_and_the_description_is_refused(checkpoints: Path) -> None:
    stem = "amsoftmax-mobilefacenet-112x96-zhanglaplace"
    found = read_checkpoint(checkpoints / f"{stem}.caffemodel")
    assert found.format is CheckpointFormat.CAFFE
    assert found.tensors["conv5_dw.0"].array.shape == (512, 1, 7, 6)
    with pytest.raises(UnsupportedCheckpointError, match=r"give the \.caffemodel"):
        read_checkpoint(checkpoints / f"{stem}.prototxt")


def test_four_megabytes_are_read_in_well_under_a_second(checkpoints: Path) -> None:
    started = time.process_time()
    read_checkpoint(checkpoints / "arcface-mobilefacenet-112x96-xiaoccer.ckpt")
    assert time.process_time() - started < 1.0


def test_real_onnx_models_give_their_initialisers(checkpoints: Path) -> None:
    onnx = pytest.importorskip("onnx")
    from onnx import numpy_helper

    path = checkpoints.parent / "peers" / "yunet-2023mar.onnx"
    wanted = {one.name: numpy_helper.to_array(one) for one in onnx.load(path).graph.initializer}
    found = read_checkpoint(path)
    assert found.format is CheckpointFormat.ONNX
    assert list(found.tensors) == list(wanted)
    assert all(np.array_equal(found.tensors[key].array, wanted[key]) for key in wanted)
