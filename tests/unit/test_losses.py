"""The losses of examples/train_with_any_loss: hand-worked values, and gradients by differences."""

from __future__ import annotations

import math
from importlib import import_module
from typing import Any

import pytest

torch = pytest.importorskip("torch")

LOSSES = {
    "softmax": "Softmax",
    "center": "SoftmaxWithCenters",
    "contrastive": "Contrastive",
    "triplet": "SemiHardTriplet",
    "triplet:hard": "BatchHardTriplet",
    "margin_based": "MarginBased",
    "l_softmax": "LSoftmax",
    "sphereface": "SphereFace",
    "normface": "NormFace",
    "cosface": "CosFace",
    "cosface:am": "AMSoftmax",
    "arcface": "ArcFace",
    "arcface:sub": "SubCenterArcFace",
    "adaface": "AdaFace",
    "magface": "MagFace",
}


def module(name: str) -> Any:
    return import_module(f"examples.train_with_any_loss.losses.{name.split(':')[0]}")


def make(name: str, size: int = 6, people: int = 5, **settings: float) -> Any:
    return getattr(module(name), LOSSES[name])(size, people, **settings)


def column(*values: float) -> Any:
    return torch.tensor(values, dtype=torch.float64)[:, None]


def two_classes(loss: Any, angle: float, length: float = 1.0) -> tuple[Any, Any]:
    """Give ``loss`` the rows (1, 0) and (0, 1), and an embedding at ``angle`` to the first."""
    loss.weight.data = torch.eye(2)
    where = torch.tensor([[math.cos(angle), math.sin(angle)]])
    return length * where, torch.tensor([0])


def cross_entropy(own: float, other: float) -> float:
    return math.log1p(math.exp(other - own))


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_is_finite_and_its_gradient_is_right(name: str) -> None:
    torch.manual_seed(1)
    loss = make(name).double().eval()
    labels = torch.tensor([0, 0, 1, 1, 2, 2])
    # Lengths of 12 lie inside MagFace's bounds; elsewhere they do no harm.
    rows = torch.randn(6, 6, dtype=torch.float64)
    rows = (12 * rows / rows.norm(dim=1, keepdim=True)).requires_grad_()

    def value(x: Any) -> Any:
        torch.manual_seed(3)  # distance-weighted sampling draws
        return loss(x, labels)

    assert torch.isfinite(value(rows))
    # AdaFace's margin takes the length as given, so its gradient leaves that path out.
    if name != "adaface":
        assert torch.autograd.gradcheck(value, rows, eps=1e-6, atol=1e-4)


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_falls_when_it_is_followed(name: str) -> None:
    torch.manual_seed(0)
    loss = make(name, size=8, people=4)
    labels = torch.arange(4).repeat_interleave(4)
    rows = (torch.randn(16, 8) * 5).requires_grad_()
    optimiser = torch.optim.Adam([rows, *loss.parameters()], lr=0.05)
    values = []
    for _ in range(60):
        torch.manual_seed(7)
        value = loss(rows, labels)
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
        values.append(float(value.detach()))
    assert values[-1] < 0.8 * values[0]


def test_softmax_of_equal_logits_is_the_log_of_the_people() -> None:
    loss = make("softmax", size=2, people=5)
    torch.nn.init.zeros_(loss.classifier.weight)
    torch.nn.init.zeros_(loss.classifier.bias)
    value = loss(torch.randn(3, 2), torch.tensor([0, 1, 4])).detach()
    assert float(value) == pytest.approx(math.log(5))


def test_center_loss_adds_half_the_squared_distance_and_moves_the_centre() -> None:
    loss = make("center", size=2, people=2, weight=1.0, rate=0.5)
    torch.nn.init.zeros_(loss.classifier.weight)
    torch.nn.init.zeros_(loss.classifier.bias)
    value = loss(torch.tensor([[3.0, 4.0]]), torch.tensor([0]))
    assert float(value.detach()) == pytest.approx(math.log(2) + 25 / 2)
    # One face: the count is 1 + 1, the rate a half, so a quarter of the way.
    torch.testing.assert_close(loss.centers, torch.tensor([[0.75, 1.0], [0.0, 0.0]]))


