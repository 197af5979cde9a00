"""Files that torch itself writes here, in every container and element type."""

from __future__ import annotations

import collections
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeface.errors import UnsupportedCheckpointError
from edgeface_export.checkpoints import Checkpoint, CheckpointFormat, read_checkpoint

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


def saved(torch: Any, value: Any, folder: Path, **options: Any) -> Checkpoint:
    path = folder / "saved.pt"
    torch.save(value, path, **options)
    return read_checkpoint(path)


@pytest.fixture(params=[True, False], ids=["zip", "legacy"])
def options(request: pytest.FixtureRequest) -> dict[str, Any]:
    return {"_use_new_zipfile_serialization": request.param}


def test_both_containers_give_names_arrays_and_scalars(
    torch: Any, tmp_path: Path, options: dict[str, Any]
) -> None:
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    value = {"epoch": 7, "lr": 0.1, "name": "é", "done": True, "model": network.state_dict()}
    found = saved(torch, value, tmp_path, **options)
    assert found.scalars == {"epoch": 7, "lr": 0.1, "name": "é", "done": True}
    assert list(found.tensors) == [f"model.{key}" for key in network.state_dict()]
    for key, reference in network.state_dict().items():
        one = found.tensors[f"model.{key}"]
        assert np.array_equal(one.array, reference.numpy())
        assert not one.array.flags.writeable
        assert not one.shares_storage
    legacy = not options["_use_new_zipfile_serialization"]
    wanted = CheckpointFormat.LEGACY_PICKLE if legacy else CheckpointFormat.ZIP_PICKLE
    assert found.format is wanted


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_pickle_protocol_is_read(
    torch: Any, tmp_path: Path, options: dict[str, Any], protocol: int
) -> None:
    value = {"weight": torch.arange(6.0).reshape(2, 3), "tags": {"a"}, "raw": b"\x00\xff"}
    found = saved(torch, value, tmp_path, pickle_protocol=protocol, **options)
    assert np.array_equal(found.tensors["weight"].array, np.arange(6.0).reshape(2, 3))
    assert found.scalars == {"tags.0": "a"}


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("float64", np.float32),
        ("float32", np.float32),
        ("float16", np.float32),
        ("bfloat16", np.float32),
        ("int64", np.int64),
        ("int32", np.int32),
        ("int16", np.int16),
        ("int8", np.int8),
        ("uint8", np.uint8),
        ("uint16", np.uint16),
        ("uint32", np.uint32),
        ("uint64", np.uint64),
        ("bool", np.bool_),
    ],
)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (0, 4), (2, 3, 5)], ids=str)
def test_every_element_type_and_shape_is_exact(
    torch: Any, tmp_path: Path, name: str, wanted: type, shape: tuple[int, ...]
) -> None:
    dtype = getattr(torch, name)
    reference = (torch.rand(shape) * 99 - (0 if name[0] == "u" else 50)).to(dtype)
    one = saved(torch, {"x": reference}, tmp_path).tensors["x"]
    assert one.stored_dtype == name
    assert one.array.dtype == wanted
    assert one.array.shape == shape
    assert one.array.flags.c_contiguous
    same = reference.to(torch.float32) if one.array.dtype == np.float32 else reference
    assert np.array_equal(one.array, same.numpy())


def test_views_are_cut_out_of_their_storage(
    torch: Any, tmp_path: Path, options: dict[str, Any]
) -> None:
    base = torch.arange(24.0).reshape(4, 6)
    views = {
        "base": base,
        "transposed": base.t(),
        "steps": base[1::2, ::3],
        "expanded": base[0, :1].expand(5),
        "channels_last": torch.rand(1, 2, 3, 4).to(memory_format=torch.channels_last),
    }
    found = saved(torch, views, tmp_path, **options).tensors
    for name, reference in views.items():
        assert np.array_equal(found[name].array, reference.numpy()), name
        assert found[name].shares_storage == (name != "channels_last")


def test_tied_parameters_share_their_storage(torch: Any, tmp_path: Path) -> None:
    one, two = torch.nn.Linear(3, 3, bias=False), torch.nn.Linear(3, 3, bias=False)
    two.weight = one.weight
    found = saved(torch, torch.nn.Sequential(one, two).state_dict(), tmp_path).tensors
    assert [entry.shares_storage for entry in found.values()] == [True, True]


def test_parameters_keep_their_values(torch: Any, tmp_path: Path, options: dict[str, Any]) -> None:
    plain, with_state = torch.nn.Parameter(torch.rand(3)), torch.nn.Parameter(torch.rand(2))
    with_state.origin = "test"
    found = saved(torch, {"a": plain, "b": with_state}, tmp_path, **options)
    assert np.array_equal(found.tensors["a"].array, plain.detach().numpy())
    assert np.array_equal(found.tensors["b"].array, with_state.detach().numpy())


def test_a_lone_tensor_has_a_name(torch: Any, tmp_path: Path) -> None:
    assert list(saved(torch, torch.rand(2), tmp_path).tensors) == ["tensor"]


