"""Networks that only their own code describes: a user's module, TorchScript, ``torch.export``.

They take torch, and code of somebody else runs: the user's, which ``--arch`` names, or that in the
file, which ``--trust-code`` allows. torch exports the module to ONNX; from there on it is an ONNX
graph like any other. A state dict is read as ever, by the reader that runs nothing.
"""

from __future__ import annotations

import hashlib
import importlib
import io
import re
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeface.errors import (
    ArchitectureError,
    CheckpointFormatError,
    InvalidInputError,
    MissingDependencyError,
    UnsafeCheckpointError,
)
from edgeface.types import FloatArray, Size
from edgeface_export.architectures.recognition import Recognition
from edgeface_export.checkpoints import Checkpoint, CheckpointFormat, CheckpointTensor
from edgeface_export.checkpoints.source import read_source
from edgeface_export.checkpoints.text import clip
from edgeface_export.checkpoints.values import ReadLimits
from edgeface_export.intake.onnx_graph import onnx_recognition

if TYPE_CHECKING:
    from edgeface_export.intake.opening import Intake

__all__ = ["open_program", "recognise_module", "recognise_script"]

_FACTORY = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
_DEFAULT_SIZE = Size(112, 112)
_OPSET = 17


def recognise_module(checkpoint: Checkpoint, intake: Intake) -> Recognition:
    """Return the user's module with the checkpoint's tensors in it.

    Raises:
        InvalidInputError: The factory is not written ``package.module:factory``, or is not there.
        ArchitectureError: The tensors do not fit the module, or its graph has unknown nodes.
        MissingDependencyError: torch is not installed.
    """
    torch = _torch()
    factory = _factory(intake.arch)
    try:
        module = factory()
    except Exception as exc:  # it is the user's code
        raise InvalidInputError(
            f"{intake.arch} raised {type(exc).__name__}: {clip(exc)}; it is called without "
            "arguments and must return the module"
        ) from exc
    if not isinstance(module, torch.nn.Module):
        raise InvalidInputError(
            f"{intake.arch} returned {type(module).__name__}, wanted a torch.nn.Module"
        )
    tensors = {name: tensor.array for name, tensor in checkpoint.tensors.items()}
    wanted = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    state = _state(tensors, wanted)
    module.load_state_dict({name: torch.from_numpy(np.array(a)) for name, a in state.items()})
    content = _exported(module.eval(), intake.size or _DEFAULT_SIZE)
    return onnx_recognition(content, source="own-module", trainer=intake.arch, size=intake.size)


def recognise_script(checkpoint: Checkpoint, intake: Intake) -> Recognition:
    """Return the network of a TorchScript file by running it.

    Raises:
        ArchitectureError: torch cannot run or export it, or its graph has unknown nodes.
        MissingDependencyError: torch is not installed.
    """
    from edgeface_export.intake.opening import reread

    torch = _torch()
    try:
        module = torch.jit.load(io.BytesIO(reread(checkpoint)), map_location="cpu").eval()
    except Exception as exc:  # torch raises RuntimeError and others
        raise ArchitectureError(f"torch cannot open the TorchScript file: {clip(exc)}") from exc
    content = _exported(module, intake.size or _DEFAULT_SIZE)
    return onnx_recognition(content, source="torchscript", trainer="TorchScript", size=intake.size)


def open_program(path: Path, intake: Intake) -> tuple[Checkpoint, Recognition]:
    """Return the tensors and the network of a ``torch.export`` program (``.pt2``).

    Raises:
        UnsafeCheckpointError: Its code was not trusted.
        CheckpointFormatError: torch cannot open it.
        ArchitectureError: Its graph has unknown nodes.
        MissingDependencyError: torch is not installed.
    """
    if not intake.trust_code:
        raise UnsafeCheckpointError(
            f"{path.name}: only torch can read a torch.export program, and reading it runs what is "
            "in it: `--trust-code` allows that, with the torch extra; do so only if you trust who "
            "made the file"
        )
    torch = _torch()
    source = read_source(path, max_bytes=ReadLimits().max_file_bytes)
    try:
        program = torch.export.load(io.BytesIO(source.content))
        size = intake.size or _program_size(program)
        # The exporter would switch a program to inference, which it is in for good.
        module = torch.jit.trace(program.module(), _example(size), check_trace=False)
    except Exception as exc:  # torch raises RuntimeError and others
        raise CheckpointFormatError(f"{path.name}: torch cannot open it: {clip(exc)}") from exc
    tensors = {
        name: CheckpointTensor(name, value.detach().cpu().numpy(), str(value.dtype)[6:], False)
        for name, value in program.state_dict.items()
    }
    checkpoint = Checkpoint(
        path=path,
        sha256=hashlib.sha256(source.content).hexdigest(),
        size_bytes=len(source.content),
        format=CheckpointFormat.EXPORTED_PROGRAM,
        tensors=MappingProxyType(tensors),
        scalars=MappingProxyType({}),
        foreign_classes=(),
        whole_module=False,
        root_class="",
        notes=("read by torch, which was allowed by hand",),
    )
    content = _exported(module, size)
    found = onnx_recognition(content, source="torch-export", trainer="torch.export")
    return checkpoint, found


