"""Which packages are installed, in which versions, and which of them own the same files."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata, util
from pathlib import Path

from edgeface.doctor.findings import Finding, fault, ok, skipped, warning

__all__ = [
    "check_owners",
    "check_platform",
    "check_requirements",
    "check_versions",
    "owners_of_modules",
]

_SHOWN = (
    "edgeface", "numpy", "opencv-contrib-python", "opencv-python", "opencv-python-headless",
    "opencv-contrib-python-headless", "mediapipe", "onnxruntime", "onnxruntime-gpu", "onnx",
    "openvino", "tensorrt", "cryptography", "cuda-python", "torch",
)  # fmt: skip
# Modules that two distributions must not both bring: the later install overwrites the earlier.
_SINGLE = ("cv2", "mediapipe", "numpy", "onnx", "onnxruntime", "openvino", "tensorrt")
_REQUIREMENT = re.compile(
    r"^(?P<name>[A-Za-z0-9._-]+)(?:\[[^\]]*\])?\s*(?P<bounds>[<>=!~][^;]*)?(?:;(?P<marker>.*))?$"
)
_LEAST = re.compile(r">=\s*([0-9.]+)")
_JETPACK_RELEASE = Path("/etc/nv_tegra_release")
_BOARD = Path("/proc/device-tree/model")


def check_versions() -> Finding:
    """Return the versions of the packages that matter to edgeface."""
    found = {name: version for name in _SHOWN if (version := _version(name))}
    return ok("packages", "versions", ", ".join(f"{name} {found[name]}" for name in found))


def owners_of_modules(
    modules: Iterable[str] = _SINGLE, owners: Mapping[str, Sequence[str]] | None = None
) -> dict[str, tuple[str, ...]]:
    """Return the distributions that bring each of ``modules``, those that are installed."""
    table = metadata.packages_distributions() if owners is None else owners
    return {name: tuple(sorted(set(table[name]))) for name in modules if name in table}


def check_owners(owners: Mapping[str, Sequence[str]] | None = None) -> list[Finding]:
    """Return one finding for each module that several distributions own; else that none is."""
    found = owners_of_modules(owners=owners)
    doubled = {name: dists for name, dists in found.items() if len(dists) > 1}
    findings = [_doubled(name, dists) for name, dists in doubled.items()]
    findings += _foreign_opencv(found.get("cv2", ()))
    if not doubled:
        findings.append(
            ok("packages", "owners", f"one distribution for each of {', '.join(found) or 'none'}")
        )
    return findings


def _doubled(module: str, distributions: Sequence[str]) -> Finding:
    keep = _KEPT.get(module, distributions[0])
    others = " ".join(name for name in distributions if name != keep)
    return fault(
        "packages",
        f"module {module}",
        f"installed by {' and '.join(distributions)}, which overwrite each other's files",
        wanted=f"one distribution that brings {module}",
        fix=f"pip uninstall -y {' '.join(distributions)} && pip install {keep}"
        if others
        else f"pip install --force-reinstall {keep}",
    )


# What mediapipe requires, and what runs everywhere.
_KEPT = {"cv2": "opencv-contrib-python", "onnxruntime": "onnxruntime"}


def _foreign_opencv(owners: Sequence[str]) -> list[Finding]:
    """Return a warning when the OpenCV that is imported comes from no Python package."""
    spec = util.find_spec("cv2")
    if spec is None or owners:
        return []
    return [
        warning(
            "packages",
            "module cv2",
            f"comes from {spec.origin}, which no Python package installed",
            wanted="the OpenCV of opencv-contrib-python, or a system build that you meant to use",
            fix="keep it if it is JetPack's build with GStreamer; else remove it, and run "
            "pip install opencv-contrib-python",
        )
    ]


def check_requirements(requirements: Sequence[str] | None = None) -> list[Finding]:
    """Return what is installed in a version that edgeface does not support."""
    if requirements is None:
        try:
            requirements = metadata.requires("edgeface") or ()
        except metadata.PackageNotFoundError:
            return [skipped("packages", "requirements", "edgeface itself is not installed by pip")]
    old = sorted({text for text in map(_too_old, requirements) if text})
    if not old:
        return [ok("packages", "requirements", "every installed package is recent enough")]
    names = " ".join(f"'{text.split(' is ')[0]}'" for text in old)
    return [
        fault(
            "packages",
            "requirements",
            "; ".join(old),
            wanted="the versions that edgeface requires",
            fix=f"pip install --upgrade {names}",
        )
    ]


def _too_old(requirement: str) -> str:
    """Return a sentence when the installed package is older than ``requirement`` allows."""
    match = _REQUIREMENT.match(requirement)
    least = _LEAST.search(match.group("bounds") or "") if match else None
    version = _version(match.group("name")) if match else None
    if match is None or least is None or version is None:
        return ""
    if _numbers(version) >= _numbers(least.group(1)):
        return ""
    return f"{match.group('name')} is {version}, wanted {least.group(1)} or later"


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version.split("+")[0])[:4])


def check_platform(
    release: Path = _JETPACK_RELEASE, board: Path = _BOARD, tensorrt: str | None = None
) -> list[Finding]:
    """Return what is known of a Jetson and its TensorRT; on other machines of TensorRT alone."""
    tensorrt = tensorrt or _version("tensorrt")
    findings = [_tensorrt(tensorrt)]
    text = _first_line(release)
    if not text:
        return [*findings, skipped("jetson", "JetPack", "this is no Jetson")]
    match = re.search(r"R(\d+).*?REVISION:\s*([\d.]+)", text)
    name = f"L4T {match.group(1)}.{match.group(2)}" if match else text[:60]
    got = f"{name} on {_first_line(board)[:60] or 'an unnamed board'}"
    findings.append(ok("jetson", "JetPack", got))
    spec = util.find_spec("tensorrt")
    if spec is None:
        findings.append(
            warning(
                "jetson",
                "TensorRT of JetPack",
                "Python does not find it",
                wanted="JetPack's own tensorrt package, which fits its driver",
                fix="make the virtual environment with --system-site-packages",
            )
        )
    return findings


def _tensorrt(version: str | None) -> Finding:
    if version is None:
        return skipped("tensorrt", "package", "not installed; the CPU engines do not need it")
    return ok("tensorrt", "package", f"tensorrt {version}")


def _first_line(path: Path) -> str:
    try:
        return (path.read_bytes()[:4096].decode("utf-8", "replace").splitlines() or [""])[0].rstrip(
            "\0"
        )
    except OSError:
        return ""


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None