def test_contrastive_loss_of_two_pairs() -> None:
    rows = torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 0.4]])
    # Distances: mated 5; others 0.4 and sqrt(9 + 3.6^2) beyond the margin of 1.
    expected = (5**2 + (1 - 0.4) ** 2 + 0) / 2 / 3
    value = module("contrastive").contrastive(rows, torch.tensor([0, 0, 1]), 1.0)
    assert float(value) == pytest.approx(expected)


def on_circle(*degrees: float) -> Any:
    angles = torch.tensor([math.radians(d) for d in degrees])
    return torch.stack([angles.cos(), angles.sin()], dim=1)


def test_semi_hard_takes_the_nearest_negative_beyond_the_positive() -> None:
    rows = on_circle(0, 30, 20, 40)
    labels = torch.tensor([0, 0, 1, 2])

    def squared(degrees: float) -> float:
        return 2 - 2 * math.cos(math.radians(degrees))

    # From 0: positive 30, negatives 20 (nearer) and 40: 40 is taken.
    # From 30: negatives 10 and 10, both nearer than 30: the furthest of them.
    wanted = [squared(30) - squared(40) + 0.2, squared(30) - squared(10) + 0.2]
    value = make("triplet")(rows, labels)
    assert float(value) == pytest.approx(sum(max(0.0, w) for w in wanted) / 2, abs=1e-5)


def test_batch_hard_takes_the_furthest_positive_and_the_nearest_negative() -> None:
    rows = on_circle(0, 30, 20)

    def chord(degrees: float) -> float:
        return 2 * math.sin(math.radians(degrees) / 2)

    wanted = [chord(30) - chord(20) + 0.2, chord(30) - chord(10) + 0.2]
    value = make("triplet:hard")(rows, torch.tensor([0, 0, 1]))
    assert float(value) == pytest.approx(sum(wanted) / 2, abs=1e-5)


def test_one_person_or_no_pair_gives_zero_and_not_nan() -> None:
    rows = torch.randn(3, 6)
    for name in ("triplet", "triplet:hard", "margin_based"):
        assert float(make(name)(rows, torch.tensor([0, 0, 0])).detach()) == 0
        assert float(make(name)(rows, torch.tensor([0, 1, 2])).detach()) == 0


def test_margin_loss_counts_the_violating_pairs_only() -> None:
    beta = torch.tensor(1.2)
    positive, negative = torch.tensor([1.3, 0.5]), torch.tensor([1.3, 1.9])
    # 0.2 + 1.3 - 1.2 = 0.3; 0; 0.2 + 1.2 - 1.3 = 0.1; 0
    value = module("margin_based").margin_loss(positive, negative, 0.2, beta)
    assert float(value) == pytest.approx((0.3 + 0.1) / 2)


def test_sampling_weights_undo_the_density_of_distances() -> None:
    distance = torch.tensor([[0.6, 1.0, 1.4]], dtype=torch.float64)
    weights = module("margin_based").sampling_weights(distance, 4)[0]
    density = [d**2 * math.sqrt(1 - d * d / 4) for d in (0.6, 1.0, 1.4)]
    products = [float(w) * q for w, q in zip(weights, density, strict=True)]
    assert products == pytest.approx([products[0]] * 3)


@pytest.mark.parametrize("multiple", [1, 2, 3, 4])
def test_psi_falls_without_a_jump_from_one_to_its_end(multiple: int) -> None:
    angles = torch.linspace(0.01, math.pi - 0.01, 2000, dtype=torch.float64)
    values = module("l_softmax").psi(angles.cos(), multiple)
    steps = values.diff()
    assert (steps <= 1e-9).all()
    assert steps.abs().max() < 0.01
    assert float(values[-1]) == pytest.approx(1 - 2 * multiple, abs=0.02)