def test_lists_tuples_and_odd_keys_become_parts_of_names(torch: Any, tmp_path: Path) -> None:
    one = torch.ones(1)
    value = {"a": [one, (one, one)], 3: one, None: one, 1.5: one, True: one, (1, 2): one}
    names = list(saved(torch, value, tmp_path).tensors)
    assert names == ["a.0", "a.1.0", "a.1.1", "3", "None", "1.5", "True", "tuple"]


def test_a_taken_name_is_given_once_and_noted(torch: Any, tmp_path: Path) -> None:
    value = {"a.b": torch.zeros(1), "a": {"b": torch.ones(1)}, "1": 5, 1: torch.ones(2)}
    found = saved(torch, value, tmp_path)
    assert list(found.tensors) == ["a.b", "a.b#2", "1#2"]
    assert found.tensors["a.b#2"].array[0] == 1
    assert found.scalars == {"1": 5}
    assert found.notes == ("2 values renamed, as the name was taken",)


@pytest.mark.parametrize("scheme", ["qint8", "quint8", "qint32"])
def test_quantised_tensors_are_dequantised_and_noted(
    torch: Any, tmp_path: Path, options: dict[str, Any], scheme: str
) -> None:
    values, dtype = torch.randn(4, 6), getattr(torch, scheme)
    per_tensor = torch.quantize_per_tensor(values, 0.0173, 0, dtype)
    scales, zeros = torch.rand(6).double() + 0.01, torch.arange(6)
    per_channel = torch.quantize_per_channel(values, scales, zeros, 1, dtype)
    shifted = torch.quantize_per_tensor(values, 0.05, 7, dtype)
    value = {"a": per_tensor, "b": per_channel, "c": shifted}
    found = saved(torch, value, tmp_path, **options)
    assert np.array_equal(found.tensors["a"].array, per_tensor.dequantize().numpy())
    # torch may fuse multiplication and subtraction, which rounds once instead of twice.
    for key in ("b", "c"):
        wanted = value[key].dequantize().numpy()
        np.testing.assert_allclose(found.tensors[key].array, wanted, rtol=1e-6, atol=1e-6)
    assert {one.stored_dtype for one in found.tensors.values()} == {scheme}
    assert found.notes == ("3 quantised tensors dequantised to float32",)


def test_packed_quantised_layers_are_read_from_state_dict_and_module(
    torch: Any, tmp_path: Path
) -> None:
    network = torch.nn.Sequential(torch.nn.Linear(3, 2))
    quantised = torch.ao.quantization.quantize_dynamic(network, {torch.nn.Linear})
    weight, bias = quantised.state_dict()["0._packed_params._packed_params"]
    for value in (quantised.state_dict(), quantised):
        found = saved(torch, value, tmp_path).tensors
        assert found["0._packed_params._packed_params.0"].stored_dtype == "qint8"
        for index, reference in enumerate((weight.dequantize(), bias.detach())):
            array = found[f"0._packed_params._packed_params.{index}"].array
            assert np.array_equal(array, reference.numpy())


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda torch: torch.eye(3).to_sparse(), "sparse"),
        (lambda torch: torch.eye(3).to_sparse_csr(), "sparse"),
        (lambda torch: torch.ones(2, dtype=torch.complex64), "complex64"),
        (lambda torch: torch.ones(2, dtype=torch.complex128), "complex128"),
        (lambda torch: torch.ones(2, device="meta"), "meta"),
        (lambda torch: torch.nested.nested_tensor([torch.ones(1), torch.ones(2)]), "nested"),
        (lambda torch: torch.ones(2).to(torch.float8_e4m3fn), "float8_e4m3fn"),
    ],
    ids=["coo", "csr", "complex64", "complex128", "meta", "nested", "float8"],
)
def test_tensors_that_are_not_read_are_refused_by_name(
    torch: Any, tmp_path: Path, make: Any, words: str
) -> None:
    value = {"good": torch.ones(1), "layer": {"odd": make(torch)}}
    with pytest.raises(UnsupportedCheckpointError, match=rf"'layer\.odd'.*{words}"):
        saved(torch, value, tmp_path)


def test_numpy_arrays_and_scalars_are_read(
    torch: Any, tmp_path: Path, options: dict[str, Any]
) -> None:
    value = {
        "best": np.float64(0.5),
        "step": np.int64(9),
        "flag": np.bool_(True),
        "mean": np.arange(6, dtype=np.float32).reshape(2, 3),
        "fortran": np.asfortranarray(np.arange(6).reshape(2, 3)),
        "big": np.arange(3, dtype=">f8"),
        "objects": np.array([{}, None], dtype=object),
        "zero_d": np.array(4, dtype=np.int16),
        "x": torch.ones(1),
    }
    found = saved(torch, value, tmp_path, **options)
    assert found.scalars == {"best": 0.5, "step": 9, "flag": True}
    assert list(found.tensors) == ["mean", "fortran", "big", "zero_d", "x"]
    for name in ("mean", "fortran", "big", "zero_d"):
        assert np.array_equal(found.tensors[name].array, value[name]), name
    assert found.tensors["big"].stored_dtype == "float64"
    assert found.tensors["big"].array.dtype == np.float32
    assert found.foreign_classes == ()


