"""All checks in their order, and the report that they make up."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from edgeface.assets import DEFAULT_ASSETS, asset_or_stand_in
from edgeface.default_model import default_bundle_path
from edgeface.doctor.child import run_probe
from edgeface.doctor.door import check_door
from edgeface.doctor.findings import CheckState, Finding, fault, ok, worst
from edgeface.doctor.gpio import check_gpio
from edgeface.doctor.host import (
    check_clock,
    check_disk,
    check_processors,
    check_python,
    check_temperature,
)
from edgeface.doctor.packages import (
    check_owners,
    check_platform,
    check_requirements,
    check_versions,
)
from edgeface.doctor.trust import check_bundle, check_key_folders
from edgeface.errors import AssetError
from edgeface.folders import cache_folder

__all__ = ["DoctorOptions", "DoctorReport", "examine"]

# A slow board takes half a minute to import MediaPipe from an SD card; choosing an engine takes
# seconds, and TensorRT minutes where it has to build.
_LOAD_TIMEOUT_S, _ENGINE_TIMEOUT_S, _CAMERA_TIMEOUT_S = 120.0, 600.0, 90.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DoctorOptions:
    """What to examine beside the machine; None leaves it out, or takes the package's own bundle."""

    source: str | None = None
    bundle: Path | None = None
    gallery: Path | None = None
    door: Path | None = None


@dataclass(frozen=True, slots=True)
class DoctorReport:
    """Every finding, in the order of the checks."""

    findings: tuple[Finding, ...]
    options: DoctorOptions = field(default_factory=DoctorOptions)

    @property
    def state(self) -> CheckState:
        """The worst state of all."""
        return worst(self.findings)

    def exit_code(self, *, strict: bool = False) -> int:
        """Return 1 when there is a fault, or a warning too with ``strict``; else 0."""
        failing = {CheckState.FAULT, CheckState.WARNING} if strict else {CheckState.FAULT}
        return 1 if self.state in failing else 0


def examine(options: DoctorOptions | None = None) -> Iterator[Finding]:
    """Yield every finding as soon as it is there; nothing is changed on this machine.

    Stages that load native code run in processes of their own, so that one that crashes is a
    finding and not the end. No check raises for what it finds.
    """
    options = options or DoctorOptions()
    bundle = options.bundle or default_bundle_path()
    yield check_python()
    yield check_versions()
    yield from check_requirements()
    yield from check_owners()
    yield from check_platform()
    yield from run_probe("imports", {}, timeout_s=_LOAD_TIMEOUT_S)
    yield _assets()
    yield from run_probe("detector", {}, timeout_s=_LOAD_TIMEOUT_S)
    bundle_findings = check_bundle(bundle)
    yield from bundle_findings
    if worst(bundle_findings[:1]) is not CheckState.FAULT:
        yield from run_probe("engines", {"bundle": str(bundle)}, timeout_s=_ENGINE_TIMEOUT_S)
    yield from _camera(options)
    yield from _gallery(options, bundle)
    yield from _door(options)
    yield from check_key_folders()
    yield from check_clock()
    yield from check_disk(_folders(options))
    yield check_temperature()
    yield from check_processors()
    yield check_gpio()


def _assets() -> Finding:
    what = "model files of detection"
    try:
        found = [asset_or_stand_in(name) for name in DEFAULT_ASSETS]
    except AssetError as exc:
        return fault(
            "assets",
            what,
            str(exc),
            wanted="files with the pinned SHA-256",
            fix="edgeface assets fetch",
        )
    stand_ins = [one.asset.name for one in found if one.asset.name not in DEFAULT_ASSETS]
    got = f"{len(found)} files with pinned hashes"
    return ok("assets", what, got + (f", stand-ins: {', '.join(stand_ins)}" if stand_ins else ""))


def _camera(options: DoctorOptions) -> list[Finding]:
    if options.source is None:
        why = "no source was named; give --source 0, or an address"
        return [Finding("camera", "frames", CheckState.SKIPPED, why)]
    return run_probe("camera", {"source": options.source}, timeout_s=_CAMERA_TIMEOUT_S)


def _gallery(options: DoctorOptions, bundle: Path) -> list[Finding]:
    if options.gallery is None:
        why = "no gallery was named; give --gallery FILE"
        return [Finding("gallery", "opens", CheckState.SKIPPED, why)]
    arguments = {"path": str(options.gallery), "bundle": str(bundle)}
    return run_probe("gallery", arguments, timeout_s=_LOAD_TIMEOUT_S)


def _door(options: DoctorOptions) -> list[Finding]:
    if options.door is None:
        why = "no folder of a door was named; give --door FOLDER"
        return [Finding("door", "folder", CheckState.SKIPPED, why)]
    return check_door(options.door)


def _folders(options: DoctorOptions) -> dict[str, Path]:
    folders = {"cache": cache_folder()}
    if options.gallery is not None:
        folders["folder of the gallery"] = options.gallery.absolute().parent
    if options.door is not None:
        folders["folder of the door"] = options.door.absolute()
    return folders
