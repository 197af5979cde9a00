"""A gallery for many devices: each searches a replica, a server keeps what it cannot read."""

from __future__ import annotations

from edgeface.gallery.fleet.gallery import FleetGallery, FleetOptions, FleetStatus
from edgeface.gallery.fleet.key import FleetKey, make_key_file, read_key_file
from edgeface.gallery.fleet.milvus import MilvusAddress, MilvusServer
from edgeface.gallery.fleet.report import SyncReport
from edgeface.gallery.fleet.rows import FleetRow, RowStamp
from edgeface.gallery.fleet.server import FleetServer

__all__ = [
    "FleetGallery",
    "FleetKey",
    "FleetOptions",
    "FleetRow",
    "FleetServer",
    "FleetStatus",
    "MilvusAddress",
    "MilvusServer",
    "RowStamp",
    "SyncReport",
    "make_key_file",
    "read_key_file",
]
