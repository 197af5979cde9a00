"""Which network a set of named tensors is; random checkpoints of every layout against PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from edgeface.errors import ArchitectureError
from edgeface.types import FloatArray, Size
from edgeface_export.architectures import LAYOUTS
from edgeface_export.architectures.mobilefacenet import MobileFaceNetLayout
from edgeface_export.architectures.network import Add, Conv, Linear, PRelu, Relu
from edgeface_export.architectures.recognition import Recognition, describe_unknown, recognise
from edgeface_export.graph.reference import reference_embeddings
from tests.builders_export import (
    LAYOUT_NAMES,
    MOBILEFACENETS,
    STANDARD,
    State,
    Widths,
    random_crops,
    random_state,
    settled_state,
)

XIAOCCER = "mobilefacenet-xiaoccer"


def prefixed(prefix: str, state: State) -> State:
    return {prefix + name: array for name, array in state.items()}


def dropped(found: Recognition) -> dict[str, tuple[str, ...]]:
    return {entry.kind: entry.names for entry in found.dropped}


def test_every_layout_of_the_table_is_tested_here() -> None:
    # The others are tested in test_layout_families.py.
    others = {layout.name for layout in LAYOUTS if not isinstance(layout, MobileFaceNetLayout)}
    assert sorted({layout.name for layout in LAYOUTS} - others) == LAYOUT_NAMES


@pytest.mark.parametrize("name", LAYOUT_NAMES)
@pytest.mark.parametrize(
    ("kernel", "template", "crop"),
    [((7, 7), "arcface-112x112", Size(112, 112)), ((7, 6), "arcface-112x96", Size(96, 112))],
)
def test_every_layout_is_recognised_by_its_names_and_shapes(
    name: str, kernel: tuple[int, int], template: str, crop: Size
) -> None:
    state = random_state(MOBILEFACENETS[name], widths=Widths(kernel=kernel))
    found = recognise(state)
    assert found.layout.name == name
    assert (found.prefix, found.wrappers, found.dropped) == ("", (), ())
    network = found.network
    assert (network.alignment_template, network.crop_size) == (template, crop)
    assert network.embedding_size == 32
    assert network.preprocessing == MOBILEFACENETS[name].preprocessing
    said = "; ".join(found.reasons)
    assert f"all {len(state)} tensors of layout {name}" in said
    assert f"crops of {crop.height_px}x{crop.width_px} (height x width)" in said
    assert "32 outputs" in said


@pytest.mark.parametrize("name", LAYOUT_NAMES)
def test_every_layout_has_the_structure_of_the_paper(name: str) -> None:
    network = recognise(random_state(MOBILEFACENETS[name])).network
    kinds = [type(layer) for layer in network.layers]
    foamliu = name == "mobilefacenet-foamliu"
    large = name == "mobilefacenet-large-arcface-torch"
    flat = MOBILEFACENETS[name].flat
    assert kinds.count(Add) == (26 if large else 12)
    assert kinds.count(Conv) == (91 if large else 50) + foamliu - flat
    assert kinds.count(Linear) == flat
    assert kinds.count(PRelu) == (0 if foamliu else 60 if large else 33)
    assert kinds.count(Relu) == (34 if foamliu else 0)
    strides = [
        layer.name for layer in network.layers if isinstance(layer, Conv) and layer.stride > 1
    ]
    assert len(strides) == 4


def test_the_widths_of_the_paper_give_its_parameters_and_multiply_adds() -> None:
    network = recognise(random_state(MOBILEFACENETS[XIAOCCER], widths=STANDARD)).network
    # Chen et al. 2018, table 2: 0.99 million parameters; 221 million multiply-adds.
    assert network.parameters == pytest.approx(0.99e6, rel=0.02)
    assert sum(network.multiply_adds().values()) == pytest.approx(221e6, rel=0.03)


def test_the_published_widths_of_mbf_large_give_its_parameters() -> None:
    layout = MOBILEFACENETS["mobilefacenet-large-arcface-torch"]
    widths = Widths(256, (256, 512, 512), (128, 256, 256), (128, 256, 512), 512, 512)
    network = recognise(random_state(layout, widths=widths)).network
    # 6.30 million parameters; 1.85 thousand million operations, activations counted.
    assert network.parameters == pytest.approx(6.30e6, rel=0.01)
    assert sum(network.multiply_adds().values()) == pytest.approx(1.85e9, rel=0.02)


def test_a_skip_stands_only_where_stride_and_widths_allow_it() -> None:
    narrow = Widths(stem=16, stages=(16, 24, 24))
    names = {
        layer.name
        for layer in recognise(random_state(MOBILEFACENETS[XIAOCCER], widths=narrow)).network.layers
        if isinstance(layer, Add)
    }
    assert names == {f"blocks.{k}.conv.add" for k in range(15) if k not in (0, 5, 12)}


def torch_rows(found: Recognition, state: State, crops: Any) -> FloatArray:
    torch = pytest.importorskip("torch")
    from tests.reference.mobilefacenets import REFERENCES

    tensors = {name: torch.from_numpy(array) for name, array in state.items()}
    for name in state:
        if name.endswith("running_var"):
            counter = name.replace("running_var", "num_batches_tracked")
            tensors[counter] = torch.tensor(0)
    module = REFERENCES[found.layout.name](tensors)
    module.load_state_dict(tensors, strict=True)
    module.eval()
    # For tensors this small, handing out work costs more than the work.
    torch.set_num_threads(1)
    spec = found.network.preprocessing
    values = (torch.from_numpy(crops).float() - torch.tensor(spec.mean)) / torch.tensor(spec.scale)
    with torch.no_grad():
        features = module(values.permute(0, 3, 1, 2).contiguous())
    return np.asarray(torch.nn.functional.normalize(features).numpy())


@pytest.mark.parametrize("name", LAYOUT_NAMES)
def test_random_checkpoints_give_the_embeddings_of_torch(name: str) -> None:
    from edgeface_export.graph.emit import emit
    from edgeface_export.graph.session import EmbeddingSession

    kernels = [(7, 7)] + ([(7, 6)] if name == XIAOCCER else [])
    for kernel in kernels:
        state = settled_state(name, kernel=kernel)
        found = recognise(state)
        crops = random_crops(2, found.network.crop_size)
        expected = torch_rows(found, state, crops)
        np.testing.assert_allclose(reference_embeddings(found.network, crops), expected, atol=1e-5)
        rows = EmbeddingSession(emit(found.network, name="g")).embed(crops)
        np.testing.assert_allclose(rows, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("prefix", "wrappers"),
    [
        ("", ()),
        ("module.", ()),
        ("net_state_dict.", ("net_state_dict",)),
        ("state_dict.module.backbone.", ("state_dict", "backbone")),
        ("model.0.", ("model",)),
        ("_orig_mod.module.", ()),
    ],
)
@pytest.mark.parametrize("name", LAYOUT_NAMES)
def test_what_training_code_wraps_around_the_weights_is_stripped_and_told(
    name: str, prefix: str, wrappers: tuple[str, ...]
) -> None:
    found = recognise(prefixed(prefix, random_state(MOBILEFACENETS[name])))
    assert (found.layout.name, found.prefix, found.wrappers) == (name, prefix, wrappers)


def test_a_prefix_ends_at_a_dot() -> None:
    state = random_state(MOBILEFACENETS[XIAOCCER])
    with pytest.raises(ArchitectureError):
        recognise(prefixed("my", state))


def test_the_order_of_the_tensors_does_not_matter() -> None:
    state = random_state(MOBILEFACENETS[XIAOCCER])
    crops = random_crops(1, Size(112, 112))
    there, back = (recognise(tensors).network for tensors in (state, dict(reversed(state.items()))))
    assert [layer.name for layer in there.layers] == [layer.name for layer in back.layers]
    np.testing.assert_array_equal(
        reference_embeddings(there, crops), reference_embeddings(back, crops)
    )


def test_what_is_no_backbone_is_dropped_and_said_by_kind() -> None:
    state = random_state(MOBILEFACENETS[XIAOCCER])
    extra = {
        "state_dict.conv1.bn.num_batches_tracked": np.array(7),
        "head.weight": np.ones((1000, 32), np.float32),
        "head.kernel": np.ones((32, 1000), np.float32),
        "head.bias": np.ones(1000, np.float32),
        "loss.centers": np.ones((1000, 32), np.float32),
        "center_loss.c": np.ones((10, 32), np.float32),
        "loss.class_centres": np.ones((1000, 32), np.float32),
        "optimizer.state.0.exp_avg": np.ones((32, 48), np.float32),
        "optimiser.state.0": np.ones(3, np.float32),
        "state.1.exp_avg_sq": np.ones(3, np.float32),
        "state.1.momentum_buffer": np.ones((1000, 32), np.float32),
        "amp.scale": np.ones(1, np.float32),
    }
    found = recognise(prefixed("state_dict.", state) | extra)
    assert dropped(found) == {
        "batch counters": ("state_dict.conv1.bn.num_batches_tracked",),
        "class centres": ("loss.centers", "center_loss.c", "loss.class_centres"),
        "classification head": ("head.weight", "head.kernel", "head.bias"),
        "optimiser state": (
            "optimizer.state.0.exp_avg",
            "optimiser.state.0",
            "state.1.exp_avg_sq",
            "state.1.momentum_buffer",
        ),
        "other tensors": ("amp.scale",),
    }


@pytest.mark.parametrize("first", ["state_dict.", "ema."])
def test_of_two_copies_the_same_one_is_always_taken_and_the_reason_says_so(first: str) -> None:
    layout = MOBILEFACENETS[XIAOCCER]
    copies = {
        "state_dict.": prefixed("state_dict.", random_state(layout, seed=1)),
        "ema.": prefixed("ema.", random_state(layout, seed=2)),
    }
    second = next(prefix for prefix in copies if prefix != first)
    found = recognise(copies[first] | copies[second])
    assert found.prefix == "ema."
    said = "also stands under 'state_dict.'; 'ema.', the moving average, was taken"
    assert any(said in reason for reason in found.reasons)
    weight = next(layer for layer in found.network.layers if isinstance(layer, Conv)).weight
    np.testing.assert_array_equal(weight, copies["ema."]["ema.conv1.conv.weight"])
    left = {name for names in dropped(found).values() for name in names}
    assert left == set(copies["state_dict."])


def test_of_two_copies_of_which_one_is_whole_the_whole_one_is_taken() -> None:
    state = random_state(MOBILEFACENETS[XIAOCCER])
    partial = prefixed("a.", {k: v for k, v in state.items() if k != "linear1.bn.bias"})
    found = recognise(partial | prefixed("state_dict.", state))
    assert found.prefix == "state_dict."
    assert not any("also stands" in reason for reason in found.reasons)


@pytest.mark.parametrize(
    ("name", "missing"),
    [
        (XIAOCCER, "blocks.0.conv.0.weight"),
        (XIAOCCER, "dw_conv1.prelu.weight"),
        (XIAOCCER, "linear1.bn.running_var"),
        (XIAOCCER, "conv1.conv.weight"),
        ("mobilefacenet-foamliu", "conv1.0.weight"),
        ("mobilefacenet-foamliu", "conv3.bias"),
        ("mobilefacenet-foamliu", "bn.running_var"),
        ("mobilefacenet-bubbliiiing", "conv_5.model.1.project.bn.bias"),
        ("mobilefacenet-bubbliiiing", "last_bn.running_mean"),
        ("mobilefacenet-insightface-pytorch", "linear.weight"),
        ("mobilefacenet-insightface-pytorch", "bn.weight"),
    ],
)
def test_one_missing_tensor_is_named_with_the_nearest_layout(name: str, missing: str) -> None:
    state = random_state(MOBILEFACENETS[name])
    del state[missing]
    with pytest.raises(ArchitectureError) as caught:
        recognise(prefixed("module.", state))
    assert f"nearest: {name}," in str(caught.value)
    assert f"1 missing, first {missing}" in str(caught.value)


@pytest.mark.parametrize("name", LAYOUT_NAMES)
@pytest.mark.parametrize("kernel", [(1, 1), (5, 5), (6, 7), (8, 8), (7, 14)])
def test_a_global_kernel_of_no_known_crop_is_refused(name: str, kernel: tuple[int, int]) -> None:
    state = random_state(MOBILEFACENETS[name], widths=Widths(kernel=kernel))
    with pytest.raises(ArchitectureError, match=r"known are 112x112 or 112x96"):
        recognise(state)


@pytest.mark.parametrize("name", LAYOUT_NAMES)
@pytest.mark.parametrize("backwards", [False, True])
def test_a_backbone_without_its_stem_is_not_called_grey(name: str, backwards: bool) -> None:
    layout = MOBILEFACENETS[name]
    state = random_state(layout)
    del state[f"{layout.stem.conv}.weight"]
    said = describe_unknown(dict(reversed(state.items())) if backwards else state)
    assert "1 channel" not in said
    assert "none of its" in said
    assert "the first convolution is missing" in said
    assert f"1 missing, first {layout.stem.conv}.weight" in said


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize(
    ("shapes", "said"),
    [
        ([(6, 1, 5, 5), (16, 6, 5, 5)], "reads 1 channel"),
        ([(32, 1, 5, 5), (32, 32, 5, 5), (64, 32, 5, 5)], "reads 1 channel"),
        ([(8, 1, 3, 3)], "reads 1 channel"),
        ([(8, 4, 3, 3), (16, 8, 3, 3)], "(0 depthwise, the others 4 channels or more)"),
        ([(8, 3, 3, 3), (8, 1, 3, 3), (16, 8, 1, 1)], "no known layout fits"),
        (
            [(8, 1, 3, 3), (16, 8, 1, 1), (16, 1, 3, 3)],
            "(2 depthwise, the others 8 channels or more)",
        ),
    ],
)
def test_what_the_first_convolution_reads_is_told_from_all_of_them(
    shapes: list[tuple[int, ...]], said: str, backwards: bool
) -> None:
    state = {f"layer{k}.weight": np.ones(shape, np.float32) for k, shape in enumerate(shapes)}
    assert said in describe_unknown(dict(reversed(state.items())) if backwards else state)


def reshaped(*shape: int) -> Callable[[FloatArray], FloatArray]:
    return lambda array: np.ones(shape, np.float32)


@pytest.mark.parametrize(
    ("key", "change", "said"),
    [
        ("conv1.conv.weight", reshaped(16, 1, 3, 3), "conv1.conv"),
        ("conv1.conv.weight", reshaped(16, 27), "4 axes"),
        ("conv1.conv.weight", reshaped(24, 3, 3, 3), "conv1.bn"),
        ("conv1.prelu.weight", reshaped(3), "conv1.prelu: 3 values for 16"),
        ("conv1.bn.weight", reshaped(17), "conv1.bn: 17 values for 16"),
        ("blocks.1.conv.6.weight", reshaped(16, 23, 1, 1), "blocks.1.conv.6"),
        ("linear7.conv.weight", reshaped(48, 2, 7, 7), "linear7.conv"),
        ("linear1.conv.weight", reshaped(32, 48), "4 axes"),
        ("linear1.conv.weight", lambda a: a * np.nan, "linear1.conv: .*NaN"),
        ("conv2.bn.running_var", lambda a: a * np.inf, "conv2.bn: .*infinity"),
    ],
)
def test_a_tensor_of_the_wrong_shape_is_named(
    key: str, change: Callable[[FloatArray], FloatArray], said: str
) -> None:
    state = random_state(MOBILEFACENETS[XIAOCCER])
    state[key] = change(state[key])
    with pytest.raises(ArchitectureError, match=said):
        recognise(state)


def grey(*names: str) -> State:
    return {name: np.ones((8, 1, 3, 3), np.float32) for name in names}


TOYS: list[tuple[str, State, str]] = [
    ("nothing", {}, "no network to export"),
    ("one number", {"epoch": np.ones(1, np.float32)}, "no network to export"),
    ("vectors", {"mean": np.ones(3, np.float32)}, "no convolution and no matrix"),
    (
        "adapter",
        {
            "fc1.weight": np.ones((256, 512), np.float32),
            "fc1.bias": np.ones(256, np.float32),
            "fc2.weight": np.ones((128, 256), np.float32),
        },
        r"2 fully connected layer\(s\) on 512 -> 256 -> 128 values",
    ),
    ("digits", grey("conv1.weight", "conv2.weight"), "reads 1 channel"),
    (
        "another network",
        {"features.0.weight": np.ones((8, 3, 3, 3), np.float32)},
        "no known layout fits",
    ),
]


@pytest.mark.parametrize(("state", "said"), [row[1:] for row in TOYS], ids=[r[0] for r in TOYS])
def test_what_is_no_backbone_is_described(state: State, said: str) -> None:
    with pytest.raises(ArchitectureError, match=said):
        recognise(state)


FAMILIES = [
    ("layer1.0.conv1.weight", "ResNet"),
    ("backbone.layer2.0.downsample.0.weight", "ResNet"),
]


@pytest.mark.parametrize(("key", "family"), FAMILIES)
def test_a_known_family_that_cannot_be_exported_yet_is_named(key: str, family: str) -> None:
    state = {"conv1.weight": np.ones((64, 3, 7, 7), np.float32), key: np.ones(4, np.float32)}
    with pytest.raises(ArchitectureError, match=f"those of {family}.*cannot export yet"):
        recognise(state)


@pytest.mark.parametrize("name", LAYOUT_NAMES)
def test_no_known_layout_looks_like_an_unsupported_family(name: str) -> None:
    assert "cannot export yet" not in describe_unknown(random_state(MOBILEFACENETS[name]))


def test_no_layout_at_all_recognises_nothing() -> None:
    one = {"other.weight": np.ones(1, np.float32)}
    with pytest.raises(ArchitectureError):
        recognise(one, layouts=())
    picture = {"conv.weight": np.ones((8, 3, 3, 3), np.float32)}
    with pytest.raises(ArchitectureError, match="no layout is known"):
        recognise(picture, layouts=())
