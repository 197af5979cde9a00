"""Findings as text for the terminal, and as a report without personal data to hand on."""

from __future__ import annotations

import contextlib
import getpass
import re
import socket
from collections.abc import Sequence
from pathlib import Path

from edgeface._version import __version__
from edgeface.doctor.examination import DoctorOptions
from edgeface.doctor.findings import CheckState, Finding, worst

__all__ = ["Redaction", "as_markdown", "as_text"]

_LABELS = {
    CheckState.OK: "ok",
    CheckState.SKIPPED: "-",
    CheckState.WARNING: "WARNING",
    CheckState.FAULT: "FAULT",
}
# What is quoted is somebody's word: names of people and cameras, users, passwords. Kept are the
# names of packages, which say what is broken.
_QUOTED = re.compile(r"(?<!\w)'.*?'(?!\w)|\"[^\"]*\"")
_KEPT_QUOTED = re.compile(
    r"['\"](?:edgeface|cv2|numpy|mediapipe|onnx|onnxruntime|openvino|tensorrt|cryptography|google|"
    r"_?ctypes|usearch|numkong)(?:[.\[_-][\w.\[\],-]*)?['\"]"
)
# Hosts end in letters; so do files, of which these help.
_HOST = re.compile(
    r"(?<![\w.'\"-])(?:[\w-]{2,}\.)+(?!(?:so|dll|dylib|py|pyd|onnx|task|tflite|json|toml|db|key|sealed|"
    r"log|head)\b)[A-Za-z]{2,}(?![\w.(])"
)
# In this order: an address may hold what looks like a path.
_PATTERNS = (
    (re.compile(r"\b[a-z][a-z0-9+.-]*://\S+", re.IGNORECASE), "<address>"),
    (re.compile(r"\b(?:[0-9A-Fa-f]{2}[:-]){5}[0-9A-Fa-f]{2}\b"), "<hardware address>"),
    (re.compile(r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?!\w|\.\w)"), "<address>"),
    (re.compile(r"(?<![\w:])(?:[0-9A-Fa-f]{1,4}:){3,7}[0-9A-Fa-f]{0,4}(?!\w|:\w)"), "<address>"),
    (re.compile(r"(?<![\w:])[0-9A-Fa-f:]*::[0-9A-Fa-f:]*(?:%\w+)?(?!\w)"), "<address>"),
    (re.compile(r"\b[\w.+-]+@[\w-]+\.[\w.-]+\b"), "<address>"),
    (re.compile(r"\b(?:GPU-)?[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", re.I), "<serial>"),
    (re.compile(r"\b(?:serial|s/n)\b\W*\w+", re.IGNORECASE), "<serial>"),
    # A long hash tells models and galleries of one owner apart from those of others.
    (re.compile(r"\b[0-9a-f]{16,}\b"), "<hash>"),
    # A space may be of the path where a separator or the end of a file's name follows in the same
    # part of the sentence.
    (
        re.compile(
            r"(?<![\w<])(?:~|[A-Za-z]:)?[/\\](?=\S)"
            r"(?:[^\s,;:'\")]| (?=[^,;:'\")]*[^\s,;:'\")<](?:[/\\]|\.[a-z]{2,9}\d?\b)))+"
        ),
        "<path>",
    ),
    (_HOST, "<address>"),
)


class Redaction:
    """Takes out of a text what tells whose machine it is.

    Paths, addresses, hardware addresses, serial numbers and hashes go by their form, and so does
    what is quoted, such as names of people and cameras; the names of the user and the host, and
    what was given on the command line, as they are.
    """

    def __init__(self, known: Sequence[str] | None = None) -> None:
        words = _own_words() if known is None else known
        # The longest first, or a part of it would stay.
        self._known = sorted({word for word in words if len(word) > 1}, key=len, reverse=True)

    @classmethod
    def of(cls, options: DoctorOptions) -> Redaction:
        """Return the redaction for a report with these options."""
        given = [options.source or ""]
        for path in (options.bundle, options.gallery, options.door):
            if path is not None:
                given += [str(path), str(path.absolute()), path.name, path.stem]
        return cls([*_own_words(), *given])

    def __call__(self, text: str) -> str:
        """Return ``text`` without them."""
        text = _QUOTED.sub(_without_word, text)
        for word in self._known:
            # A known folder of a longer path goes with that path.
            form = rf"(?<!\w){re.escape(word)}(?![\w/\\]| [^,;:'\")]*[/\\])(?:\.[A-Za-z][\w-]*)*"
            text = re.sub(form, "<name>", text, flags=re.IGNORECASE)
        for pattern, instead in _PATTERNS:
            text = pattern.sub(instead, text)
        # A line of Markdown must stay one cell.
        return " ".join(text.replace("|", "/").replace("`", "'").split())


def _without_word(found: re.Match[str]) -> str:
    """Return what stands for something quoted."""
    text = found.group()
    if _KEPT_QUOTED.fullmatch(text):
        return text
    return "<path>" if re.match(r"['\"](?:/|[A-Za-z]:\\|~)", text) else "<text>"


def _own_words() -> list[str]:
    words = [str(Path.home()), str(Path.cwd()), Path.home().name]
    # A process without a known user, or a host without a name, has none to hide.
    with contextlib.suppress(OSError, KeyError, ImportError):
        words.append(getpass.getuser())
    with contextlib.suppress(OSError):
        words += [socket.gethostname(), socket.gethostname().split(".")[0]]
    return [word for word in words if word not in ("/", "root", "localhost")]


def as_text(finding: Finding) -> str:
    """Return ``finding`` as lines for the terminal."""
    head = f"{_LABELS[finding.state]:<8}{finding.name}, {finding.what}: {finding.got}"
    if not finding.fix:
        return head
    return f"{head}\n        wanted: {finding.wanted}\n        fix: {finding.fix}"


def as_markdown(findings: Sequence[Finding], redact: Redaction) -> str:
    """Return a report to paste into an issue; every text goes through ``redact``."""
    lines = [
        f"### edgeface doctor: {worst(findings).value}",
        "",
        f"edgeface {__version__}; without paths, addresses, names, serial numbers and hashes",
        "",
        "| | check | found | wanted |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {_LABELS[one.state]} | {one.name}: {redact(one.what)} | {_got(one, redact)} "
        f"| {redact(one.wanted)} |"
        for one in findings
    ]
    return "\n".join(lines)


def _got(finding: Finding, redact: Redaction) -> str:
    # Only names and versions of known packages, some of which look like an address (4.10.0.84).
    return finding.got if finding.what == "versions" else redact(finding.got)
