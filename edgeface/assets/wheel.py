"""Model files out of a wheel that pip brings from the user's own package index."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path

from edgeface.assets.table import MEDIAPIPE_WHEEL, WheelMember
from edgeface.errors import AssetIntegrityError, AssetMissingError

__all__ = ["download_wheel", "wheel_members"]

_TIMEOUT_S = 900.0
# Any wheel of the release carries the same model files; one is asked for whatever this machine is.
_ANY_MACHINE = (
    *("--python-version", "3.11", "--implementation", "cp", "--abi", "cp311"),
    *("--platform", "manylinux_2_28_x86_64"),
)


def download_wheel(folder: Path) -> Path:
    """Return the path of the wheel of ``MEDIAPIPE_WHEEL``, put into ``folder`` by pip.

    The user's own configuration of pip decides where it comes from. Nothing of it is installed
    or run. pip runs in ``folder``, so that no module of the working directory is taken for it.

    Raises:
        AssetMissingError: pip is not there, or found no such wheel; gives its last words.
    """
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    command += ["--quiet", "--no-input", "--disable-pip-version-check"]
    command += [*_ANY_MACHINE, "--dest", str(folder), MEDIAPIPE_WHEEL]
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise AssetMissingError(f"pip could not be run: {error}") from error
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode != 0 or not wheels:
        lines = done.stderr.strip().splitlines() or ["it gave no reason"]
        raise AssetMissingError(f"pip could not download {MEDIAPIPE_WHEEL}: {lines[-1]}")
    return wheels[0]


def wheel_members(wheel: Path, members: tuple[WheelMember, ...]) -> dict[str, bytes]:
    """Return the content of each of ``members`` by its file name, every one checked.

    Raises:
        AssetIntegrityError: The wheel cannot be read, or a member is not the pinned one.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            return {member.name: _read_member(archive, member) for member in members}
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as error:
        raise AssetIntegrityError(f"{wheel.name} cannot be read: {error}") from error


def _read_member(archive: zipfile.ZipFile, member: WheelMember) -> bytes:
    """Return one member; never reads more than its pinned size, whatever the archive claims."""
    try:
        with archive.open(member.path) as file:
            content = file.read(member.size_bytes + 1)
    except KeyError as error:
        raise AssetIntegrityError(f"the wheel has no {member.path}") from error
    if hashlib.sha256(content).hexdigest() != member.sha256:
        raise AssetIntegrityError(f"{member.path} of the wheel has not the pinned SHA-256")
    return content
