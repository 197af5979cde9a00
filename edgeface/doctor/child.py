"""Runs a probe in a process of its own: native code that crashes ends that process alone."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any

from edgeface.doctor.findings import CheckState, Finding, fault
from edgeface.errors import EdgefaceError

__all__ = ["main", "run_probe"]

_MARK = "edgeface-doctor:"
_PROBES = "edgeface.doctor.probes"
# With -c and -m Python looks into the working directory first, where a file may bear the name of a
# package; -P, which stops that, came with 3.11. The folder of this package comes last: it is known
# already where it is installed.
_START = """
import sys
def is_elsewhere(folder):
    import os
    return folder and os.path.realpath(folder) != os.path.realpath(".")
sys.path[:] = [*filter(is_elsewhere, sys.path), sys.argv[1]]
from edgeface.doctor.child import main
main(sys.argv[2])
"""


def run_probe(probe: str, arguments: Mapping[str, Any], *, timeout_s: float) -> list[Finding]:
    """Return what the function ``probe`` of :mod:`edgeface.doctor.probes` found.

    ``arguments`` are JSON values. A process that dies or hangs is a fault, and so is an error that
    the probe did not expect.
    """
    command = [sys.executable, "-c", _START, str(Path(__file__).parents[2]), probe]
    try:
        done = subprocess.run(
            command,
            input=json.dumps(dict(arguments)),
            check=False,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
        )
    except subprocess.TimeoutExpired:
        return [_broken(probe, f"no answer within {timeout_s:.0f} s")]
    line = next((one for one in done.stdout.splitlines() if one.startswith(_MARK)), None)
    if line is None:
        return [_broken(probe, _end_of(done))]
    return [
        Finding(**{**entry, "state": CheckState(entry["state"])})
        for entry in json.loads(line[len(_MARK) :])
    ]


def main(probe: str) -> None:
    """Run ``probe`` with the arguments on stdin, and print what it found."""
    arguments = json.loads(sys.stdin.read())
    function = getattr(import_module(_PROBES), probe)
    try:
        findings = function(**arguments)
    except EdgefaceError as exc:
        findings = [
            fault(
                probe,
                type(exc).__name__,
                str(exc),
                wanted="a stage that runs",
                fix="do what the message says",
            )
        ]
    sys.stdout.write(f"\n{_MARK}{json.dumps([asdict(finding) for finding in findings])}\n")
    sys.stdout.flush()


def _end_of(done: subprocess.CompletedProcess[str]) -> str:
    """Return how a process ended that said nothing."""
    if done.returncode < 0:
        try:
            name = signal.Signals(-done.returncode).name
        except ValueError:
            name = f"signal {-done.returncode}"
        hint = ": the processor lacks an instruction that a package uses" if "ILL" in name else ""
        return f"its process was ended by {name}{hint}"
    last = (done.stderr.strip().splitlines() or ["nothing"])[-1]
    return f"its process ended with {done.returncode} and said: {last[:300]}"


def _broken(probe: str, got: str) -> Finding:
    return fault(
        probe,
        "process",
        got,
        wanted="an answer",
        fix="reinstall the packages of this stage (pip install --force-reinstall 'edgeface[cpu]') "
        "and send in the report of `edgeface doctor --report`",
    )
