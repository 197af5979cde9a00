"""A fleet over the embedded Milvus, which stands in for a cluster."""

from __future__ import annotations

import contextlib
import importlib.util
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edgeface.errors import (
    FleetUnavailableError,
    GalleryIntegrityError,
    InvalidInputError,
    MissingDependencyError,
)
from edgeface.gallery import SqliteGallery
from edgeface.gallery.fleet import FleetGallery, FleetKey, FleetOptions, MilvusAddress, MilvusServer
from edgeface.gallery.sealing import new_key
from edgeface.types import Template
from tests.integration.fleet_proxy import CuttingProxy

MODEL, SIZE = "c" * 64, 128
pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def template(seed: int) -> Template:
    vector = np.random.default_rng(seed).standard_normal(SIZE)
    return Template((vector / np.linalg.norm(vector)).astype(np.float32), MODEL, 0.5)


def contents(gallery: FleetGallery) -> dict[str, object]:
    return {
        person.name: (
            person.created_at,
            person.active,
            sorted(row.vector.tobytes() for row in gallery.templates(person.name)),
        )
        for person in gallery.subjects()
    }


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


@pytest.fixture(scope="module")
def milvus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of an embedded Milvus in a process of its own."""
    for package in ("pymilvus", "milvus_lite"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed: pip install 'edgeface[fleet]' milvus-lite")
    port, folder = free_port(), tmp_path_factory.mktemp("milvus")
    command = [sys.executable, "-m", "milvus_lite", "server", "--host", "127.0.0.1"]
    with (folder / "log.txt").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--data-dir", str(folder / "data"), "--port", str(port)],
            stdout=log,
            stderr=log,
        )
    try:
        for _ in range(300):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            if process.poll() is not None:
                pytest.skip("the embedded Milvus does not start here")
            time.sleep(0.1)
        yield port
    finally:
        process.terminate()
        process.wait(timeout=20)


@pytest.fixture
def proxy(milvus: int) -> Iterator[CuttingProxy]:
    found = CuttingProxy(milvus)
    yield found
    found.close()


def open_device(
    path: Path, port: int, key: FleetKey | None, *, timeout_s: float = 10.0
) -> FleetGallery:
    address = MilvusAddress(uri=f"http://127.0.0.1:{port}", timeout_s=timeout_s)
    return FleetGallery.open(
        path, FleetOptions(address=address, key=key), model_id=MODEL, embedding_size=SIZE
    )


@pytest.fixture
def key() -> FleetKey:
    """Every test has a fleet, and so a collection, of its own."""
    return FleetKey(new_key())


def test_two_devices_exchange_their_people(milvus: int, key: FleetKey, tmp_path: Path) -> None:
    with (
        open_device(tmp_path / "one.db", milvus, key) as one,
        open_device(tmp_path / "two.db", milvus, key) as two,
    ):
        one.add("ann", [template(1), template(2)])
        two.add("bob", [template(3)])
        for device in (one, two, one):
            device.sync()
        assert contents(one) == contents(two)
        assert two.search(template(2))[0].subject == "ann"
        one.rename("bob", "bobby")
        two.forget("ann")
        for device in (one, two, one):
            device.sync()
        assert contents(one) == contents(two)
        assert list(contents(one)) == ["bobby"]
        assert not two.sync().changed_something
        stamps = MilvusServer(two._server._address, key, MODEL).stamps()  # type: ignore[attr-defined]
        kinds = sorted(stamp.kind for stamp in stamps)
        assert kinds == ["forgotten", "person", "person", "template"]


def test_a_fleet_is_joined_once(milvus: int, key: FleetKey, tmp_path: Path) -> None:
    with open_device(tmp_path / "one.db", milvus, key) as one:
        one.add("ann", [template(1)])
        one.sync()
    with open_device(tmp_path / "one.db", milvus, None) as again:
        assert not again.sync().changed_something


def test_more_people_than_one_answer_holds(
    milvus: int, key: FleetKey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgeface.gallery.fleet.milvus._STAMPS_AT_ONCE", 90)
    with (
        open_device(tmp_path / "one.db", milvus, key, timeout_s=60) as one,
        open_device(tmp_path / "two.db", milvus, key, timeout_s=60) as two,
    ):
        for number in range(150):
            one.add(f"p{number}", [template(number)])
        assert one.sync().sent == 150
        assert two.sync().added == 150
        assert contents(one) == contents(two)


@pytest.mark.slow
def test_a_line_cut_after_any_number_of_bytes_loses_nothing(
    milvus: int, proxy: CuttingProxy, tmp_path: Path
) -> None:
    cut_at, was_cut, tried = 200, True, 0
    while was_cut:
        key, folder = FleetKey(new_key()), tmp_path / f"{cut_at}"
        folder.mkdir()
        tried += 1
        with (
            open_device(folder / "one.db", proxy.port, key, timeout_s=5) as one,
            open_device(folder / "two.db", milvus, key) as two,
        ):
            for name in ("ann", "bob", "carl"):
                two.add(name, [template(len(name)), template(50)])
            two.sync()
            one.sync()
            for number in range(12):
                one.add(f"p{number}", [template(number), template(100 + number)])
            one.forget("ann")
            one.rename("bob", "bobby")
            two.add("p3", [template(200)])
            proxy.cut_after(cut_at)
            was_cut = False
            try:
                one.sync()
            except FleetUnavailableError:
                was_cut = True
            two.sync()
            proxy.cut_after(None)
            for device in (one, two, one, two):
                device.sync()
            assert contents(one) == contents(two)
            names = [name.partition(" (")[0] for name in contents(one)]
            assert sorted(names) == sorted(
                ["bobby", "carl", "p3", *(f"p{number}" for number in range(12))]
            )
        cut_at = cut_at * 5 // 4 + 300
    assert tried > 8


def test_a_line_cut_in_the_middle_of_an_exchange_loses_nothing(
    milvus: int, proxy: CuttingProxy, key: FleetKey, tmp_path: Path
) -> None:
    with (
        open_device(tmp_path / "one.db", proxy.port, key, timeout_s=5) as one,
        open_device(tmp_path / "two.db", milvus, key) as two,
    ):
        one.sync()
        for number in range(20):
            one.add(f"p{number}", [template(number)])
        two.add("ann", [template(70)])
        two.sync()
        proxy.cut_after(20_000)
        with pytest.raises(FleetUnavailableError):
            one.sync()
        assert one.search(template(3))[0].subject == "p3"
        proxy.cut_after(None)
        for device in (one, two, one):
            device.sync()
        assert contents(one) == contents(two)
        assert len(contents(one)) == 21


def test_a_server_that_does_not_answer_is_given_up_in_time(
    proxy: CuttingProxy, key: FleetKey, tmp_path: Path
) -> None:
    proxy.is_silent = True
    with open_device(tmp_path / "one.db", proxy.port, key, timeout_s=1.0) as one:
        one.add("ann", [template(1)])
        one.start()
        for _ in range(100):
            if one.status.error is not None:
                break
            # The background waits for the server; nobody else does.
            assert one.search(template(1))[0].subject == "ann"
            time.sleep(0.1)
        assert isinstance(one.status.error, FleetUnavailableError)


def test_closing_does_not_wait_for_the_server(
    proxy: CuttingProxy, key: FleetKey, tmp_path: Path
) -> None:
    proxy.is_silent = True
    one = open_device(tmp_path / "one.db", proxy.port, key, timeout_s=60.0)
    one.start()
    time.sleep(0.5)
    started = time.monotonic()
    one.close()
    # Far below the time-out of the server, far above what a busy machine takes.
    assert time.monotonic() - started < 30.0


def test_no_server_at_all_is_a_typed_error(key: FleetKey, tmp_path: Path, milvus: int) -> None:
    with (
        open_device(tmp_path / "one.db", free_port(), key, timeout_s=1.0) as one,
        pytest.raises(FleetUnavailableError, match="own replica"),
    ):
        one.sync()


def test_the_embedded_milvus_is_opened_by_its_file(
    key: FleetKey, tmp_path: Path, milvus: int
) -> None:
    address = MilvusAddress(uri=str(tmp_path / "fleet.db"))
    options = FleetOptions(address=address, key=key)
    with FleetGallery.open(
        tmp_path / "one.db", options, model_id=MODEL, embedding_size=SIZE
    ) as one:
        one.add("ann", [template(1)])
        assert one.sync().sent == 1


def test_rows_changed_at_the_server_are_refused(milvus: int, key: FleetKey, tmp_path: Path) -> None:
    from pymilvus import MilvusClient

    with (
        open_device(tmp_path / "one.db", milvus, key) as one,
        open_device(tmp_path / "two.db", milvus, key) as two,
    ):
        one.add("ann", [template(1)])
        one.sync()
        server = MilvusServer(MilvusAddress(uri=f"http://127.0.0.1:{milvus}"), key, MODEL)
        client = MilvusClient(f"http://127.0.0.1:{milvus}")
        (row,) = client.query(server.collection, filter='kind == "person"', output_fields=["*"])
        client.upsert(server.collection, [{**row, "clock": 7}])
        with pytest.raises(GalleryIntegrityError):
            two.sync()
        client.upsert(server.collection, [{**row, "payload": "not base64!"}])
        with pytest.raises(GalleryIntegrityError):
            two.sync()
        client.upsert(server.collection, [row])
        client.close()
        assert two.sync().added == 1


@pytest.mark.parametrize("uri", ["", "milvus", "ftp://host", "host:19530"])
def test_an_address_that_is_none_is_refused(uri: str) -> None:
    with pytest.raises(InvalidInputError, match="https://"):
        MilvusAddress(uri=uri)


def test_a_missing_package_is_named(
    key: FleetKey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pymilvus", None)
    with (
        open_device(tmp_path / "one.db", 1, key) as one,
        pytest.raises(MissingDependencyError, match="fleet"),
    ):
        one.sync()


def test_a_missing_embedded_milvus_is_named(
    key: FleetKey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pymilvus")
    monkeypatch.setitem(sys.modules, "milvus_lite", None)
    options = FleetOptions(address=MilvusAddress(uri=str(tmp_path / "fleet.db")), key=key)
    with (
        FleetGallery.open(tmp_path / "one.db", options, model_id=MODEL, embedding_size=SIZE) as one,
        pytest.raises(FleetUnavailableError, match="pip install milvus-lite"),
    ):
        one.sync()


def test_the_gallery_is_a_replica_that_the_plain_gallery_opens(
    key: FleetKey, tmp_path: Path
) -> None:
    with open_device(tmp_path / "one.db", 1, key) as one:
        one.add("ann", [template(1)])
    with SqliteGallery.open(
        tmp_path / "one.db", model_id=MODEL, embedding_size=SIZE, create=False
    ) as plain:
        assert plain.search(template(1))[0].subject == "ann"
