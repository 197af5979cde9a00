"""Networks that only code describes: a user's module, TorchScript, a program of torch.export."""

from __future__ import annotations

import sys
import textwrap
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeface.errors import ArchitectureError, InvalidInputError, UnsafeCheckpointError
from edgeface.types import Size
from edgeface_export.checkpoints import CheckpointFormat
from edgeface_export.graph.emit import emit
from edgeface_export.graph.session import EmbeddingSession
from edgeface_export.intake.opening import Intake, open_model
from tests.builders_export import random_crops

torch = pytest.importorskip("torch")

CODE = """
    import torch
    from torch import nn


    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 16, 3, 8, 1)
            self.bn = nn.BatchNorm2d(16)
            self.act = nn.PReLU(16)
            self.fc = nn.Linear(16, 8)

        def forward(self, x):
            x = self.act(self.bn(self.conv(x)))
            return nn.functional.normalize(self.fc(x.mean((2, 3))))


    def make():
        return Net()


    def broken():
        raise OSError("no such file")


    number = 3
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    name = "a_users_own_network"
    (tmp_path / f"{name}.py").write_text(textwrap.dedent(CODE))
    monkeypatch.syspath_prepend(tmp_path)
    yield name
    sys.modules.pop(name, None)


@pytest.fixture
def module(package: str) -> Any:
    import importlib

    torch.manual_seed(1)
    net = importlib.import_module(package).make()
    net.train()
    net(torch.randn(4, 3, 112, 112))
    return net.eval()


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        # torch's exporters warn of their own future.
        warnings.simplefilter("ignore")
        yield


def check(module: Any, path: Path, intake: Intake) -> CheckpointFormat:
    opened = open_model(path, intake)
    network = opened.recognition.network
    assert opened.recognition.assumed
    crops = random_crops(2, network.crop_size)
    pixels = (crops.astype(np.float32) - 127.5) / 127.5
    with torch.no_grad():
        rows = module(torch.from_numpy(pixels.transpose(0, 3, 1, 2).copy())).numpy()
    ours = EmbeddingSession(emit(network, name="own")).embed(crops)
    assert np.abs(ours - rows).max() <= 1e-5
    return opened.checkpoint.format


def test_a_users_batchnorms_stay_for_data_free_ranges(
    module: Any, package: str, tmp_path: Path
) -> None:
    torch.save(module.state_dict(), tmp_path / "net.pth")
    torch.jit.script(module).save(str(tmp_path / "script.pt"))
    found = [
        open_model(tmp_path / "net.pth", Intake(arch=f"{package}:make")),
        open_model(tmp_path / "script.pt", Intake(trust_code=True)),
    ]
    for opened in found:
        layers = opened.recognition.network.layers
        assert [type(layer).__name__ for layer in layers[:3]] == ["Conv", "BatchNorm", "PRelu"]


@pytest.mark.parametrize("prefix", ["", "state_dict.module."])
def test_a_users_module_is_filled_with_the_checkpoint(
    module: Any, package: str, tmp_path: Path, prefix: str
) -> None:
    path = tmp_path / "weights.pt"
    state = module.state_dict()
    torch.save({f"{prefix}{key}": value for key, value in state.items()}, path)
    check(module, path, Intake(arch=f"{package}:make", size=Size(112, 112)))


def test_what_does_not_fit_the_module_is_listed(module: Any, package: str, tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    state = dict(module.state_dict())
    del state["bn.weight"]
    state["fc.weight"] = torch.zeros(8, 17)
    torch.save(state, path)
    with pytest.raises(ArchitectureError) as caught:
        open_model(path, Intake(arch=f"{package}:make"))
    said = str(caught.value)
    assert "missing: bn.weight" in said
    assert "fc.weight: (8, 17) in the file, (8, 16) in the module" in said


@pytest.mark.parametrize(
    ("arch", "said"),
    [
        ("{}", "wanted package.module:factory"),
        ("{}:make()", "wanted package.module:factory"),
        ("../x:make", "wanted package.module:factory"),
        ("no_such_package_at_all:make", "cannot be imported"),
        ("{}:nothing", "has no function nothing"),
        ("{}:number", "has no function number"),
        ("{}:broken", "raised OSError: no such file"),
        ("{}:Net.__name__", "wanted package.module:factory"),
    ],
)
def test_a_factory_that_cannot_be_called_is_refused(
    module: Any, package: str, tmp_path: Path, arch: str, said: str
) -> None:
    path = tmp_path / "weights.pt"
    torch.save(module.state_dict(), path)
    with pytest.raises(InvalidInputError, match=said):
        open_model(path, Intake(arch=arch.format(package)))


def test_torchscript_runs_only_when_its_code_is_trusted(module: Any, tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    torch.jit.trace(module, torch.zeros(1, 3, 112, 112)).save(str(path))
    with pytest.raises(ArchitectureError, match="--trust-code"):
        open_model(path)
    assert check(module, path, Intake(trust_code=True)) is CheckpointFormat.TORCHSCRIPT


def test_a_program_is_read_only_when_its_code_is_trusted(module: Any, tmp_path: Path) -> None:
    path = tmp_path / "net.pt2"
    torch.export.save(torch.export.export(module, (torch.zeros(1, 3, 112, 96),)), path)
    with pytest.raises(UnsafeCheckpointError, match="--trust-code"):
        open_model(path)
    assert check(module, path, Intake(trust_code=True)) is CheckpointFormat.EXPORTED_PROGRAM