def test_values_beyond_float32_are_noted(torch: Any, tmp_path: Path) -> None:
    found = saved(torch, {"x": torch.tensor([1e300, 1.0], dtype=torch.float64)}, tmp_path)
    assert np.array_equal(found.tensors["x"].array, [np.inf, 1.0])
    assert found.notes == ("1 tensor with values too large for float32",)


class Block(collections.UserDict[str, Any]):
    """A foreign container class."""


def test_foreign_objects_are_listed_and_their_tensors_found(torch: Any, tmp_path: Path) -> None:
    import argparse

    options = argparse.Namespace(lr=0.1, path=Path("runs") / "a")
    value = {"args": options, "block": Block(w=torch.ones(2)), "f": collections.defaultdict(list)}
    found = saved(torch, value, tmp_path)
    assert list(found.tensors) == ["block.data.w"]
    assert found.scalars["args.lr"] == 0.1
    assert "argparse.Namespace" in found.foreign_classes
    assert any(name.endswith(".Block") for name in found.foreign_classes)
    assert not found.whole_module
    assert found.root_class == ""


def make_module(torch: Any) -> Any:
    network = torch.nn.Sequential(
        collections.OrderedDict(
            conv=torch.nn.Conv2d(3, 4, 3, bias=False),
            norm=torch.nn.BatchNorm2d(4),
            inner=torch.nn.Sequential(torch.nn.PReLU(4), torch.nn.Flatten()),
        )
    )
    network.register_buffer("kept", torch.ones(2))
    network.register_buffer("dropped", torch.ones(2), persistent=False)
    network.constant = torch.ones(5)
    return network


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_whole_module_has_the_names_and_order_of_its_state_dict(
    torch: Any, tmp_path: Path, options: dict[str, Any], wrapped: bool
) -> None:
    network = make_module(torch)
    value = {"model": network} if wrapped else network
    prefix = "model." if wrapped else ""
    found = saved(torch, value, tmp_path, **options)
    assert list(found.tensors) == [f"{prefix}{key}" for key in network.state_dict()]
    for key, reference in network.state_dict().items():
        assert np.array_equal(found.tensors[f"{prefix}{key}"].array, reference.numpy())
    assert found.whole_module
    assert found.root_class == "torch.nn.modules.container.Sequential"
    assert found.scalars == {}


def test_a_data_parallel_module_keeps_its_prefix(torch: Any, tmp_path: Path) -> None:
    network = torch.nn.DataParallel(torch.nn.Linear(2, 2))
    assert list(saved(torch, network, tmp_path).tensors) == ["module.weight", "module.bias"]


@pytest.mark.parametrize("frozen", [False, True])
def test_torchscript_gives_its_tensors(torch: Any, tmp_path: Path, frozen: bool) -> None:
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.PReLU(4)).eval()
    script = torch.jit.trace(network, torch.rand(1, 3, 8, 8))
    path = tmp_path / "script.pt"
    (torch.jit.freeze(script) if frozen else script).save(str(path))
    found = read_checkpoint(path)
    assert found.format is CheckpointFormat.TORCHSCRIPT
    arrays = [one.array for one in found.tensors.values()]
    for reference in network.state_dict().values():
        assert any(np.array_equal(array, reference.numpy()) for array in arrays)
    if frozen:
        assert all(name.startswith("CONSTANTS.c") for name in found.tensors)
    else:
        assert list(found.tensors) == list(network.state_dict())
    assert not found.whole_module


def test_export_archives_are_refused_by_name(torch: Any, tmp_path: Path) -> None:
    path = tmp_path / "model.pt2"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model/archive_format", "pt2")
        archive.writestr("model/models/model.json", "{}")
        archive.writestr("model/data/weights/model_weights_config.json", "{}")
    with pytest.raises(UnsupportedCheckpointError, match=r"torch\.export.*edgeface\[torch\]"):
        read_checkpoint(path)


def test_optimiser_states_are_read_too(torch: Any, tmp_path: Path) -> None:
    network = torch.nn.Linear(2, 2)
    optimiser = torch.optim.Adam(network.parameters())
    network(torch.ones(1, 2)).sum().backward()
    optimiser.step()
    found = saved(torch, {"optimizer": optimiser.state_dict()}, tmp_path)
    assert "optimizer.state.0.exp_avg" in found.tensors
    assert found.scalars["optimizer.param_groups.0.lr"] == 0.001
    assert found.foreign_classes == ()


def test_reading_imports_nothing(torch: Any, tmp_path: Path) -> None:
    path = tmp_path / "saved.pt"
    torch.save({"a": torch.ones(1), "n": np.float32(1)}, path)
    read_checkpoint(path)
    before = set(sys.modules)
    read_checkpoint(path)
    assert set(sys.modules) == before
