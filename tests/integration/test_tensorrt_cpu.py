"""NVIDIA's own parser and builder on what edgeface exports, on a machine without a GPU.

Shows that the graphs are read as meant and become engines. It shows nothing about what an engine
computes or how fast it is: that needs a GPU.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("onnx")

from edgeface.backends.trt_engine import ARTEFACT_PRECISIONS
from edgeface_export.architectures.recognition import recognise
from edgeface_export.checkpoints import read_checkpoint
from tests.builders_export import LAYOUT_NAMES, settled_network
from tests.conftest import test_data_folder as data_folder
from tests.tensorrt_cpu import graphs
from tests.tensorrt_cpu.provision import (
    BINDINGS_10,
    BINDINGS_11,
    RTX,
    Bindings,
    compiled,
    installed,
    require_linux,
    run_child,
)

pytestmark = pytest.mark.integration

CHECKPOINTS = (
    "arcface-mobilefacenet-112x96-xiaoccer.ckpt",
    "arcface-mobilefacenet-relu-112-foamliu.pt",
    "arcface-mobilefacenet-112-bubbliiiing.pth",
    "arcface-mobilefacenet-small-112x96-lh.ckpt",
)


@pytest.fixture(scope="session")
def builder(tmp_path_factory: pytest.TempPathFactory) -> Bindings:
    require_linux()
    packages, rtx = installed(BINDINGS_11), installed(RTX)
    return Bindings(packages, compiled(tmp_path_factory.mktemp("trt") / "rtx", 11, rtx))


@pytest.fixture(scope="session", params=[(BINDINGS_10, 10), (BINDINGS_11, 11)], ids=["10", "11"])
def names_only(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Bindings:
    require_linux()
    requirement, major = request.param
    return Bindings(
        installed(requirement), compiled(tmp_path_factory.mktemp("trt") / "stub", major, None)
    )


def shown(builder: Bindings, folder: Path, models: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What parser and builder say of each model, by name."""
    files = [folder / f"{name}.onnx" for name in models]
    for file, model in zip(files, models.values(), strict=True):
        file.write_bytes(model.SerializeToString())
    lines = run_child(builder, "build", [str(file) for file in files]).splitlines()
    return {name: json.loads(line) for name, line in zip(models, lines, strict=True)}


def assert_engines(said: dict[str, dict[str, Any]], models: dict[str, Any]) -> None:
    assert len(said) == sum(map(len, ARTEFACT_PRECISIONS.values()))
    for name, result in said.items():
        assert "refused" not in result, result
        assert result["plan_bytes"] > 10_000
        kinds = [node.op_type for node in models[name].graph.node]
        layers = result["layers"]
        assert layers["convolution"] == kinds.count("Conv")
        assert layers.get("quantize", 0) == kinds.count("QuantizeLinear")
        assert layers.get("dequantize", 0) == kinds.count("DequantizeLinear")
        assert layers.get("parametric_relu", 0) == kinds.count("PRelu")


def test_every_precision_of_an_export_becomes_an_engine(builder: Bindings, tmp_path: Path) -> None:
    models = graphs.graphs_of(settled_network(LAYOUT_NAMES[-1]), "net")
    assert_engines(shown(builder, tmp_path, models), models)


def test_graphs_that_break_the_placement_rules_are_refused(
    builder: Bindings, tmp_path: Path
) -> None:
    right = graphs.graphs_of(settled_network(LAYOUT_NAMES[-1]), "net")
    int8 = right["net.int8"]
    models = {
        "integer-bias": graphs.with_integer_bias(int8),
        "zero-point": graphs.with_zero_point(int8),
        "unsigned": graphs.with_unsigned_activation(int8),
        "unknown-node": graphs.with_unknown_node(right["net.fp32"]),
    }
    said = shown(builder, tmp_path, models)
    for name, result in said.items():
        assert result.get("refused"), (name, result)
        assert "\n" not in result["refused"]


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUT_NAMES)
def test_every_layout_becomes_engines(builder: Bindings, tmp_path: Path, layout: str) -> None:
    models = graphs.graphs_of(settled_network(layout), layout)
    assert_engines(shown(builder, tmp_path, models), models)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["mobilenet", "ghostnet"])
def test_hard_activations_and_joined_channels_become_engines(
    builder: Bindings, tmp_path: Path, kind: str
) -> None:
    families = pytest.importorskip("tests.reference.families")
    ghostnets = pytest.importorskip("tests.reference.ghostnets")
    mobilenets = pytest.importorskip("tests.reference.mobilenets")
    module = (
        mobilenets.YakhyoV3(mobilenets.V3_SMALL, width=0.5)
        if kind == "mobilenet"
        else ghostnets.GhostFaceNetV1()
    )
    module = families.settled(module, (112, 112), calm=1.5)
    network = recognise({name: t.numpy() for name, t in module.state_dict().items()}).network
    models = graphs.graphs_of(network, kind)
    assert_engines(shown(builder, tmp_path, models), models)


@pytest.mark.slow
@pytest.mark.parametrize("name", CHECKPOINTS)
def test_every_real_checkpoint_becomes_engines(
    builder: Bindings, tmp_path: Path, name: str
) -> None:
    folder = data_folder()
    if folder is None:
        pytest.skip("no test data: set EDGEFACE_TEST_DATA")
    checkpoint = read_checkpoint(folder / "models" / "checkpoints" / name)
    network = recognise({key: t.array for key, t in checkpoint.tensors.items()}).network
    models = graphs.graphs_of(network, "net")
    assert_engines(shown(builder, tmp_path, models), models)


def test_the_checked_in_names_are_those_of_the_bindings(
    names_only: Bindings, repository: Path
) -> None:
    path = repository / "tests" / "contracts" / "data" / "tensorrt_names.json"
    recorded = json.loads(path.read_text(encoding="utf-8"))["tensorrt"]
    classes = [name for name in recorded["common"] if name]
    found = json.loads(run_child(names_only, "names", classes))
    for name in ("", *classes):
        ours = set(recorded["common"][name]) | set(recorded["only"][found["version"]][name])
        assert ours == set(found["names"][name]), name
