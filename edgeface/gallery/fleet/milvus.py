"""A fleet's server that is Milvus: a cluster, or the embedded one of a test.

Milvus wants a vector in every row and searches by it. Here it is two zeros: the templates are
sealed, and the replica of each device answers its searches.
"""

from __future__ import annotations

import base64
import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from edgeface.errors import (
    FleetUnavailableError,
    GalleryFormatError,
    GalleryIntegrityError,
    InvalidInputError,
    MissingDependencyError,
)
from edgeface.gallery.fleet.key import FleetKey
from edgeface.gallery.fleet.rows import FleetRow, RowStamp

__all__ = ["MilvusAddress", "MilvusServer"]

_Result = TypeVar("_Result")
_NAME_LENGTH, _MODEL_LENGTH, _KIND_LENGTH = 64, 128, 16
# The most that Milvus takes in a text field.
_MAX_PAYLOAD_LENGTH = 65_535
# Milvus gives at most 16,384 rows in one answer; gRPC carries 64 MB.
_STAMPS_AT_ONCE, _ROWS_AT_ONCE = 4096, 128
_STAMP_FIELDS = ["key", "person", "kind", "clock", "device", "model", "tag"]
_NO_VECTOR = [0.0, 0.0]


@dataclass(frozen=True, slots=True, kw_only=True)
class MilvusAddress:
    """Where the server of a fleet is.

    ``uri`` is ``https://host:19530`` (``http://`` without TLS), or the path of a file that ends
    with ``.db`` for the embedded Milvus. ``token`` is ``user:password`` or an API key. Nothing
    waits longer than ``timeout_s`` for an answer.
    """

    uri: str
    token: str = field(default="", repr=False)
    timeout_s: float = 10.0

    def __post_init__(self) -> None:
        if not self.uri.startswith(("http://", "https://")) and not self.uri.endswith(".db"):
            raise InvalidInputError(
                f"the address of a fleet's server is https://HOST:PORT, or a file that ends with "
                f".db for the embedded Milvus, got {self.uri!r}"
            )
        if not 0.0 < self.timeout_s <= 600.0:
            raise InvalidInputError(f"timeout_s must be in 0..600, got {self.timeout_s}")

    @property
    def notice(self) -> str:
        """What the user should know about the connection; empty where there is nothing."""
        if self.token and self.uri.startswith("http://"):
            return "the token of the fleet's server goes over the network unencrypted; use https://"
        return ""


class MilvusServer:
    """A :class:`~edgeface.gallery.fleet.server.FleetServer` in one collection of Milvus.

    It is connected at the first use, so that a device starts without its network.
    """

    def __init__(self, address: MilvusAddress, key: FleetKey, model_id: str) -> None:
        self._address = address
        self.collection = f"edgeface_{key.fleet_id[:16]}_{model_id[:12]}"
        self._client: Any = None
        self._is_closed = False
        self._lock = threading.Lock()

    def stamps(self) -> list[RowStamp]:
        """Return every stamp: see :meth:`FleetServer.stamps`."""
        found: list[dict[str, Any]] = []
        with self._asking("list the rows") as client:
            rows = client.query_iterator(
                self.collection,
                batch_size=_STAMPS_AT_ONCE,
                filter="",
                output_fields=_STAMP_FIELDS,
                consistency_level="Strong",
                timeout=self._address.timeout_s,
            )
            try:
                while batch := rows.next():
                    found += batch
            finally:
                rows.close()
        return [_stamp(one) for one in found]

    def fetch(self, keys: Sequence[str]) -> list[FleetRow]:
        """Return the rows of ``keys``: see :meth:`FleetServer.fetch`."""
        found: list[dict[str, Any]] = []
        with self._asking("read rows") as client:
            for part in _parts(keys, _ROWS_AT_ONCE):
                found += client.get(
                    self.collection,
                    ids=list(part),
                    output_fields=[*_STAMP_FIELDS, "payload"],
                    consistency_level="Strong",
                    timeout=self._address.timeout_s,
                )
        return [FleetRow(_stamp(one), _payload(one)) for one in found]

    def write(self, rows: Sequence[FleetRow]) -> None:
        """Keep ``rows``: see :meth:`FleetServer.write`."""
        values = [_value(row) for row in rows]
        with self._asking("write rows") as client:
            for part in _parts(values, _ROWS_AT_ONCE):
                client.upsert(self.collection, list(part), timeout=self._address.timeout_s)

    def delete(self, keys: Sequence[str]) -> None:
        """Remove the rows of ``keys``: see :meth:`FleetServer.delete`."""
        with self._asking("remove rows") as client:
            for part in _parts(keys, _ROWS_AT_ONCE):
                client.delete(self.collection, ids=list(part), timeout=self._address.timeout_s)

    def close(self) -> None:
        """Free the connection; may be called twice.

        A call that waits for an answer is not waited for: it fails at once.
        """
        self._is_closed = True
        self._drop()

    @contextlib.contextmanager
    def _asking(self, what: str) -> Iterator[Any]:
        with self._lock:
            if self._is_closed:
                raise FleetUnavailableError("the connection to the fleet's server was closed")
            try:
                if self._client is None:
                    self._client = self._connected()
                yield self._client
            except (FleetUnavailableError, GalleryFormatError, MissingDependencyError):
                raise
            # pymilvus raises its own errors, gRPC's, and plain ones for values it cannot take.
            except Exception as exc:
                self._drop()
                raise FleetUnavailableError(
                    f"the fleet's server {self._address.uri} could not {what}: {_words(exc)}; "
                    "this device goes on with its own replica, try again later"
                ) from exc

    def _drop(self) -> None:
        """Begin with a new connection the next time: this one may be dead."""
        client, self._client = self._client, None
        if client is not None:
            with contextlib.suppress(Exception):
                client.close()

    def _connected(self) -> Any:
        try:
            from pymilvus import MilvusClient
        except ImportError as exc:
            raise MissingDependencyError("pymilvus", extra="fleet") from exc
        address = self._address
        if address.uri.endswith(".db"):
            _require_embedded()
        client = MilvusClient(uri=address.uri, token=address.token, timeout=address.timeout_s)
        try:
            self._open_collection(client)
        except BaseException:
            with contextlib.suppress(Exception):
                client.close()
            raise
        return client

    def _open_collection(self, client: Any) -> None:
        timeout_s = self._address.timeout_s
        if not client.has_collection(self.collection, timeout=timeout_s):
            _make_collection(client, self.collection, timeout_s)
        described = client.describe_collection(self.collection, timeout=timeout_s)
        names = {one["name"] for one in described["fields"]}
        if not {*_STAMP_FIELDS, "payload"} <= names:
            raise GalleryFormatError(
                f"the collection {self.collection} of the fleet's server has other fields than a "
                "fleet's; remove it there, or use another database"
            )
        client.load_collection(self.collection, timeout=timeout_s)