def test_sphereface_at_sixty_degrees() -> None:
    loss = make("sphereface", size=2, people=2)
    loss.steps += 10**9  # annealed to its end: the plain logit has 5 parts of 6
    rows, labels = two_classes(loss, math.pi / 3, length=2.0)
    # psi with m = 4: 4 * 60 = 240 degrees lies in the second quarter, k = 1: -cos(240) - 2 = -1.5
    own = 2.0 * (5 * 0.5 + (-1.5)) / 6
    assert float(loss(rows, labels).detach()) == pytest.approx(
        cross_entropy(own, 2 * math.sin(math.pi / 3)), abs=1e-5
    )


def test_l_softmax_keeps_the_length_of_the_class() -> None:
    loss = make("l_softmax", size=2, people=2)
    loss.steps += 10**9
    rows, labels = two_classes(loss, math.pi / 3)
    loss.weight.data[0] *= 3
    # psi with m = 2: 120 degrees, k = 0: cos(120) = -0.5; the plain logit has 5 parts of 6.
    own = 3.0 * (5 * 0.5 - 0.5) / 6
    assert float(loss(rows, labels).detach()) == pytest.approx(
        cross_entropy(own, math.sin(math.pi / 3)), abs=1e-5
    )


@pytest.mark.parametrize(
    ("name", "own"),
    [
        ("normface", lambda angle: 16 * math.cos(angle)),
        ("cosface", lambda angle: 64 * (math.cos(angle) - 0.35)),
        ("cosface:am", lambda angle: 30 * (math.cos(angle) - 0.35)),
        ("arcface", lambda angle: 64 * math.cos(angle + 0.5)),
    ],
)
def test_margins_by_hand(name: str, own: Any) -> None:
    loss = make(name, size=2, people=2)
    angle = 0.9
    rows, labels = two_classes(loss, angle, length=7.0)
    scale = {"normface": 16, "cosface": 64, "cosface:am": 30, "arcface": 64}[name]
    expected = cross_entropy(own(angle), scale * math.sin(angle))
    assert float(loss(rows, labels).detach()) == pytest.approx(expected, rel=1e-4)


def test_arcface_keeps_falling_beyond_half_a_turn() -> None:
    cosine = torch.linspace(-1, 1, 4001, dtype=torch.float64)
    turned = module("arcface").add_angle(cosine, 0.5)
    assert (turned.diff() > -1e-9).sum() >= 3999  # one jump, where the line begins
    assert (turned < cosine).all()


def test_sub_centers_use_the_nearest_row_of_each_person() -> None:
    loss = make("arcface:sub", size=2, people=2, rows=2)
    loss.weight.data = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    torch.testing.assert_close(
        loss.cosines(torch.tensor([[-3.0, -1.0]])), torch.tensor([[3.0, 1.0]]) / math.sqrt(10)
    )


def test_adaface_is_arcface_at_one_end_and_cosface_in_the_middle() -> None:
    adapt = module("adaface").adapt
    cosine = column(0.3)
    assert float(adapt(cosine, column(-1.0), 0.4)) == pytest.approx(math.cos(math.acos(0.3) + 0.4))
    assert float(adapt(cosine, column(0.0), 0.4)) == pytest.approx(0.3 - 0.4)
    assert float(adapt(cosine, column(1.0), 0.4)) == pytest.approx(
        math.cos(math.acos(0.3) - 0.4) - 0.8
    )


def test_magface_asks_more_of_longer_embeddings() -> None:
    magface = module("magface")
    assert float(magface.margin_of(torch.tensor(10.0))) == pytest.approx(0.45)
    assert float(magface.margin_of(torch.tensor(110.0))) == pytest.approx(0.8)
    assert float(magface.regulariser(torch.tensor(10.0))) == pytest.approx(0.1 + 10 / 12100)
    lengths = torch.linspace(10, 110, 50)
    assert (magface.regulariser(lengths).diff() < 0).all()
