"""The ways in which training programs keep a network: one function each, all from one state.

What they share is that the backbone has to be found among the rest: a classification head, the
centres of classes, the state of an optimiser, an averaged copy, prefixes of what wrapped it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

State = dict[str, Tensor]


@dataclass(frozen=True)
class Trained:
    """What there is at the end of a training; ``average`` is the moving average of ``model``.

    ``history`` has the loss of each step.
    """

    name: str
    model: nn.Module
    average: nn.Module
    loss: nn.Module
    optimiser: torch.optim.Optimizer
    history: tuple[float, ...]

    @property
    def step(self) -> int:
        """Number of steps done."""
        return len(self.history)


Save = Callable[[Trained, Path], None]


def under(prefix: str, state: Mapping[str, Tensor]) -> State:
    """Return ``state`` with every name behind ``prefix``."""
    return {prefix + name: tensor for name, tensor in state.items()}


def plain(trained: Trained, path: Path) -> None:
    """The backbone alone: torch.save(model.state_dict())."""
    torch.save(trained.model.state_dict(), path)


def data_parallel(trained: Trained, path: Path) -> None:
    """PyTorch's ImageNet example: an epoch dictionary, and ``module.`` from DataParallel."""
    state = under("module.", trained.model.state_dict())
    state |= under("module.fc.", _head(trained))
    torch.save(
        {
            "epoch": trained.step,
            "arch": "student",
            "state_dict": state,
            "best_acc1": 0.5,
            "optimizer": trained.optimiser.state_dict(),
        },
        path,
    )


def centres_inside(trained: Trained, path: Path) -> None:
    """Center loss: the network, and the classifier and the centres that its criterion keeps."""
    loss = trained.loss.state_dict()
    torch.save(
        {
            "net_state_dict": trained.model.state_dict(),
            "classifier": {k.split(".")[-1]: v for k, v in loss.items() if "classifier" in k},
            "centers": loss["centers"],
        },
        path,
    )


def head_in_the_module(trained: Trained, path: Path) -> None:
    """SphereFace's and DeepID's nets classify themselves: the head is a layer of the one module."""
    torch.save(
        {
            **under("backbone.", trained.model.state_dict()),
            **under("fc.", _head(trained)),
        },
        path,
    )


def epoch_dictionary(trained: Trained, path: Path) -> None:
    """FaceNet trainers: epoch, embedding size, ``model_state_dict``, the optimiser's state."""
    torch.save(
        {
            "epoch": trained.step,
            "embedding_dimension": trained.model.embedding.weight.shape[0],
            "batch_size_training": 32,
            "loss": "triplet",
            "model_state_dict": trained.model.state_dict(),
            "optimizer_model_state_dict": trained.optimiser.state_dict(),
        },
        path,
    )


def ema_beside(trained: Trained, path: Path) -> None:
    """An exponential moving average beside the weights, as ``ema_state_dict``."""
    torch.save(
        {
            "state_dict": trained.model.state_dict(),
            "ema_state_dict": trained.average.state_dict(),
            "loss": "batch-hard triplet",
        },
        path,
    )


def shadow_beside(trained: Trained, path: Path) -> None:
    """The moving average as the ``shadow`` of its helper class."""
    torch.save(
        {
            "model": trained.model.state_dict(),
            "ema": {"decay": 0.9, "shadow": trained.average.state_dict()},
            "head": trained.loss.state_dict(),
            "loss_name": trained.name,
        },
        path,
    )


def average_beside(trained: Trained, path: Path) -> None:
    """torch.optim.swa_utils.AveragedModel beside the model: a counter, and ``module.`` inside."""
    torch.save(
        {
            "net": trained.model.state_dict(),
            "avg_model": {
                "n_averaged": torch.tensor(trained.step),
                **under("module.", trained.average.state_dict()),
            },
            "metric_fc": trained.loss.state_dict(),
            "loss_name": trained.name,
        },
        path,
    )


def lightning(trained: Trained, path: Path) -> None:
    """PyTorch Lightning: one ``state_dict`` of network and criterion, and ``hyper_parameters``."""
    _lightning(trained, path, under("criterion.", trained.loss.state_dict()))


def lightning_kernel(trained: Trained, path: Path) -> None:
    """AdaFace: Lightning with the head's rows as the columns of a ``kernel``."""
    loss = trained.loss.state_dict()
    head = {"kernel": loss.pop("weight").T.contiguous(), **loss, "t": torch.zeros(1)}
    _lightning(trained, path, under("head.", head))


def model_and_head(trained: Trained, path: Path) -> None:
    """Two dictionaries, ``model`` and ``head``."""
    torch.save(
        {
            "model": trained.model.state_dict(),
            "head": trained.loss.state_dict(),
            "loss_name": trained.name,
        },
        path,
    )


def head_in_its_own_file(trained: Trained, path: Path) -> None:
    """CosFace trainers save the backbone alone, and the head in a file beside it."""
    plain(trained, path)
    torch.save(trained.loss.state_dict(), path.with_suffix(".head.pth"))


def arcface_torch(trained: Trained, path: Path) -> None:
    """insightface's arcface_torch: checkpoint_gpu_0.pt, with the partial head and its optimiser."""
    torch.save(
        {
            "epoch": 1,
            "global_step": trained.step,
            "state_dict_backbone": under("module.", trained.model.state_dict()),
            "state_dict_softmax_fc": trained.loss.state_dict(),
            "state_optimizer": trained.optimiser.state_dict(),
            "state_lr_scheduler": {"last_epoch": 1},
            "loss_name": "arcface",
        },
        path,
    )


def magface(trained: Trained, path: Path) -> None:
    """MagFace: ``features.module.`` and ``module.fc`` in one epoch dictionary."""
    state = under("features.module.", trained.model.state_dict())
    torch.save(
        {
            "epoch": trained.step,
            "arch": "student",
            "state_dict": {**state, **under("module.fc.", trained.loss.state_dict())},
            "optimizer": trained.optimiser.state_dict(),
            "loss_name": "magface",
        },
        path,
    )


def whole_safetensors(trained: Trained, path: Path) -> None:
    """Everything in one safetensors file, names joined by dots."""
    from safetensors.torch import save_file

    tensors = under("backbone.", trained.model.state_dict())
    tensors |= under("head.", trained.loss.state_dict())
    save_file(
        {name: tensor.contiguous() for name, tensor in tensors.items()},
        path,
        metadata={"loss": trained.name, "step": str(trained.step)},
    )


def _head(trained: Trained) -> State:
    """Return weight and bias of the loss's classifier, under those names alone."""
    state = trained.loss.state_dict()
    parts = {name.split(".")[-1]: tensor for name, tensor in state.items()}
    return {name: parts[name] for name in ("weight", "bias") if name in parts}


def _lightning(trained: Trained, path: Path, beside: State) -> None:
    parameters: dict[str, Any] = {"head": trained.name, "arch": "student", "lr": 1e-4}
    torch.save(
        {
            "epoch": 1,
            "global_step": trained.step,
            "pytorch-lightning_version": "2.4.0",
            "state_dict": {**under("model.", trained.model.state_dict()), **beside},
            "optimizer_states": [trained.optimiser.state_dict()],
            "lr_schedulers": [],
            "hyper_parameters": parameters,
        },
        path,
    )
