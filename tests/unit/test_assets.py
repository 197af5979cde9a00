"""Model files: found, checked, fetched."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from edgeface.assets import (
    ASSETS,
    DEFAULT_ASSETS,
    Asset,
    AssetFetcher,
    AssetState,
    FetchOptions,
    FetchSource,
    WheelMember,
    asset_or_stand_in,
    asset_path,
    asset_state,
    cache_folder,
)
from edgeface.assets.download import https_opener
from edgeface.assets.wheel import wheel_members
from edgeface.errors import AssetIntegrityError, AssetMissingError, InvalidInputError
from tests.https_server import OverLocalHttp, Server, running_server

CONTENT = bytes(range(256)) * 400
MEMBER = WheelMember(
    "mediapipe/modules/x/model.tflite", len(CONTENT), hashlib.sha256(CONTENT).hexdigest()
)
ASSET = Asset(
    name="blaze_face_short_range.tflite",
    purpose="a test",
    size_bytes=len(CONTENT),
    sha256=MEMBER.sha256,
    official_url="https://models.test/model.tflite",
    wheel_members=(MEMBER,),
)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, no offline folder, and an asset of the table that is small."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("EDGEFACE_CACHE", str(folder))
    for name in ("EDGEFACE_ASSETS", "EDGEFACE_TEST_DATA", "https_proxy", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setitem(ASSETS, ASSET.name, ASSET)
    return folder


@pytest.fixture
def server() -> Iterator[type[Server]]:
    with running_server(CONTENT) as running:
        yield running


def official(server: type[Server], **changes: object) -> AssetFetcher:
    opener = https_opener()
    handler = OverLocalHttp(server.port)
    handler.add_parent(opener)
    opener.handle_open["https"] = [handler]  # type: ignore[attr-defined]
    options = FetchOptions(source=FetchSource.OFFICIAL, opener=opener)
    return AssetFetcher(replace(options, **changes))  # type: ignore[arg-type]


def leftovers(cache: Path) -> list[str]:
    return sorted(path.name for path in cache.iterdir() if path.name != ASSET.name)


# --- what is on the machine ---


def test_every_asset_is_pinned_by_size_and_full_sha256() -> None:
    for asset in ASSETS.values():
        assert asset.size_bytes > 0
        assert len(bytes.fromhex(asset.sha256)) == 32
        assert asset.official_url is None or asset.official_url.startswith("https://")
        assert asset.stand_in is None or asset.stand_in in ASSETS
    assert set(DEFAULT_ASSETS) <= set(ASSETS)


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(InvalidInputError, match=r"face_landmarker\.task"):
        asset_path("nothing")


def test_a_missing_asset_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.socket", None)
    with pytest.raises(AssetMissingError, match=r"edgeface assets fetch.*EDGEFACE_ASSETS"):
        asset_path(ASSET.name)


def test_the_cache_folder_follows_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("EDGEFACE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "edgeface" / "assets"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "edgeface" / "assets"


@pytest.mark.parametrize("variable", ["EDGEFACE_ASSETS", "EDGEFACE_TEST_DATA"])
@pytest.mark.parametrize("place", [ASSET.name, "models/mediapipe/" + ASSET.name, "model.tflite"])
def test_an_offline_folder_is_used_where_it_lies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, place: str
) -> None:
    file = tmp_path / "stick" / place
    file.parent.mkdir(parents=True)
    file.write_bytes(CONTENT)
    monkeypatch.setenv(variable, str(tmp_path / "stick"))
    assert asset_path(ASSET.name) == file
    assert asset_state(ASSET.name).state is AssetState.OFFLINE


def test_a_damaged_file_is_never_used_and_never_overwritten_offline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: type[Server]
) -> None:
    monkeypatch.setenv("EDGEFACE_ASSETS", str(tmp_path))
    damaged = tmp_path / ASSET.name
    damaged.write_bytes(CONTENT[:-1] + b"!")
    with pytest.raises(AssetIntegrityError, match="was not used"):
        asset_path(ASSET.name)
    with official(server) as fetcher:
        assert fetcher.fetch(ASSET).state is AssetState.CACHED
    assert damaged.read_bytes()[-1:] == b"!"


def test_a_file_changed_after_it_was_checked_is_noticed(cache: Path) -> None:
    cache.mkdir()
    file = cache / ASSET.name
    file.write_bytes(CONTENT)
    assert asset_path(ASSET.name) == file
    file.write_bytes(CONTENT[::-1])
    os.utime(file, ns=(1, 1))
    with pytest.raises(AssetIntegrityError):
        asset_path(ASSET.name)


def test_a_stand_in_is_taken_by_name_only_when_the_asset_is_missing(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ASSETS, "better", replace(ASSET, name="better", stand_in=ASSET.name))
    with pytest.raises(AssetMissingError, match="better"):
        asset_or_stand_in("better")
    cache.mkdir()
    (cache / ASSET.name).write_bytes(CONTENT)
    assert asset_or_stand_in("better").asset.name == ASSET.name
    (cache / "better").write_bytes(b"damaged")
    with pytest.raises(AssetIntegrityError, match="better"):
        asset_or_stand_in("better")


# --- the official address ---


def test_a_fetched_file_is_complete_readable_and_alone(cache: Path, server: type[Server]) -> None:
    seen: list[tuple[int, int]] = []
    with official(server, progress=lambda done, total: seen.append((done, total))) as fetcher:
        path = fetcher.fetch(ASSET).path
    assert path == asset_path(ASSET.name)
    assert path.stat().st_mode & 0o777 == 0o644
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert leftovers(cache) == []


def test_a_cached_file_is_not_fetched_again(cache: Path, server: type[Server]) -> None:
    cache.mkdir()
    (cache / ASSET.name).write_bytes(CONTENT)
    with official(server) as fetcher:
        fetcher.fetch(ASSET)
    assert server.ranges == []


def test_a_damaged_file_in_the_cache_is_replaced(cache: Path, server: type[Server]) -> None:
    cache.mkdir()
    (cache / ASSET.name).write_bytes(b"damaged")
    with official(server) as fetcher:
        fetcher.fetch(ASSET)
    assert (cache / ASSET.name).read_bytes() == CONTENT


def test_a_broken_download_is_resumed(cache: Path, server: type[Server]) -> None:
    server.stop_after = 70_000
    with official(server) as fetcher, pytest.raises(AssetMissingError, match="official"):
        fetcher.fetch(ASSET)
    assert leftovers(cache) == [ASSET.name + ".part"]
    have = (cache / (ASSET.name + ".part")).stat().st_size
    server.stop_after = None
    with official(server) as fetcher:
        fetcher.fetch(ASSET)
    assert server.ranges == [None, f"bytes={have}-"]
    assert 0 < have <= 70_000
    assert leftovers(cache) == []


def test_a_server_that_ignores_the_range_is_read_from_the_start(
    cache: Path, server: type[Server]
) -> None:
    cache.mkdir()
    (cache / (ASSET.name + ".part")).write_bytes(CONTENT[:500])
    server.heed_range = False
    with official(server) as fetcher:
        fetcher.fetch(ASSET)
    assert (cache / ASSET.name).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("served", "part", "reason"),
    [
        pytest.param(CONTENT[::-1], b"", "SHA-256", id="other bytes"),
        pytest.param(CONTENT + b"more", b"", "more than", id="too many"),
        pytest.param(CONTENT, b"wrong start", "SHA-256", id="resumed on a wrong part"),
        pytest.param(b"short", b"wrong start", "416", id="the part is longer than the file"),
    ],
)
def test_wrong_content_is_refused_and_leaves_nothing_behind(
    cache: Path, server: type[Server], served: bytes, part: bytes, reason: str
) -> None:
    cache.mkdir()
    if part:
        (cache / (ASSET.name + ".part")).write_bytes(part)
    server.content = served
    with official(server) as fetcher, pytest.raises(AssetMissingError, match=reason):
        fetcher.fetch(ASSET)
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize("target", ["http://127.0.0.1:1/x", "file:///etc/passwd"])
def test_a_redirection_away_from_https_is_refused(server: type[Server], target: str) -> None:
    server.redirect_to = target
    with official(server) as fetcher, pytest.raises(AssetMissingError, match="official: "):
        fetcher.fetch(ASSET)


def test_an_address_that_is_not_https_is_refused(cache: Path, server: type[Server]) -> None:
    plain = replace(ASSET, official_url="http://models.test/x")
    with official(server) as fetcher, pytest.raises(AssetMissingError, match="not https"):
        fetcher.fetch(plain)
    assert server.ranges == []


def test_many_at_once_all_get_the_whole_file(cache: Path, server: type[Server]) -> None:
    found: list[bytes] = []

    def work() -> None:
        with official(server) as fetcher:
            path = fetcher.fetch(ASSET).path
        assert path is not None
        found.append(path.read_bytes())

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [CONTENT] * 6
    assert leftovers(cache) == []


def test_what_a_dead_process_left_is_removed_after_a_day(cache: Path, server: type[Server]) -> None:
    cache.mkdir()
    old, young = cache / f".{ASSET.name}.aa.part", cache / f".{ASSET.name}.bb.part"
    for path in (old, young):
        path.write_bytes(b"x")
    os.utime(old, (0, 0))
    with official(server) as fetcher:
        fetcher.fetch(ASSET)
    assert leftovers(cache) == [young.name]


# --- the offline folder and the package index ---


def test_the_offline_source_copies_into_the_cache(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEFACE_ASSETS", str(tmp_path))
    (tmp_path / ASSET.name).write_bytes(CONTENT)
    with AssetFetcher(FetchOptions(source=FetchSource.OFFLINE)) as fetcher:
        assert fetcher.fetch(ASSET).path == cache / ASSET.name


def fake_wheel(folder: Path, members: dict[str, bytes]) -> Path:
    wheel = folder / "mediapipe-0.10.21-cp311-cp311-manylinux_2_28_x86_64.whl"
    info = "mediapipe-0.10.21.dist-info/"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
        archive.writestr(
            info + "METADATA", "Metadata-Version: 2.1\nName: mediapipe\nVersion: 0.10.21\n"
        )
        archive.writestr(
            info + "WHEEL", "Wheel-Version: 1.0\nTag: cp311-cp311-manylinux_2_28_x86_64\n"
        )
        archive.writestr(info + "RECORD", "")
    return wheel


def has_pip() -> bool:
    asked = [sys.executable, "-m", "pip", "--version"]
    return subprocess.run(asked, capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not has_pip(), reason="pip is not installed for this Python")
def test_the_package_index_is_asked_through_pip_as_the_user_configured_it(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_wheel(tmp_path, {MEMBER.path: CONTENT})
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with AssetFetcher(FetchOptions(source=FetchSource.INDEX)) as fetcher:
        assert fetcher.fetch(ASSET).path == cache / ASSET.name
    assert (cache / ASSET.name).read_bytes() == CONTENT


@pytest.mark.skipif(not has_pip(), reason="pip is not installed for this Python")
def test_an_index_without_the_wheel_gives_pips_own_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    options = FetchOptions(source=FetchSource.INDEX)
    with AssetFetcher(options) as fetcher, pytest.raises(AssetMissingError, match="No matching"):
        fetcher.fetch(ASSET)


def test_one_wheel_serves_several_assets(tmp_path: Path) -> None:
    asked: list[Path] = []

    def source(folder: Path) -> Path:
        asked.append(folder)
        return fake_wheel(folder, {MEMBER.path: CONTENT})

    with AssetFetcher(FetchOptions(source=FetchSource.INDEX, wheel_source=source)) as fetcher:
        fetcher.fetch(ASSET)
        fetcher.fetch(replace(ASSET, name="second"))
    assert len(asked) == 1
    assert not asked[0].exists()


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        pytest.param({}, "has no", id="absent"),
        pytest.param({MEMBER.path: CONTENT[::-1]}, "SHA-256", id="other bytes"),
        pytest.param({MEMBER.path: CONTENT + bytes(1 << 24)}, "SHA-256", id="far too large"),
    ],
)
def test_a_wheel_with_a_wrong_member_is_refused(
    tmp_path: Path, members: dict[str, bytes], reason: str
) -> None:
    with pytest.raises(AssetIntegrityError, match=reason):
        wheel_members(fake_wheel(tmp_path, members), (MEMBER,))


def test_something_that_is_no_wheel_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.whl").write_bytes(b"<html>sign in</html>")
    with pytest.raises(AssetIntegrityError, match="cannot be read"):
        wheel_members(tmp_path / "x.whl", (MEMBER,))


def test_a_failure_names_every_source_with_its_reason(server: type[Server]) -> None:
    server.content = b"short"

    def no_wheel(folder: Path) -> Path:
        raise AssetMissingError("pip is ill\ntoday")

    changes = {"source": FetchSource.AUTO, "wheel_source": no_wheel}
    with official(server, **changes) as fetcher, pytest.raises(AssetMissingError) as caught:
        fetcher.fetch(ASSET)
    message = str(caught.value)
    assert "\n" not in message
    positions = [message.index(f"{source}: ") for source in ("official", "offline", "index")]
    assert positions == sorted(positions)


def test_the_stand_in_is_fetched_when_the_asset_cannot_be_had() -> None:
    better = replace(ASSET, name="better", official_url=None, wheel_members=(), stand_in=ASSET.name)

    def source(folder: Path) -> Path:
        return fake_wheel(folder, {MEMBER.path: CONTENT})

    options = FetchOptions(source=FetchSource.INDEX, wheel_source=source)
    with AssetFetcher(options) as fetcher:
        assert fetcher.fetch_or_stand_in(better).asset is ASSET
