"""The recipe of the synthetic faces, on a network small enough to run it."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")

from edgeface.types import Size  # noqa: E402
from edgeface_export.architectures.network import (  # noqa: E402
    INPUT,
    Add,
    Conv,
    Flatten,
    Layer,
    Linear,
    Network,
    PRelu,
    Preprocessing,
    Relu,
)
from edgeface_export.graph.reference import reference_embeddings  # noqa: E402
from tests.builders_export import normal, random_crops, random_norm  # noqa: E402

SOURCE = {"file": "random", "sha256": "0"}


@pytest.fixture
def recipe(repository: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(repository / "calibration/recipes/synthetic_faces"))
    import invert  # type: ignore[import-not-found, unused-ignore]

    return invert  # type: ignore[no-any-return, unused-ignore]


def tiny_network(colour_order: str = "RGB", width_px: int = 112) -> Network:
    """Return a network with every kind of layer that reads whole aligned faces."""
    rng = np.random.default_rng(0)
    flat = 6 * 7 * (width_px // 16)
    layers: tuple[Layer, ...] = (
        Conv("stem", INPUT, normal(rng, 6, 3, 3, 3, scale=0.3), None, 4, 1),
        random_norm(rng, "stem.norm", "stem", 6),
        PRelu("stem.prelu", "stem.norm", np.full(6, 0.25, np.float32)),
        Conv("deep", "stem.prelu", normal(rng, 6, 1, 3, 3, scale=0.4), None, 1, 1, 6),
        random_norm(rng, "deep.norm", "deep", 6),
        Relu("deep.relu", "deep.norm", 6.0),
        Add("sum", "deep.relu", "stem.prelu"),
        Conv("narrow", "sum", normal(rng, 6, 6, 1, 1, scale=0.4), None, 4),
        random_norm(rng, "narrow.norm", "narrow", 6),
        Flatten("flat", "narrow.norm"),
        Linear("features", "flat", normal(rng, 8, flat, scale=0.05)),
        random_norm(rng, "features.norm", "features", 8),
    )
    size = Size(width_px, 112)
    template = f"arcface-112x{width_px}"
    return Network(layers, size, template, Preprocessing.uniform(colour_order, 127.5, 128.0))


@pytest.mark.parametrize(("colour_order", "width_px"), [("RGB", 112), ("BGR", 112), ("RGB", 96)])
def test_the_torch_forward_agrees_with_the_reference(
    recipe: ModuleType, colour_order: str, width_px: int
) -> None:
    network = tiny_network(colour_order, width_px)
    crops = random_crops(2, Size(112, 112))
    side_px = (112 - width_px) // 2
    wanted = reference_embeddings(network, crops[:, :, side_px : 112 - side_px])
    pictures = torch.tensor(crops).permute(0, 3, 1, 2).float()
    features, divergence = recipe.InvertibleNetwork(network)(pictures)
    found = torch.nn.functional.normalize(features).numpy()
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    assert float(divergence) > 0


def test_the_gradient_of_the_moments_is_that_of_autograd(recipe: ModuleType) -> None:
    from invertible import MomentsOf  # type: ignore[import-not-found, unused-ignore]

    x = torch.randn(3, 4, 5, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(MomentsOf.apply, (x,))


def test_a_batch_with_the_remembered_statistics_has_no_divergence(recipe: ModuleType) -> None:
    from invertible import WantedMoments

    mean, variance, floor = torch.randn(5), torch.rand(5) + 0.5, torch.full((5,), 1e-5)
    wanted = WantedMoments(mean, variance, floor)
    assert float(wanted.divergence(mean, variance)) == pytest.approx(0, abs=1e-6)
    assert float(wanted.divergence(mean, 4 * variance)) > 0.1
    assert float(wanted.divergence(mean + 1, variance)) > 0.1


def test_drawings_are_faces_on_the_template_and_differ(recipe: ModuleType) -> None:
    drawn = recipe.drawn_faces(8, torch.Generator().manual_seed(0))
    assert drawn.shape == (8, 3, 112, 112)
    assert 0 <= float(drawn.min()) < float(drawn.max()) <= 1
    mean = drawn.mean((0, 1))
    assert float(mean[49:54, 34:42].mean()) < float(mean[66:74, 34:42].mean())
    assert float(drawn.std(0).min()) > 0


def options_of(recipe: ModuleType, **changes: Any) -> Any:
    return recipe.InversionOptions(**{"count": 4, "chunk": 4, "steps": 12, **changes})


def test_a_few_steps_lower_the_loss(recipe: ModuleType) -> None:
    network = recipe.InvertibleNetwork(tiny_network())
    chunk = recipe.Chunk(0, options_of(recipe, step_size=0.05))
    losses = [chunk.advance(network)["loss"] for _ in range(12)]
    assert np.mean(losses[-3:]) < 0.9 * losses[0]


def test_an_interrupted_run_ends_with_the_same_pictures(recipe: ModuleType, tmp_path: Path) -> None:
    network = recipe.InvertibleNetwork(tiny_network())
    options = options_of(recipe)
    whole = recipe.Run(tmp_path / "whole", options, SOURCE).chunk(0, network)

    folder = tmp_path / "interrupted"
    run = recipe.Run(folder, options, SOURCE)
    chunk = recipe.Chunk(0, options)
    for _ in range(5):
        chunk.advance(network)
    torch.save(chunk.state(), folder / "state.pt")
    np.testing.assert_array_equal(run.chunk(0, network), whole)
    assert not (folder / "state.pt").exists()
    assert (folder / "log.csv").read_text().startswith("chunk,step,loss,divergence")


def test_a_folder_of_other_settings_is_refused(recipe: ModuleType, tmp_path: Path) -> None:
    recipe.Run(tmp_path, options_of(recipe), SOURCE)
    with pytest.raises(SystemExit, match="other settings"):
        recipe.Run(tmp_path, options_of(recipe, seed=1), SOURCE)


def test_the_contact_sheet_is_a_png_of_the_pictures(recipe: ModuleType, tmp_path: Path) -> None:
    cv2 = pytest.importorskip("cv2")
    pictures = random_crops(5, Size(12, 16))
    recipe.write_contact_sheet(tmp_path / "sheet.png", pictures, columns=3)
    sheet = cv2.imread(str(tmp_path / "sheet.png"))[..., ::-1]
    assert sheet.shape == (32, 36, 3)
    np.testing.assert_array_equal(sheet[16:, 12:24], pictures[4])
