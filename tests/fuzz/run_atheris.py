"""Fuzz one target with atheris: ``python tests/fuzz/run_atheris.py image -max_total_time=1200``.

Options after the target are libFuzzer's. What is found is written to the working folder as
``crash-…``; put a small form of it into the target's corpus when it is fixed.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import atheris

with atheris.instrument_imports(include=["edgeface"]):
    from tests.fuzz.targets import TARGETS, seeds


def main(arguments: list[str]) -> None:
    if not arguments or arguments[0] not in TARGETS:
        sys.exit(f"usage: run_atheris.py {'|'.join(TARGETS)} [options of libFuzzer]")
    target, *options = arguments
    with tempfile.TemporaryDirectory() as folder:
        for number, content in enumerate(seeds(target)):
            (Path(folder) / f"seed-{number}").write_bytes(content)
        atheris.Setup([sys.argv[0], *options, folder], TARGETS[target])
        atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1:])
