"""Every name of TensorRT and CUDA that edgeface uses exists in the oldest and newest bindings."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes_cuda import NAMES

COMMON = NAMES["tensorrt"]["common"]
CUDA = set(NAMES["cuda_runtime"]["common"])
_CUDA_NAME = re.compile(r"cuda[A-Z]\w+")


def backends(repository: Path) -> list[Path]:
    return sorted((repository / "edgeface" / "backends").glob("*.py"))


def chains(tree: ast.AST) -> Iterator[tuple[str, ...]]:
    """Every ``trt.A.B`` as (A, B); of chains within chains the longest."""
    inner = {id(n.value) for n in ast.walk(tree) if isinstance(n, ast.Attribute)}
    for node in ast.walk(tree):
        names: list[str] = []
        at: ast.AST = node
        while isinstance(at, ast.Attribute):
            names.insert(0, at.attr)
            at = at.value
        if names and id(node) not in inner and isinstance(at, ast.Name) and at.id == "trt":
            yield tuple(names)


def test_every_name_of_tensorrt_is_in_both_versions(repository: Path) -> None:
    used = {chain for path in backends(repository) for chain in chains(ast.parse(path.read_text()))}
    assert ("Builder",) in used
    assert ("MemoryPoolType", "WORKSPACE") in used
    for first, *rest in used:
        assert first in COMMON[""] or first == "__version__", first
        assert first in COMMON or not rest, f"{first} is not recorded"
        for second in rest[:1]:
            assert second in COMMON[first] or second == "__init__", f"{first}.{second}"


def test_every_name_of_cuda_is_in_both_versions(repository: Path) -> None:
    source = (repository / "edgeface" / "backends" / "cuda_runtime.py").read_text()
    literals = {
        node.value
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    used = {name for name in literals if _CUDA_NAME.fullmatch(name)}
    known = CUDA | {part for name in CUDA for part in name.split(".")}
    assert used <= known
    assert {"cudaGraphLaunch", "cudaHostAllocMapped"} <= used


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("BuilderFlag", "INT8"),
        ("BuilderFlag", "FP16"),
        ("", "IInt8Calibrator"),
        ("NetworkDefinitionCreationFlag", "EXPLICIT_BATCH"),
        ("Builder", "platform_has_fast_int8"),
    ],
)
def test_the_record_knows_what_tensorrt_11_dropped(kind: str, name: str) -> None:
    assert name in NAMES["tensorrt"]["only"]["10.16.1.11"][kind]
    assert name not in COMMON[kind]
