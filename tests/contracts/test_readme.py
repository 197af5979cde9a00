"""The README: what it tells people to type exists."""

from __future__ import annotations

import re
import shlex
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

BLOCK = re.compile(r"^```(?:bash|sh|console)\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?:|mailto:|#)([^)#\s]+)")


def documents(repository: Path) -> list[Path]:
    return [repository / "README.md", *sorted((repository / "docs").rglob("*.md"))]


def shell_lines(text: str) -> list[list[str]]:
    """The words of every command in the shell blocks of ``text``, without comments."""
    lines = []
    for block in BLOCK.findall(text):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line.removeprefix("$ "), comments=True)
            # Settings for one command may stand before it.
            while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
                words.pop(0)
            if words:
                lines.append(words)
    return lines


def complaint(words: list[str]) -> str:
    """What is wrong with the arguments of ``edgeface``, or an empty string."""
    from typer.main import get_command

    from edgeface.cli import app

    command: Any = get_command(app)
    while hasattr(command, "commands"):
        if not words or words == ["--help"]:
            return ""
        name, *words = words
        if name not in command.commands:
            return f"there is no command {name}"
        command = command.commands[name]
    context = command.context_class(command)
    try:
        values, rest, _ = command.make_parser(context).parse_args(list(words))
    except Exception as error:  # noqa: BLE001 - typer exports no base of its errors
        return str(error) or type(error).__name__
    missing = [p.name for p in command.params if p.required and not values.get(p.name)]
    return f"left over: {rest}" if rest else f"missing: {missing}" if missing else ""


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("", ""),
        ("--help", ""),
        ("inspect model.pt", ""),
        ("inspect model.pt --json", ""),
        ("gallery list --model x.edgeface", ""),
        ("nonsense", "no command nonsense"),
        ("gallery nonsense", "no command nonsense"),
        ("inspect model.pt --nonsense", "--nonsense"),
        ("inspect model.pt other.pt", "left over"),
        ("inspect", "missing"),
        ("export model.pt --output", "requires an argument"),
    ],
)
def test_the_reader_of_command_lines_tells_right_from_wrong(line: str, said: str) -> None:
    found = complaint(line.split())
    assert said in found
    assert bool(found) == bool(said)


def test_every_command_in_the_documents_exists_with_its_options(repository: Path) -> None:
    wrong, seen = [], 0
    for document in documents(repository):
        for words in shell_lines(document.read_text(encoding="utf-8")):
            if words[0] == "edgeface":
                seen += 1
                if said := complaint(words[1:]):
                    wrong.append(f"{document.name}: {' '.join(words)}: {said}")
    assert wrong == []
    assert seen >= 5


def test_the_readme_shows_the_way_from_a_checkpoint_to_a_camera(repository: Path) -> None:
    lines = shell_lines((repository / "README.md").read_text(encoding="utf-8"))
    shown = {words[1] for words in lines if words[0] == "edgeface"}
    assert {"export", "verify", "enrol", "watch"} <= shown


def targets(repository: Path) -> set[str]:
    text = (repository / "Makefile").read_text(encoding="utf-8")
    return set(re.findall(r"^([a-z][\w-]*):", text, flags=re.MULTILINE))


def test_every_make_target_in_the_documents_exists(repository: Path) -> None:
    known = targets(repository)
    named = {
        word
        for document in [*documents(repository), repository / "CONTRIBUTING.md"]
        for words in shell_lines(document.read_text(encoding="utf-8"))
        if words[0] == "make"
        for word in words[1:]
        if "=" not in word and not word.startswith("-")
    }
    contributing = (repository / "CONTRIBUTING.md").read_text(encoding="utf-8")
    named |= set(re.findall(r"`make ([\w-]+)`", contributing))
    assert named <= known
    assert {"demo", "test"} <= named & known


def test_every_target_that_makes_no_file_is_phony(repository: Path) -> None:
    text = (repository / "Makefile").read_text(encoding="utf-8")
    phony = set(" ".join(re.findall(r"^\.PHONY:(.*)$", text, flags=re.MULTILINE)).split())
    assert targets(repository) <= phony


def test_python_in_the_readme_uses_names_that_exist(repository: Path) -> None:
    import edgeface

    text = (repository / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    assert blocks
    for block in blocks:
        compile(block, "README.md", "exec")
        for name in re.findall(r"\bedgeface\.(\w+)", block):
            assert hasattr(edgeface, name) or find_spec(f"edgeface.{name}"), name


def test_the_readme_shows_the_door_in_60_lines_as_it_is(repository: Path) -> None:
    app = (repository / "examples" / "door_unlock" / "app_in_60_lines.py").read_text("utf-8")
    assert len(app.splitlines()) <= 60
    assert f"```python\n{app.rstrip()}\n```" in (repository / "README.md").read_text("utf-8")


def test_every_file_that_a_document_links_to_exists(repository: Path) -> None:
    dead = [
        f"{document.relative_to(repository)}: {target}"
        for document in documents(repository)
        for target in LINK.findall(document.read_text(encoding="utf-8"))
        if not (document.parent / target).exists()
    ]
    assert dead == []


def test_every_document_named_in_the_readme_exists(repository: Path) -> None:
    text = (repository / "README.md").read_text(encoding="utf-8")
    named = set(re.findall(r"\bdocs/[\w./-]*\w", text))
    assert named
    assert [name for name in sorted(named) if not (repository / name).exists()] == []