def _make_collection(client: Any, name: str, timeout_s: float) -> None:
    from pymilvus import DataType

    schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
    schema.add_field("key", DataType.VARCHAR, is_primary=True, max_length=_NAME_LENGTH)
    for field_name in ("person", "device", "tag"):
        schema.add_field(field_name, DataType.VARCHAR, max_length=_NAME_LENGTH)
    schema.add_field("kind", DataType.VARCHAR, max_length=_KIND_LENGTH)
    schema.add_field("model", DataType.VARCHAR, max_length=_MODEL_LENGTH)
    schema.add_field("clock", DataType.INT64)
    schema.add_field("payload", DataType.VARCHAR, max_length=_MAX_PAYLOAD_LENGTH)
    schema.add_field("no_vector", DataType.FLOAT_VECTOR, dim=len(_NO_VECTOR))
    index = client.prepare_index_params()
    index.add_index("no_vector", index_type="FLAT", metric_type="L2")
    client.create_collection(
        name, schema=schema, index_params=index, consistency_level="Strong", timeout=timeout_s
    )


def _require_embedded() -> None:
    from importlib.util import find_spec

    if find_spec("milvus_lite") is None:
        raise FleetUnavailableError(
            "a file as the fleet's server is the embedded Milvus, which is not installed; install "
            "it with: pip install milvus-lite, or name a server: https://HOST:19530"
        )


def _parts(values: Sequence[_Result], size: int) -> Iterator[Sequence[_Result]]:
    for start in range(0, len(values), size):
        yield values[start : start + size]


def _value(row: FleetRow) -> dict[str, Any]:
    payload = base64.b64encode(row.payload).decode("ascii")
    if len(payload) > _MAX_PAYLOAD_LENGTH:
        raise InvalidInputError(
            f"a row of {len(payload)} characters is too long for the fleet's server, which takes "
            f"{_MAX_PAYLOAD_LENGTH}; use shorter templates"
        )
    stamp = {name: getattr(row.stamp, name) for name in _STAMP_FIELDS}
    return {**stamp, "payload": payload, "no_vector": _NO_VECTOR}


def _checked(make: Callable[[], _Result]) -> _Result:
    try:
        return make()
    except (KeyError, TypeError, ValueError) as exc:
        raise GalleryIntegrityError(
            "the fleet's server gave a row that no device wrote; see docs/fleet.md"
        ) from exc


def _stamp(value: dict[str, Any]) -> RowStamp:
    def make() -> RowStamp:
        texts = {name: str(value[name]) for name in _STAMP_FIELDS if name != "clock"}
        return RowStamp(clock=int(value["clock"]), **texts)

    return _checked(make)


def _payload(value: dict[str, Any]) -> bytes:
    return _checked(lambda: base64.b64decode(value["payload"], validate=True))


def _words(error: Exception) -> str:
    """Return the first line of what a library says, without what it quotes at length."""
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
