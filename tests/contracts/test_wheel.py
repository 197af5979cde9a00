"""The wheel that is built from the tree: what is in it, and nothing else."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path, PurePosixPath

import pytest

PACKAGES = {"edgeface", "edgeface_export", "edgeface_calibration"}
# Data that is shipped on purpose.
_MODEL = PurePosixPath("edgeface/models/default.edgeface")
_MODEL_FILES = (
    "manifest.json",
    "model.cpu-int8.onnx",
    "model.int8.onnx",
    "report.html",
    "report.json",
)
SHIPPED_DATA = {
    PurePosixPath("edgeface_export/data/synthetic_faces.bin"),
    *(_MODEL / name for name in _MODEL_FILES),
}
# Sources, marks of typing, tables, the style of the report's page.
ENDINGS = {".css", ".py", ".typed", ".toml"}
FOREIGN = {
    ".bin", ".ckpt", ".jpeg", ".jpg", ".mp4", ".npy", ".npz", ".onnx", ".png", ".pt", ".pth",
    ".safetensors", ".so", ".task", ".tflite",
}  # fmt: skip


@pytest.fixture(scope="module")
def wheel(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("build")
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("wheel")
    done = subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder],
        cwd=repository,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (found,) = folder.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def members(wheel: Path) -> list[PurePosixPath]:
    with zipfile.ZipFile(wheel) as archive:
        return [PurePosixPath(name) for name in archive.namelist()]


def test_the_wheel_is_pure_python_and_carries_the_version(wheel: Path) -> None:
    from edgeface import __version__

    assert wheel.name == f"edgeface-{__version__}-py3-none-any.whl"


def test_the_wheel_holds_the_three_packages_and_nothing_beside(
    members: list[PurePosixPath],
) -> None:
    tops = {member.parts[0] for member in members}
    assert {top for top in tops if not top.endswith(".dist-info")} == PACKAGES


def test_every_module_of_the_tree_is_in_the_wheel(
    members: list[PurePosixPath], repository: Path
) -> None:
    roots = {
        "edgeface": repository,
        "edgeface_export": repository / "export",
        "edgeface_calibration": repository / "calibration",
    }
    for package, root in roots.items():
        sources = {
            PurePosixPath(path.relative_to(root).as_posix())
            for path in (root / package).rglob("*.py")
        }
        assert sources
        assert sources <= set(members)


def test_every_package_says_that_it_is_typed(members: list[PurePosixPath]) -> None:
    assert {PurePosixPath(package, "py.typed") for package in PACKAGES} <= set(members)


def test_the_wheel_carries_no_weights_but_our_own_and_no_pictures(
    members: list[PurePosixPath],
) -> None:
    content = [
        member
        for member in members
        if not member.parts[0].endswith(".dist-info") and member not in SHIPPED_DATA
    ]
    assert set(members) >= SHIPPED_DATA
    assert [member for member in content if member.suffix in FOREIGN] == []
    assert {member.suffix for member in content} <= ENDINGS


def test_the_wheel_is_small(wheel: Path) -> None:
    # Code, at most 1.5 MB of synthetic faces, and 2.5 MB of the default model.
    assert wheel.stat().st_size < 1_000_000 + 1_500_000 + 2_500_000


def test_the_wheel_names_its_script_its_licence_and_its_extras(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        folder = next(n for n in archive.namelist() if n.endswith("/METADATA")).rsplit("/", 1)[0]
        scripts = archive.read(f"{folder}/entry_points.txt").decode()
        metadata = Parser().parsestr(archive.read(f"{folder}/METADATA").decode())
        assert f"{folder}/licenses/LICENSE" in archive.namelist()
    assert "edgeface = edgeface.cli:main" in scripts
    assert metadata["License-Expression"] == "Apache-2.0"
    extras = set(metadata.get_all("Provides-Extra") or ())
    assert {"cpu", "export", "demo", "dev", "tensorrt"} <= extras
    base = [r for r in metadata.get_all("Requires-Dist") or () if "extra ==" not in r]
    assert sorted(requirement.split(">")[0] for requirement in base) == ["numpy", "typer"]


def test_check_wheel_contents_finds_nothing(wheel: Path, repository: Path) -> None:
    pytest.importorskip("check_wheel_contents")
    done = subprocess.run(
        [sys.executable, "-m", "check_wheel_contents", wheel],
        cwd=repository,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
