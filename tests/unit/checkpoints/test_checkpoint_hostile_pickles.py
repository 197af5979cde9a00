"""Pickles that were built to attack whoever loads them: each is refused, and nothing runs."""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edgeface.errors import (
    CheckpointFormatError,
    UnsafeCheckpointError,
    UnsupportedCheckpointError,
)
from edgeface_export.checkpoints import ReadLimits, read_checkpoint
from tests.unit.checkpoints.checkpoint_builders import (
    ONE_STORAGE,
    call,
    global_name,
    good_state_dict,
    legacy_file,
    literal,
    mapping,
    storage,
    tensor,
    zip_file,
)
from tests.unit.checkpoints.conftest import Write

MARKER = "attack-ran"
COMMAND = literal(f"touch {MARKER}")
CODE = literal(f"open({MARKER!r}, 'w')")


@pytest.fixture(autouse=True)
def nothing_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every test of this file also checks that no attack ran and that nothing was imported."""
    monkeypatch.chdir(tmp_path)
    before = set(sys.modules)
    yield
    assert not (tmp_path / MARKER).exists()
    assert set(sys.modules) - before <= {"edgeface_export.checkpoints"}


def stack_global(module: str, name: str) -> bytes:
    return literal(module) + literal(name) + b"\x93"


DANGEROUS = [
    "os.system",
    "posix.system",
    "nt.system",
    "os.popen",
    "os.path.join",
    "subprocess.Popen",
    "subprocess.check_output",
    "commands.getoutput",
    "builtins.eval",
    "builtins.exec",
    "builtins.compile",
    "builtins.open",
    "builtins.__import__",
    "__builtin__.eval",
    "__builtin__.execfile",
    "importlib.import_module",
    "runpy.run_path",
    "runpy._run_code",
    "sys.exit",
    "sys.settrace",
    "socket.socket",
    "shutil.rmtree",
    "pty.spawn",
    "webbrowser.open",
    "urllib.request.urlopen",
    "http.client.HTTPSConnection",
    "asyncio.run",
    "bdb.Bdb",
    "pdb.run",
    "timeit.timeit",
    "code.InteractiveInterpreter",
    "ctypes.CDLL",
    "multiprocessing.Process",
    "logging.FileHandler",
    "logging.config.listen",
    "operator.methodcaller",
    "functools.reduce",
    "types.CodeType",
    "types.FunctionType",
    "pickle.loads",
    "_pickle.loads",
    "marshal.loads",
    "tempfile.mktemp",
    "pathlib.Path.unlink",
    "torch.load",
    "torch.hub.load",
    "torch.jit.load",
    "torch.utils.cpp_extension.load_inline",
    "numpy.load",
    "numpy.testing._private.utils.runstring",
    "pandas.read_pickle",
    "joblib.load",
    "cloudpickle.cloudpickle._make_function",
    "dill._dill._load_type",
    "pip.main",
    "setuptools.setup",
    "some_model_code.utils.os.system",
]


@pytest.mark.parametrize("target", DANGEROUS)
@pytest.mark.parametrize("container", [legacy_file, zip_file], ids=["legacy", "zip"])
def test_a_dangerous_call_is_refused_by_name(
    target: str, container: Callable[[bytes], bytes], write: Write
) -> None:
    module, _, name = target.rpartition(".")
    attack = call(module, name, COMMAND)
    body = mapping({"w": tensor(legacy=container is legacy_file), "evil": attack})
    with pytest.raises(UnsafeCheckpointError) as info:
        read_checkpoint(write(container(body)))
    assert f"calls {target}; nothing was run" in str(info.value)
    assert "\n" not in str(info.value)


SYSTEM = global_name("os", "system")
EVERY_WAY = {
    "reduce": SYSTEM + b"(" + COMMAND + b"tR",
    "reduce, stack global": stack_global("os", "system") + COMMAND + b"\x85R",
    "inst": b"(" + COMMAND + b"ios\nsystem\n",
    "obj": b"(" + SYSTEM + COMMAND + b"o",
    "newobj": SYSTEM + COMMAND + b"\x85\x81",
    "newobj_ex": SYSTEM + COMMAND + b"\x85}\x92",
    "remembered": SYSTEM + b"q\x01" + b"0h\x01" + COMMAND + b"\x85R",
    "dotted": stack_global("torch.serialization", "os.system") + COMMAND + b"\x85R",
    "dotted builtins": stack_global("torch", "builtins.exec") + CODE + b"\x85R",
    "map": call("builtins", "map", global_name("os", "system"), b"]"),
    "argument of a tensor": call(
        "torch._utils", "_rebuild_tensor_v2", call("os", "system", COMMAND)
    ),
    "persistent id": b"(" + literal("storage") + call("os", "system", COMMAND) + b"tQ",
}


@pytest.mark.parametrize("way", EVERY_WAY)
def test_every_way_of_calling_is_noticed(way: str, write: Write) -> None:
    body = mapping({"w": tensor(), "evil": EVERY_WAY[way]})
    with pytest.raises(UnsafeCheckpointError, match="nothing was run"):
        read_checkpoint(write(legacy_file(body)))


@pytest.mark.parametrize(
    ("body", "words"),
    [
        # getattr(torch, "x")(command): calling what another call gave.
        (call("builtins", "getattr", SYSTEM, literal("x")) + COMMAND + b"\x85R", "made itself"),
        (call("functools", "partial", SYSTEM) + COMMAND + b"\x85R", "made itself"),
        (global_name("torch.nn", "Module") + b"}b", "changes torch.nn.Module"),
        (b"\x82\x01", "extension registry"),
        (b"\x83\x01\x00", "extension registry"),
        (b"\x84\x01\x00\x00\x00", "extension registry"),
    ],
)
def test_detours_to_a_call_are_refused(body: bytes, words: str, write: Write) -> None:
    with pytest.raises(UnsafeCheckpointError, match=words):
        read_checkpoint(write(legacy_file(mapping({"w": tensor(), "evil": body}))))


def test_a_function_that_is_only_named_stays_inert_and_is_listed(write: Write) -> None:
    found = read_checkpoint(write(legacy_file(mapping({"w": tensor(), "named": SYSTEM}))))
    assert list(found.tensors) == ["w"]
    assert found.foreign_classes == ("os.system",)


@pytest.mark.parametrize(
    "target",
    ["argparse.Namespace", "easydict.EasyDict", "models.Net", "pathlib.PosixPath", "re._compile"],
)
def test_ordinary_foreign_classes_stay_inert_records(target: str, write: Write) -> None:
    module, _, name = target.rpartition(".")
    record = (
        global_name(module, name) + b")\x81" + mapping({"lr": literal(2), "t": tensor()}) + b"b"
    )
    found = read_checkpoint(write(legacy_file(mapping({"cfg": record}))))
    assert found.foreign_classes == (target,)
    assert list(found.tensors) == ["cfg.t"]
    assert found.scalars == {"cfg.lr": 2}


@pytest.mark.parametrize(
    "naked",
    [
        b"\x80\x02" + call("os", "system", COMMAND) + b".",
        b"\x80\x04\x95\x0a\x00\x00\x00\x00\x00\x00\x00" + EVERY_WAY["reduce, stack global"] + b".",
        b"cos\nsystem\n(S'touch attack-ran'\ntR.",
        b"(S'touch attack-ran'\nios\nsystem\n.",
    ],
    ids=["protocol 2", "protocol 4", "protocol 0", "protocol 0 inst"],
)
def test_a_naked_attack_is_refused_by_name_too(naked: bytes, write: Write) -> None:
    with pytest.raises(UnsafeCheckpointError, match=r"calls os\.system"):
        read_checkpoint(write(naked))


@pytest.mark.parametrize("naked", [b"\x80\x02}.", b"\x80\x04N.", b"(dp0\nS'a'\np1\nI1\ns."])
def test_a_plain_pickle_without_torch_content_is_refused(naked: bytes, write: Write) -> None:
    with pytest.raises(UnsupportedCheckpointError, match="plain pickle"):
        read_checkpoint(write(naked))


DAMAGED = {
    "empty stack": b"0",
    "no mark": b"t",
    "reduce of nothing": b"R",
    "unknown memo": b"h\x09",
    "append to a number": b"K\x01K\x02a",
    "item of a number": b"K\x01K\x02K\x03s",
    "key without value": b"}(K\x01u",
    "state of a number": b"K\x01}b",
    "unknown opcode": b"\xff",
    "arguments not a tuple": global_name("collections", "OrderedDict") + b"K\x01R",
    "object of nothing": b"(o",
    "names by numbers": b"K\x01K\x02\x93",
    "text persistent id": b"Pabc\n",
    "unknown persistent id": b"(" + literal("tensor") + b"K\x01K\x01K\x01K\x01tQ",
    "persistent id of a number": b"K\x01Q",
    "module of no class": b"(" + literal("module") + b"K\x01NNtQ",
    "storage of a foreign class": storage(kind="SystemStorage"),
    "storage of minus one": storage(numel=-1),
    "storage of 2**70": storage(numel=1 << 70),
    "out of band": b"\x97",
    "protocol 9": b"\x80\x09N",
    "tensor of nothing": call("torch._utils", "_rebuild_tensor_v2"),
    "tensor of text": call("torch._utils", "_rebuild_tensor_v2", *[literal("x")] * 6),
    "huge bytes": b"\x8e" + struct.pack("<Q", 1 << 40) + b"x",
    "huge text": b"\x8d" + struct.pack("<Q", 1 << 62) + b"x",
    "huge long": b"\x8b" + struct.pack("<i", (1 << 31) - 1) + b"x",
    "negative long": b"\x8b" + struct.pack("<i", -5),
    "many digits": b"L" + b"9" * 6000 + b"L\n",
    "bad text": b"X\x01\x00\x00\x00\xff",
    "bad escape": b"S'\\d'\n" + b"h\x09",
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_pickle_is_a_typed_error_of_one_line(case: str, write: Write) -> None:
    with pytest.raises(CheckpointFormatError) as info:
        read_checkpoint(write(legacy_file(DAMAGED[case] + good_state_dict())))
    assert "\n" not in str(info.value)
    assert len(str(info.value)) < 500


OUTSIDE = {
    "size": {"size": (5,)},
    "offset": {"offset": 1},
    "stride": {"stride": (2,)},
    "negative offset": {"offset": -1},
    "negative stride": {"stride": (-1,), "offset": 3},
    "negative size": {"size": (-4,)},
    "rank": {"stride": (1, 1)},
    "wrapping product": {"size": (1 << 32, 1 << 32), "stride": (1 << 32, 1)},
    "wrapping stride": {"size": (3,), "stride": ((1 << 62) - 1,)},
    "too many axes": {"size": (1,) * 40, "stride": (1,) * 40},
}


@pytest.mark.parametrize("case", OUTSIDE)
def test_a_view_outside_its_storage_is_refused(case: str, write: Write) -> None:
    view = tensor(**OUTSIDE[case])  # type: ignore[arg-type]
    with pytest.raises((CheckpointFormatError, UnsafeCheckpointError)):
        read_checkpoint(write(legacy_file(mapping({"w": view}))))


def test_expanding_one_element_cannot_fill_the_memory(write: Write) -> None:
    view = tensor(size=(1 << 40,), stride=(0,))
    with pytest.raises(UnsafeCheckpointError, match="max_tensor_bytes_total"):
        read_checkpoint(write(legacy_file(mapping({"w": view}))))


def test_a_small_view_repeated_often_cannot_fill_the_memory(write: Write) -> None:
    remembered = storage() + b"q\x010"
    views = b"".join(
        literal(str(index))
        + call(
            "torch._utils",
            "_rebuild_tensor_v2",
            b"h\x01",
            literal(0),
            literal((1 << 20,)),
            literal((0,)),
        )
        for index in range(200)
    )
    limits = ReadLimits(max_tensor_bytes_total=64 << 20)
    with pytest.raises(UnsafeCheckpointError, match="bytes of tensors"):
        read_checkpoint(write(legacy_file(remembered + b"}(" + views + b"u")), limits=limits)


def test_a_storage_with_two_sizes_is_refused(write: Write) -> None:
    body = mapping({"a": tensor(), "b": tensor(storage(numel=5))})
    with pytest.raises(CheckpointFormatError, match=r"4 x float32 in one place and 5 x float32"):
        read_checkpoint(write(legacy_file(body)))


def test_views_of_old_storages_are_cut_out(write: Write) -> None:
    body = mapping({"w": tensor(storage(view=("1", 1, 2)), size=(2,)), "all": tensor()})
    found = read_checkpoint(write(legacy_file(body)))
    assert found.tensors["w"].array.tolist() == [1.0, 2.0]
    assert found.tensors["w"].shares_storage
    outside = mapping({"w": tensor(storage(view=("1", 3, 2)), size=(2,))})
    with pytest.raises(CheckpointFormatError, match="outside its storage"):
        read_checkpoint(write(legacy_file(outside)))


LEGACY_DAMAGE = {
    "not listed": (legacy_file(mapping({"w": tensor()}), {}), "not in the file"),
    "not used": (legacy_file(mapping({"w": tensor()}), ONE_STORAGE | {"1": b""}), "no tensor uses"),
    "too short": (legacy_file(good_state_dict())[:-1], "truncated: 15 of 16 bytes"),
    "no size": (legacy_file(good_state_dict())[:-20], "truncated"),
    "other size": (legacy_file(mapping({"w": tensor()}), {"0": b"12345678"}), "the tensors say 4"),
    "big endian": (legacy_file(good_state_dict(), little_endian=False), "big-endian"),
}


@pytest.mark.parametrize("case", LEGACY_DAMAGE)
def test_a_legacy_stream_with_wrong_storages_is_refused(case: str, write: Write) -> None:
    content, words = LEGACY_DAMAGE[case]
    with pytest.raises((CheckpointFormatError, UnsupportedCheckpointError), match=words):
        read_checkpoint(write(content))


def test_every_truncation_of_a_legacy_stream_is_a_typed_error(write: Write) -> None:
    content = legacy_file(good_state_dict())
    for length in range(len(content)):
        with pytest.raises((CheckpointFormatError, UnsupportedCheckpointError)):
            read_checkpoint(write(content[:length]))


def test_bytes_behind_the_stream_are_noted(write: Write) -> None:
    found = read_checkpoint(write(legacy_file(good_state_dict()) + b"abc"))
    assert found.notes == ("3 bytes after the last storage were ignored",)


def test_a_checkpoint_without_tensors_is_refused(write: Write) -> None:
    with pytest.raises(CheckpointFormatError, match=r"without tensors \(1 other value\)"):
        read_checkpoint(write(legacy_file(mapping({"epoch": literal(1)}), {})))
