"""Every layout beyond MobileFaceNet: the trainer's own names and shapes, and a torch forward."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from edgeface.errors import ArchitectureError
from edgeface.types import Size
from edgeface_export.architectures import LAYOUTS
from edgeface_export.architectures.mobilefacenet import MobileFaceNetLayout
from edgeface_export.architectures.recognition import Recognition, recognise
from edgeface_export.graph.emit import emit
from edgeface_export.graph.reference import reference_embeddings
from edgeface_export.graph.session import EmbeddingSession
from tests.builders_export import random_crops

torch = pytest.importorskip("torch")
families = pytest.importorskip("tests.reference.families")
ghostnets = pytest.importorskip("tests.reference.ghostnets")
mobilenets = pytest.importorskip("tests.reference.mobilenets")

State = dict[str, np.ndarray]
DEPTHS = (18, 34, 50, 100, 152, 200)


@dataclass(frozen=True)
class Family:
    """How the reference of a layout is made and settled, and the height and width of its crops."""

    make: Callable[[], Any]
    side: tuple[int, int] = (112, 112)
    preprocessing: str = "RGB, (x - 127.5) / 127.5"
    calm: float = 0.0


def _residual(depth: int) -> dict[str, Family]:
    bgr = "BGR, (x - 127.5) / 127.5"
    return {
        f"iresnet{depth}-arcface-torch": Family(lambda: families.ArcFaceTorch(depth)),
        f"iresnet{depth}-magface": Family(
            lambda: families.MagFace(depth), preprocessing="BGR, (x - 0) / 255"
        ),
        f"ir{depth}-adaface": Family(
            lambda: families.Ir(depth, middle=True, plain_end=True), preprocessing=bgr
        ),
        f"ir{depth}-face-evolve": Family(lambda: families.Ir(depth)),
        f"irse{depth}-face-evolve": Family(lambda: families.Ir(depth, se=True)),
        f"ir{depth}-curricularface": Family(lambda: families.Ir(depth, plain_end=True)),
        f"irse{depth}-curricularface": Family(lambda: families.Ir(depth, se=True, plain_end=True)),
    }


FAMILIES: dict[str, Family] = {
    **{name: family for depth in DEPTHS for name, family in _residual(depth).items()},
    "sphereface20-clcarwin": Family(
        lambda: families.SphereFaceClcarwin(), (112, 96), "BGR, (x - 127.5) / 128"
    ),
    "sphereface20-cosface-pytorch": Family(
        lambda: families.CosFacePytorch((1, 2, 4, 1)), (112, 96)
    ),
    "sphereface64-cosface-pytorch": Family(
        lambda: families.CosFacePytorch((3, 7, 16, 3)), (112, 96)
    ),
    "inception-resnet-v1-facenet-pytorch": Family(
        lambda: families.FacenetPytorch(), (160, 160), "RGB, (x - 127.5) / 128"
    ),
    "mobilenet-v1-bubbliiiing": Family(
        lambda: families.FacenetBubbliiiing(), (160, 160), "RGB, (x - 0) / 255", calm=1.0
    ),
    "edgeface-xxs": Family(lambda: families.EdgeFace((2, 2, 6, 2), low_rank=False)),
    "edgeface-xxs-low-rank": Family(lambda: families.EdgeFace((2, 2, 6, 2), low_rank=True)),
    "edgeface-xs-s": Family(lambda: families.EdgeFace((3, 3, 9, 3), low_rank=False)),
    "edgeface-xs-s-low-rank": Family(lambda: families.EdgeFace((3, 3, 9, 3), low_rank=True)),
    "ghostfacenet-v1-ellzaf": Family(
        ghostnets.GhostFaceNetV1, preprocessing="RGB, (x - 127.5) / 128"
    ),
    "ghostnet-cavaface": Family(ghostnets.CavafaceGhostNet),
    "ghostnet-face-evolve": Family(ghostnets.EvolveGhostNet),
    "ghostnet-facex-zoo": Family(
        ghostnets.FaceXZooGhostNet, preprocessing="BGR, (x - 127.5) / 128"
    ),
    **{name: Family(make) for name, make in mobilenets.MOBILENETS.items()},
}
# The same modules as those of a family that is compared each time, in other numbers.
ALIKE = {name for depth in DEPTHS for name in _residual(depth)} - {
    "iresnet18-arcface-torch",
    "ir18-adaface",
    "irse18-curricularface",
}
ALIKE |= {"sphereface64-cosface-pytorch", "edgeface-xxs-low-rank", "edgeface-xs-s"}
ALIKE |= {"ghostnet-face-evolve"}
QUICK = [name for name in FAMILIES if name not in ALIKE]
# Deeper ones differ in the number of blocks alone.
DEEP = [name for name in FAMILIES if any(f"{depth}-" in name for depth in (100, 152, 200))]
OTHERS = sorted(set(FAMILIES) - set(QUICK) - {name for name in DEEP if "100" not in name})


def slow(names: Collection[str]) -> list[Any]:
    return [pytest.param(name, marks=pytest.mark.slow) for name in names]


def state_of(module: Any) -> State:
    return {name: value.numpy() for name, value in module.state_dict().items()}


def expected(module: Any, found: Recognition, crops: np.ndarray) -> np.ndarray:
    spec = found.network.preprocessing
    pixels = crops if spec.colour_order == "RGB" else crops[..., ::-1]
    mean, scale = np.array(spec.mean, np.float32), np.array(spec.scale, np.float32)
    values = (pixels.astype(np.float32) - mean) / scale
    with torch.no_grad():
        features = module(torch.from_numpy(values.transpose(0, 3, 1, 2).copy()))
    rows: np.ndarray = torch.nn.functional.normalize(features).numpy()
    return rows


def test_every_layout_of_the_table_is_tested() -> None:
    elsewhere = {"minifasnet-se-silent-face", "minifasnet-silent-face", "residual-edgeface"}
    others = {layout.name for layout in LAYOUTS if not isinstance(layout, MobileFaceNetLayout)}
    assert others - elsewhere == set(FAMILIES)
    assert len({layout.name for layout in LAYOUTS}) == len(LAYOUTS)


@pytest.mark.parametrize("name", [*sorted(set(FAMILIES) - set(DEEP)), *slow(DEEP)])
def test_a_checkpoint_is_recognised_by_its_names(name: str) -> None:
    family = FAMILIES[name]
    state = {f"module.{key}": array for key, array in state_of(family.make()).items()}
    found = recognise(state)
    assert found.layout.name == name
    assert (found.network.crop_size.height_px, found.network.crop_size.width_px) == family.side
    assert str(found.network.preprocessing) == family.preprocessing
    assert found.network.embedding_size == 16
    left = {entry.kind for entry in found.dropped}
    assert left <= {"batch counters", "classification head", "other tensors"}


@pytest.mark.parametrize("name", [*QUICK, *slow(OTHERS)])
def test_the_graph_gives_the_trainers_embeddings(name: str) -> None:
    family = FAMILIES[name]
    torch.manual_seed(3)
    module = families.settled(family.make(), family.side, calm=family.calm)
    found = recognise(state_of(module))
    crops = random_crops(3, found.network.crop_size)
    rows = expected(module, found, crops)
    ours = EmbeddingSession(emit(found.network, name="family")).embed(crops)
    assert np.abs(ours - rows).max() <= 1e-5
    assert np.abs(reference_embeddings(found.network, crops[:1]) - rows[:1]).max() <= 1e-5
    assert np.abs(rows[0] - rows[1]).max() > 1e-3


def test_deeper_layers_that_a_shallower_layout_would_leave_out_are_no_match() -> None:
    state = state_of(families.ArcFaceTorch(34))
    more = {name.replace("layer3.5.", "layer3.6."): array for name, array in state.items()}
    with pytest.raises(ArchitectureError, match=r"another network") as caught:
        recognise(state | more)
    assert "layer3.6." in str(caught.value)


def test_what_is_nearest_and_what_differs_is_said_in_eight_lines() -> None:
    state = state_of(families.ArcFaceTorch(18))
    for name in list(state):
        if name.startswith("layer4.1."):
            state[name.replace("layer4.1.", "layer4.extra.")] = state.pop(name)
    with pytest.raises(ArchitectureError) as caught:
        recognise(state)
    lines = str(caught.value).splitlines()
    assert len(lines) <= 8
    assert "nearest: iresnet18-arcface-torch" in lines[0]
    assert any("missing" in line and "layer4.1." in line for line in lines[1:])
    assert any("layer4.extra.bn1.weight (24,)" in line for line in lines[1:])


def test_a_file_that_is_near_nothing_shows_its_own_keys() -> None:
    state = {f"net.{k}.weight": np.zeros((8, 3, 3, 3), np.float32) for k in range(9)}
    with pytest.raises(ArchitectureError) as caught:
        recognise(state)
    lines = str(caught.value).splitlines()
    assert len(lines) <= 8
    assert "no known layout is near" in str(caught.value)
    assert "  net.0.weight (8, 3, 3, 3)" in lines
    assert "  net.8.weight (8, 3, 3, 3)" in lines
    assert "--arch" in lines[-1]


def test_a_matrix_of_no_known_crop_is_refused() -> None:
    state = state_of(families.ArcFaceTorch(18))
    state["fc.weight"] = state["fc.weight"][:, :-1]
    with pytest.raises(ArchitectureError, match="no map of crops"):
        recognise(state)


def test_dynamically_quantised_matrices_are_taken_for_whole_ones() -> None:
    module = families.EdgeFace((2, 2, 6, 2), low_rank=False).eval()
    state = state_of(module)
    packed: State = {}
    for name, array in state.items():
        at, _, end = name.rpartition(".")
        if array.ndim == 2 or (f"{at}.weight" in state and state[f"{at}.weight"].ndim == 2):
            end = {"weight": "0", "bias": "1"}[end]
            packed[f"{at}._packed_params._packed_params.{end}"] = array
            packed[f"{at}.scale"] = packed[f"{at}.zero_point"] = np.ones((), np.float32)
        else:
            packed[name] = array
    found = recognise(packed)
    assert found.layout.name == "edgeface-xxs"
    assert [entry.kind for entry in found.dropped] == ["scales of quantised layers"]
    crops = random_crops(2, found.network.crop_size)
    ours = EmbeddingSession(emit(found.network, name="packed")).embed(crops)
    assert np.abs(ours - expected(module, found, crops)).max() <= 1e-5


def test_the_second_layer_of_mbf_may_have_two_channels_in_a_group() -> None:
    from tests.builders_export import MOBILEFACENETS, Widths, random_state
    from tests.reference.mobilefacenets import REFERENCES

    name = "mobilefacenet-arcface-torch"
    state = random_state(MOBILEFACENETS[name], widths=Widths())
    state["layers.1.layers.0.weight"] = np.repeat(state["layers.1.layers.0.weight"], 2, axis=1)
    found = recognise(state)
    module = REFERENCES[name]({key: torch.from_numpy(array) for key, array in state.items()})
    module.load_state_dict({key: torch.from_numpy(a) for key, a in state.items()}, strict=False)
    crops = random_crops(2, found.network.crop_size)
    ours = EmbeddingSession(emit(found.network, name="mbf")).embed(crops)
    assert np.abs(ours - expected(module.eval(), found, crops)).max() <= 1e-5


def test_crops_of_160_are_those_of_112_scaled_up() -> None:
    from edgeface.alignment import ALIGNMENT_TEMPLATES, alignment_template

    assert ALIGNMENT_TEMPLATES["arcface-160x160"] == Size(160, 160)
    scaled = alignment_template("arcface-112x112") * (160 / 112)
    np.testing.assert_allclose(alignment_template("arcface-160x160"), scaled)
