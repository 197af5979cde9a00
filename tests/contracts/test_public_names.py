"""What users import and type: names, import cost, commands and their help."""

from __future__ import annotations

import importlib
import json
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import edgeface

PACKAGES = ("edgeface", "edgeface_export", "edgeface_calibration")
# What the base install brings, and what comes with it.
BASE = {"edgeface", "numpy"}
HEAVY = {
    "cv2", "matplotlib", "mediapipe", "onnx", "onnxruntime", "openvino", "psutil", "rich",
    "safetensors", "skimage", "tensorrt", "torch",
}  # fmt: skip


def module_names() -> Iterator[str]:
    for package in PACKAGES:
        folder = Path(importlib.import_module(package).__path__[0])
        yield package
        for found in pkgutil.walk_packages([str(folder)], f"{package}."):
            if not found.name.endswith("__main__"):
                yield found.name


MODULES = sorted(module_names())


def loaded(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        missing = (error.name or "").split(".")[0]
        if missing in HEAVY:
            pytest.skip(f"{missing} is not installed")
        raise


def kind(name: str) -> int:
    """Constants, then classes, then the rest: the order that ruff sorts ``__all__`` into."""
    return 0 if name.isupper() else 1 if name[:1].isupper() else 2


def test_there_are_modules_of_every_package_to_look_at() -> None:
    for package in PACKAGES:
        assert sum(name.startswith(package) for name in MODULES) > 5, package


@pytest.mark.parametrize("name", MODULES)
def test_a_module_lists_what_it_offers_in_order_and_every_name_exists(name: str) -> None:
    module = loaded(name)
    public = [
        key
        for key, value in vars(module).items()
        if not key.startswith("_") and getattr(value, "__module__", None) == name
    ]
    names = list(getattr(module, "__all__", ()))
    assert names or not public, "public functions or classes and no __all__"
    assert names == sorted(set(names), key=lambda key: (kind(key), key))
    assert [key for key in names if not hasattr(module, key)] == []


@pytest.mark.parametrize("name", MODULES)
def test_every_module_and_everything_it_offers_says_what_it_is(name: str) -> None:
    module = loaded(name)
    assert module.__doc__
    for key in getattr(module, "__all__", ()):
        value = getattr(module, key)
        if callable(value) and getattr(value, "__module__", None) == name:
            assert value.__doc__, key


def test_every_error_is_offered_at_the_top() -> None:
    from edgeface import errors

    assert set(errors.__all__) <= set(edgeface.__all__)
    for name in errors.__all__:
        assert issubclass(getattr(edgeface, name), edgeface.EdgefaceError)


def test_a_name_that_does_not_exist_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nonsense"):
        _ = edgeface.nonsense  # type: ignore[attr-defined,unused-ignore]
    assert set(edgeface.__all__) <= set(dir(edgeface))


_IMPORTED = """
import json, sys
before = set(sys.modules)
import {module}
print(json.dumps(sorted({{name.split(".")[0] for name in set(sys.modules) - before}})))
"""


def imported_by(module: str) -> set[str]:
    """Top-level packages that a fresh interpreter loads for ``module``, without the standard's."""
    done = subprocess.run(
        [sys.executable, "-c", _IMPORTED.format(module=module)],
        check=True,
        capture_output=True,
        text=True,
        cwd=Path(edgeface.__file__).parent.parent,
    )
    return set(json.loads(done.stdout)) - set(sys.stdlib_module_names)


def test_importing_edgeface_loads_numpy_and_nothing_heavier() -> None:
    assert imported_by("edgeface") == BASE


def test_using_the_public_names_loads_numpy_and_nothing_heavier() -> None:
    names = ", ".join(name for name in edgeface.__all__ if not name.startswith("_"))
    assert imported_by(f"edgeface\nfrom edgeface import {names}") == BASE


def test_the_command_line_starts_without_anything_heavy() -> None:
    assert imported_by("edgeface.cli") & HEAVY == set()


@pytest.mark.parametrize(
    "module",
    [name for name in MODULES if name.startswith("edgeface.") or "calibration" in name],
)
def test_no_module_of_the_runtime_loads_anything_heavy_when_it_is_imported(
    module: str, heavy_imports: dict[str, list[str]]
) -> None:
    assert heavy_imports.get(module, []) == []


_EACH = """
import importlib, json, sys
names, heavy = json.loads(sys.argv[1])
found = {}
for name in names:
    before = set(sys.modules)
    importlib.import_module(name)
    loaded = sorted({m.split(".")[0] for m in set(sys.modules) - before} & set(heavy))
    if loaded:
        found[name] = loaded
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def heavy_imports() -> dict[str, list[str]]:
    """Heavy packages by the module that was the first to load them, in one fresh interpreter."""
    names = [name for name in MODULES if not name.startswith("edgeface_export")]
    done = subprocess.run(
        [sys.executable, "-c", _EACH, json.dumps([names, sorted(HEAVY)])],
        check=True,
        capture_output=True,
        text=True,
        cwd=Path(edgeface.__file__).parent.parent,
    )
    return dict(json.loads(done.stdout))


# ---------------------------------------------------------------------------- command line


def commands() -> dict[str, Any]:
    """Every command and group by the words that are typed for it."""
    from typer.main import get_command

    from edgeface.cli import app

    found: dict[str, Any] = {}

    def walk(command: Any, words: tuple[str, ...]) -> None:
        found[" ".join(words)] = command
        for name, child in getattr(command, "commands", {}).items():
            walk(child, (*words, name))

    walk(get_command(app), ())
    return found


COMMANDS = commands()
LEAVES = [words for words, command in COMMANDS.items() if not hasattr(command, "commands")]


def test_the_commands_are_those_that_users_know() -> None:
    known = {
        "export", "inspect", "verify", "enrol", "identify", "watch", "assets list",
        "assets fetch", "gallery list", "gallery remove",
    }  # fmt: skip
    assert known <= set(LEAVES)


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: words or "edgeface")
def test_every_command_and_every_option_has_help(words: str) -> None:
    from typer.testing import CliRunner

    from edgeface.cli import app

    done = CliRunner().invoke(app, [*words.split(), "--help"])
    assert done.exit_code == 0, done.output
    command = COMMANDS[words]
    assert (command.help or "").strip()
    first = command.help.strip().splitlines()[0]
    assert first.endswith("."), f"the first line is no sentence: {first}"
    for parameter in command.params:
        assert parameter.name == "help" or (getattr(parameter, "help", "") or "").strip(), (
            parameter.name
        )


@pytest.mark.parametrize("words", LEAVES)
def test_every_command_can_print_json(words: str) -> None:
    options = {option for parameter in COMMANDS[words].params for option in parameter.opts}
    assert "--json" in options


@pytest.mark.parametrize(
    "arguments", [["nonsense"], ["export"], ["export", "x", "--nonsense"], ["gallery", "nonsense"]]
)
def test_a_mistake_on_the_command_line_exits_with_two(arguments: list[str]) -> None:
    from typer.testing import CliRunner

    from edgeface.cli import app

    assert CliRunner().invoke(app, arguments).exit_code == 2


def run_module(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "edgeface", *arguments],
        check=False,
        capture_output=True,
        text=True,
        cwd=Path(edgeface.__file__).parent.parent,
    )


def test_the_package_runs_as_a_module_and_lists_its_commands() -> None:
    done = run_module("--help")
    assert (done.returncode, done.stderr) == (0, "")
    for words, command in COMMANDS.items():
        if words and " " not in words and not command.hidden:
            assert f"\n  {words} " in done.stdout


def test_the_installed_script_is_the_same_program() -> None:
    script = Path(sys.executable).parent / "edgeface"
    if not script.exists():
        pytest.skip("edgeface is not installed in this environment")
    done = subprocess.run([script, "--help"], check=True, capture_output=True, text=True)
    assert done.stdout.splitlines()[2:] == run_module("--help").stdout.splitlines()[2:]


def test_an_error_of_ours_is_one_line_and_the_exit_code_two(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    done = run_module("inspect", str(tmp_path / "missing.pt"))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("edgeface: ")
    assert done.stderr.count("\n") == 1
