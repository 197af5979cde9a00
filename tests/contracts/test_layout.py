"""The shape of the tree: where code lies, how large it gets, what is never written."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOTS = {"edgeface": ".", "edgeface_export": "export", "edgeface_calibration": "calibration"}
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60
MAX_TRACKED_BYTES = 600_000
# Data that the package ships on purpose, and how large it may be.
DEFAULT_MODEL = "edgeface/models/default.edgeface"
DEFAULT_WEIGHTS = "examples/train_default/edgeface-default.safetensors"
SHIPPED_DATA_BYTES = {
    "export/edgeface_export/data/synthetic_faces.bin": 1_500_000,
    f"{DEFAULT_MODEL}/model.int8.onnx": 1_300_000,
    f"{DEFAULT_MODEL}/model.cpu-int8.onnx": 1_200_000,
    DEFAULT_WEIGHTS: 2_100_000,
}
MAX_DEFAULT_MODEL_BYTES = 2_500_000

# Ways to run what a file says, and to trust what a network says. Written in halves, so that this
# file does not hold them.
FORBIDDEN = {
    "unpickling": re.compile(r"\bpickle\.load"),
    "pickled arrays": re.compile("allow_pickle" + r"\s*=\s*True"),
    "evaluation of text": re.compile(r"(?<![\w.])eval" + r"\("),
    "execution of text": re.compile(r"(?<![\w.])exec" + r"\("),
    "shells": re.compile("shell" + r"\s*=\s*True|os\." + "system" + r"\("),
    "unverified connections": re.compile("verify" + r"\s*=\s*False|_create_" + "unverified"),
    "unsafe YAML": re.compile("yaml" + r"\.load"),
    "whole-module loading": re.compile("weights_only" + r"\s*=\s*False"),
}
# Tests name what they check is refused, and run scripts of their own.
ALSO_IN_TESTS = set(FORBIDDEN) - {"unpickling", "execution of text"}
CODE = {".py", ".sh", ".toml", ".yml", ".yaml", ".cfg", ""}


def package_folders(repository: Path) -> Iterator[tuple[str, Path]]:
    for package, root in ROOTS.items():
        top = repository / root / package
        for folder in (top, *top.rglob("*")):
            if folder.is_dir() and any(folder.glob("*.py")):
                relative = folder.relative_to(repository / root)
                yield ".".join(relative.parts), folder


def sources(repository: Path) -> list[Path]:
    return sorted(
        path
        for package, root in ROOTS.items()
        for path in (repository / root / package).rglob("*.py")
    )


@pytest.fixture(scope="module")
def tracked(repository: Path) -> list[Path]:
    if shutil.which("git") is None or not (repository / ".git").exists():
        pytest.skip("not a git checkout")
    done = subprocess.run(
        ["git", "ls-files", "-z"], cwd=repository, check=True, capture_output=True, text=True
    )
    paths = [repository / name for name in done.stdout.split("\0") if name]
    return [path for path in paths if path.is_file()]


@pytest.mark.parametrize("folder", ["export", "calibration"])
def test_a_folder_that_only_holds_a_package_is_no_package(repository: Path, folder: str) -> None:
    assert (repository / folder).is_dir()
    assert list((repository / folder).glob("*.py")) == []


def test_every_folder_with_modules_is_a_package(repository: Path) -> None:
    folders = dict(package_folders(repository))
    assert set(ROOTS) <= set(folders)
    lacking = [name for name, folder in folders.items() if not (folder / "__init__.py").is_file()]
    assert lacking == []


def test_every_package_is_named_in_the_architecture(repository: Path) -> None:
    text = (repository / "docs" / "architecture.md").read_text(encoding="utf-8")
    missing = [name for name, _ in package_folders(repository) if f"`{name}`" not in text]
    assert missing == []


def test_the_architecture_names_no_package_that_is_gone(repository: Path) -> None:
    text = (repository / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([\w.]+)` \|", text, flags=re.MULTILINE)
    assert rows
    for name in rows:
        package = name.split(".")[0]
        if package in ROOTS:
            assert (repository / ROOTS[package]).joinpath(*name.split(".")).is_dir(), name


def test_no_module_is_longer_than_it_may_be(repository: Path) -> None:
    long = {
        str(path.relative_to(repository)): lines
        for path in sources(repository)
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > MAX_FILE_LINES
    }
    assert long == {}


def test_no_function_is_longer_than_it_may_be(repository: Path) -> None:
    long = {}
    for path in sources(repository):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > MAX_FUNCTION_LINES:
                    long[f"{path.relative_to(repository)}:{node.name}"] = lines
    assert long == {}


def _inside(path: Path) -> str:
    """The path inside the repository."""
    return path.resolve().relative_to(Path(__file__).resolve().parents[2]).as_posix()


def test_no_large_file_is_tracked(tracked: list[Path]) -> None:
    assert tracked
    too_large = [
        path.as_posix()
        for path in tracked
        if path.stat().st_size > SHIPPED_DATA_BYTES.get(_inside(path), MAX_TRACKED_BYTES)
    ]
    assert too_large == []


def test_no_weights_but_our_own_are_tracked(tracked: list[Path]) -> None:
    endings = {".ckpt", ".onnx", ".pt", ".pth", ".safetensors", ".task", ".tflite", ".npz"}
    weights = {_inside(path) for path in tracked if path.suffix in endings}
    # Our own, trained by examples/train_default; everybody else's stay out.
    own = {name for name in weights if name.startswith(f"{DEFAULT_MODEL}/")} | {DEFAULT_WEIGHTS}
    assert weights - own == set()


def test_the_default_model_is_small(repository: Path) -> None:
    files = [path for path in (repository / DEFAULT_MODEL).iterdir() if path.is_file()]
    assert 0 < sum(path.stat().st_size for path in files) <= MAX_DEFAULT_MODEL_BYTES


@pytest.mark.parametrize("what", FORBIDDEN)
def test_what_must_never_be_written_is_not(
    tracked: list[Path], repository: Path, what: str
) -> None:
    found = []
    for path in tracked:
        relative = path.relative_to(repository)
        if path.suffix not in CODE or (relative.parts[0] == "tests" and what not in ALSO_IN_TESTS):
            continue
        text = path.read_text(encoding="utf-8", errors="replace")
        found += [f"{relative}: {match.group()}" for match in FORBIDDEN[what].finditer(text)]
    assert found == []


@pytest.mark.parametrize(
    ("what", "text"),
    [
        ("unpickling", "pickle." + "loads(data)"),
        ("pickled arrays", "np.load(f, allow_pickle" + " = True)"),
        ("evaluation of text", "x = eval" + "(text)"),
        ("execution of text", "exec" + "(code)"),
        ("shells", "run(c, shell" + "=True)"),
        ("shells", "os." + "system('ls')"),
        ("unverified connections", "get(url, verify" + "=False)"),
        ("unsafe YAML", "yaml" + ".load(f)"),
        ("whole-module loading", "torch.load(f, weights_only" + "=False)"),
    ],
)
def test_the_search_for_what_must_never_be_written_finds_it(what: str, text: str) -> None:
    assert FORBIDDEN[what].search(text)
    assert not FORBIDDEN["evaluation of text"].search("module.eval" + "()")


@pytest.mark.parametrize("folder", ["unit", "integration", "contracts"])
def test_test_modules_of_one_folder_have_names_of_their_own(repository: Path, folder: str) -> None:
    names = [path.name for path in (repository / "tests" / folder).rglob("test_*.py")]
    assert names
    assert sorted(set(names)) == sorted(names)
