"""Exports of networks for presentation attack detection with random weights."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from edgeface.errors import ArchitectureError, GateFailedError, InvalidInputError
from edgeface.types import FloatArray

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
safetensors = pytest.importorskip("safetensors.numpy")

from edgeface.pad import PadBundle, PadModel  # noqa: E402
from edgeface_export import (  # noqa: E402
    ExportOptions,
    PadExportOptions,
    PadExportResult,
    export_checkpoint,
    export_model,
    inspect_checkpoint,
    pad_export,
)
from edgeface_export.architectures import LAYOUTS  # noqa: E402
from edgeface_export.architectures.minifasnet import MiniFasNetLayout  # noqa: E402
from edgeface_export.architectures.network import Output  # noqa: E402
from edgeface_export.architectures.recognition import recognise  # noqa: E402
from edgeface_export.checkpoints import read_checkpoint  # noqa: E402
from edgeface_export.graph.emit import SCORES_NAME, emit  # noqa: E402
from edgeface_export.graph.reference import reference_embeddings  # noqa: E402
from edgeface_export.pad_export import box_scale_of, export_pad  # noqa: E402
from edgeface_export.probes import synthetic_crops  # noqa: E402

State = dict[str, FloatArray]
PAD_LAYOUTS = [layout for layout in LAYOUTS if isinstance(layout, MiniFasNetLayout)]
NAMES = [layout.name for layout in PAD_LAYOUTS]
NAME = "2.7_80x80_MiniFASNetV2.safetensors"


def pad_state(layout: MiniFasNetLayout, *, classes: int = 3, seed: int = 0) -> State:
    """Random tensors of narrow widths for every key of ``layout``."""
    rng = np.random.default_rng(seed)
    trunk, wide, hidden = layout.trunk, 8, 12
    state: State = {}

    def unit(key: object, shape: tuple[int, ...]) -> None:
        conv, norm, activation = (getattr(key, part) for part in ("conv", "norm", "activation"))
        fan_in = int(np.prod(shape[1:]))
        state[f"{conv}.weight"] = rng.normal(0, fan_in**-0.5, shape).astype(np.float32)
        for part, low, high in (
            ("weight", 0.7, 1.3),
            ("bias", -0.2, 0.2),
            ("running_mean", -0.2, 0.2),
            ("running_var", 0.6, 1.5),
        ):
            state[f"{norm}.{part}"] = rng.uniform(low, high, shape[0]).astype(np.float32)
        if activation:
            state[f"{activation}.weight"] = rng.uniform(-0.3, 0.5, shape[0]).astype(np.float32)

    unit(trunk.stem, (wide, 3, 3, 3))
    unit(trunk.stem_depthwise, (wide, 1, 3, 3))
    for block in trunk.blocks:
        unit(trunk.expand.under(block.prefix), (hidden, wide, 1, 1))
        unit(trunk.depthwise.under(block.prefix), (hidden, 1, 3, 3))
        unit(trunk.project.under(block.prefix), (wide, hidden, 1, 1))
        if block.excited:
            assert trunk.squeeze
            assert trunk.excite
            unit(trunk.squeeze.under(block.prefix), (2, wide, 1, 1))
            unit(trunk.excite.under(block.prefix), (wide, 2, 1, 1))
    unit(trunk.last, (16, wide, 1, 1))
    unit(trunk.global_depthwise, (16, 1, 5, 5))
    unit(trunk.embedding, (10, 16))
    state[f"{layout.classifier}.weight"] = rng.normal(0, 1, (classes, 10)).astype(np.float32)
    return state


def saved(folder: Path, state: State, name: str = NAME) -> Path:
    path = folder / name
    safetensors.save_file({f"module.{key}": array for key, array in state.items()}, path)
    return path


def test_there_are_both_layouts_and_they_come_before_the_one_they_hold() -> None:
    assert NAMES == ["minifasnet-se-silent-face", "minifasnet-silent-face"]
    order = [layout.name for layout in LAYOUTS]
    assert order.index(NAMES[1]) < order.index("mobilefacenet-insightface-pytorch")


@pytest.mark.parametrize("layout", PAD_LAYOUTS, ids=NAMES)
def test_a_network_is_recognised_by_its_names_and_shapes(layout: MiniFasNetLayout) -> None:
    state = pad_state(layout)
    found = recognise({f"module.{key}": array for key, array in state.items()})
    network = found.network
    assert (found.layout.name, found.prefix) == (layout.name, "module.")
    assert (network.crop_size.width_px, network.crop_size.height_px) == (80, 80)
    assert (network.output, network.embedding_size) == (Output.CLASS_SCORES, 3)
    assert network.preprocessing.colour_order == "BGR"


@pytest.mark.parametrize("layout", PAD_LAYOUTS, ids=NAMES)
def test_the_graph_computes_what_the_reference_forward_does(layout: MiniFasNetLayout) -> None:
    network = recognise(dict(pad_state(layout))).network
    model = emit(network, name="pad")
    assert [entry.name for entry in model.graph.output] == [SCORES_NAME]
    crops = synthetic_crops(2, network.crop_size)
    import onnxruntime

    session = onnxruntime.InferenceSession(model.SerializeToString())
    rows = session.run(None, {"crops": crops})[0]
    expected = reference_embeddings(network, crops)
    assert expected.sum(1) == pytest.approx([1, 1])
    assert np.abs(rows - expected).max() < 1e-5
    # Colour order is in the graph: a swapped picture is another picture.
    swapped = session.run(None, {"crops": np.ascontiguousarray(crops[..., ::-1])})[0]
    assert np.abs(rows - swapped).max() > 1e-4


def test_an_excited_block_is_not_the_same_network_without_its_module() -> None:
    state = pad_state(PAD_LAYOUTS[0])
    plain = {key: array for key, array in state.items() if "se_module" not in key}
    networks = [recognise(each).network for each in (state, plain)]
    crops = synthetic_crops(1, networks[0].crop_size)
    excited, bare = (reference_embeddings(network, crops) for network in networks)
    assert np.abs(excited - bare).max() > 1e-4


@pytest.mark.parametrize("classes", [2, 4, 10_572])
def test_other_classes_than_the_trainers_are_refused(classes: int) -> None:
    with pytest.raises(ArchitectureError, match="3 rows"):
        recognise(dict(pad_state(PAD_LAYOUTS[1], classes=classes)))


def test_a_checkpoint_becomes_a_bundle_with_its_contract(tmp_path: Path) -> None:
    path = saved(tmp_path, pad_state(PAD_LAYOUTS[0]))
    result = export_model(path, tmp_path / "pad.edgeface")
    assert isinstance(result, PadExportResult)
    bundle = PadBundle.open(tmp_path / "pad.edgeface")
    manifest = bundle.manifest
    assert (manifest.task, manifest.box_scale) == ("presentation-attack-detection", 2.7)
    assert manifest.classes[manifest.bona_fide_class] == "bona-fide"
    assert manifest.source.architecture == "MiniFASNet-SE"
    assert manifest.verdict.figures["parity_max_difference"] <= 1e-5
    assert json.loads((bundle.path / "report.json").read_text())["gates"]
    rows = PadModel(bundle, threads=1).run(synthetic_crops(3, manifest.crop_size))
    assert rows.shape == (3, 3)


def test_the_identity_depends_on_the_scale_and_not_on_the_name(tmp_path: Path) -> None:
    state = pad_state(PAD_LAYOUTS[1])
    paths = [saved(tmp_path, state, f"{name}.safetensors") for name in
             ("2.7_80x80_A", "2.7_80x80_B", "4_0_0_80x80_A")]  # fmt: skip
    identities = []
    for path in paths:
        result = export_model(path, tmp_path / f"{path.stem}.edgeface")
        assert isinstance(result, PadExportResult)
        identities.append(result.bundle.manifest.model_id)
    assert identities[0] == identities[1] != identities[2]


@pytest.mark.parametrize(
    ("name", "scale"),
    [
        ("2.7_80x80_MiniFASNetV2.pth", 2.7),
        ("4_0_0_80x80_MiniFASNetV1SE.pth", 4.0),
        ("1_80x80_MiniFASNetV2.pt", 1.0),
    ],
)
def test_the_trainers_name_says_the_scale(name: str, scale: float) -> None:
    assert box_scale_of(name) == scale


@pytest.mark.parametrize("name", ["renamed.pth", "org_1_80x80_MiniFASNetV2.pth", "2.7.pth", ""])
def test_a_name_that_does_not_say_the_scale_is_refused(name: str) -> None:
    with pytest.raises(InvalidInputError, match="box_scale"):
        box_scale_of(name)


def test_the_scale_can_be_given_where_the_name_does_not_say_it(tmp_path: Path) -> None:
    path = saved(tmp_path, pad_state(PAD_LAYOUTS[1]), "renamed.safetensors")
    with pytest.raises(InvalidInputError, match="box_scale"):
        export_model(path, tmp_path / "out.edgeface")
    checkpoint = read_checkpoint(path)
    found = recognise({name: tensor.array for name, tensor in checkpoint.tensors.items()})
    options = PadExportOptions(box_scale=3.0, name="mine")
    result = export_pad(checkpoint, found, tmp_path / "out.edgeface", options=options)
    assert (result.bundle.manifest.box_scale, result.bundle.manifest.name) == (3.0, "mine")


def test_a_graph_that_computes_something_else_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = reference_embeddings
    monkeypatch.setattr(pad_export, "reference_embeddings", lambda n, c: real(n, c) + 1e-3)
    path = saved(tmp_path, pad_state(PAD_LAYOUTS[1]))
    with pytest.raises(GateFailedError, match="parity"):
        export_model(path, tmp_path / "out.edgeface")
    monkeypatch.setattr(pad_export, "reference_embeddings", lambda n, c: real(n, c) * np.nan)
    with pytest.raises(GateFailedError, match="parity"):
        export_model(path, tmp_path / "out.edgeface")
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_a_bundle_there_is_replaced_only_when_asked(tmp_path: Path) -> None:
    path, target = saved(tmp_path, pad_state(PAD_LAYOUTS[1])), tmp_path / "out.edgeface"
    export_model(path, target)
    with pytest.raises(InvalidInputError, match="exists already"):
        export_model(path, target)
    export_model(path, target, options=ExportOptions(overwrite=True))


def test_int8_and_activation_sets_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, pad_state(PAD_LAYOUTS[1]))
    with pytest.raises(InvalidInputError, match="float only"):
        export_model(path, tmp_path / "out.edgeface", options=ExportOptions(int8=True))


def test_the_exporter_of_recognisers_refuses_it(tmp_path: Path) -> None:
    path = saved(tmp_path, pad_state(PAD_LAYOUTS[1]))
    with pytest.raises(ArchitectureError, match="class-scores"):
        export_checkpoint(path, tmp_path / "out.edgeface")
    assert not (tmp_path / "out.edgeface").exists()


def test_inspect_says_what_it_is(tmp_path: Path) -> None:
    found = inspect_checkpoint(saved(tmp_path, pad_state(PAD_LAYOUTS[0])))
    assert found.exportable
    assert (found.architecture, found.output) == ("MiniFASNet-SE", "class-scores")