def _program_size(program: Any) -> Size:
    """Return the size of the pictures that the program was traced with."""
    arguments, _ = program.example_inputs or ((), {})
    shapes = [tuple(value.shape) for value in arguments if hasattr(value, "shape")]
    if len(shapes) == 1 and len(shapes[0]) == 4:
        return Size(int(shapes[0][3]), int(shapes[0][2]))
    return _DEFAULT_SIZE


def _torch() -> Any:
    try:
        import torch
    except ImportError as exc:
        raise MissingDependencyError("torch", extra="torch") from exc
    return torch


def _factory(arch: str) -> Callable[[], Any]:
    if not _FACTORY.fullmatch(arch):
        raise InvalidInputError(f"--arch is {clip(arch)!r}, wanted package.module:factory")
    module_name, _, name = arch.partition(":")
    try:
        factory = getattr(importlib.import_module(module_name), name, None)
    except Exception as exc:  # an import runs the user's code
        raise InvalidInputError(
            f"{clip(module_name)} cannot be imported: {type(exc).__name__}: {clip(exc)}; is its "
            "folder in PYTHONPATH?"
        ) from exc
    if not callable(factory):
        raise InvalidInputError(f"{clip(module_name)} has no function {name}")
    made: Callable[[], Any] = factory
    return made


def _state(
    tensors: Mapping[str, FloatArray], wanted: Mapping[str, tuple[int, ...]]
) -> dict[str, FloatArray]:
    """Return the tensors that the module wants, under the prefix where all of them are.

    Raises:
        ArchitectureError: There is no such prefix; says what is missing, at most 8 lines.
    """
    needed = {name for name in wanted if not name.endswith("num_batches_tracked")}
    prefixes = {
        name.removesuffix(key) for key in needed for name in tensors if name.endswith(key)
    } or {""}
    best = max(sorted(prefixes), key=lambda p: sum(p + key in tensors for key in needed))
    missing = sorted(key for key in needed if best + key not in tensors)
    wrong = [
        f"{key}: {tensors[best + key].shape} in the file, {wanted[key]} in the module"
        for key in sorted(needed - set(missing))
        if tensors[best + key].shape != wanted[key]
    ]
    said = [f"missing: {key}" for key in missing] + wrong
    if said:
        more = f"\n  … and {len(said) - 6} more" if len(said) > 6 else ""
        raise ArchitectureError(
            f"the checkpoint does not fit the module (prefix {best!r}):\n  "
            + "\n  ".join(said[:6])
            + more
        )
    counters: dict[str, Any] = {
        key: np.zeros(wanted[key], np.int64) for key in wanted if key not in needed
    }
    return {key: tensors[best + key] for key in needed} | counters


def _example(size: Size) -> Any:
    return _torch().zeros(1, 3, size.height_px, size.width_px)


def _exported(module: Any, size: Size) -> bytes:
    """Return ``module`` as ONNX for crops of ``size``, exported by torch."""
    torch = _torch()
    buffer = io.BytesIO()
    try:
        with warnings.catch_warnings():
            # They are about how torch is called; what its tracer says of the module still shows.
            warnings.simplefilter("ignore", UserWarning)
            torch.onnx.export(
                module,
                (_example(size),),
                buffer,
                input_names=["picture"],
                dynamic_axes={"picture": {0: "n"}},
                opset_version=_OPSET,
                dynamo=False,
                # EVAL would fold the BatchNorms, whose statistics data-free INT8 needs.
                training=torch.onnx.TrainingMode.PRESERVE,
            )
    except Exception as exc:  # torch raises many kinds
        raise ArchitectureError(
            f"torch cannot export the module for crops of {size.height_px}x{size.width_px}: "
            f"{type(exc).__name__}: {clip(exc)}"
        ) from exc
    return buffer.getvalue()
