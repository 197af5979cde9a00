"""The sinks of the office, as written in ``sinks.json`` of its folder."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from examples.attendance.courier import Sink
from examples.attendance.csv_sink import CsvSink
from examples.attendance.errors import AttendanceError
from examples.attendance.mqtt_sink import MqttBroker, MqttSink
from examples.attendance.webhook import Webhook, WebhookSink

__all__ = ["SINKS_FILE", "load_sinks"]

SINKS_FILE = "sinks.json"
_KINDS = frozenset({"csv", "webhooks", "mqtt"})
_MOST_SECRET_BYTES = 4096


def load_sinks(folder: Path) -> tuple[Sink, ...]:
    """Return the sinks that ``sinks.json`` in ``folder`` asks for; none without the file.

    Secrets are in files of their own, named by ``secret_file`` and ``password_file``: below
    ``$CREDENTIALS_DIRECTORY``, where systemd puts them, or else below ``folder``.

    Raises:
        AttendanceError: The file is damaged, or asks for something that is not known.
    """
    file = folder / SINKS_FILE
    if not file.exists():
        return ()
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
        return tuple(_sinks(config, folder))
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as exc:
        raise AttendanceError(
            f"{SINKS_FILE} cannot be used: {type(exc).__name__}: {exc}; see the README"
        ) from exc


def _sinks(config: Mapping[str, Any], folder: Path) -> list[Sink]:
    unknown = config.keys() - _KINDS
    if unknown:
        raise AttendanceError(f"{SINKS_FILE} asks for {sorted(unknown)}; known: {sorted(_KINDS)}")
    sinks: list[Sink] = []
    if "csv" in config:
        sinks.append(CsvSink(folder / str(config["csv"]["path"])))
    names = [str(one["name"]) for one in config.get("webhooks", ())]
    if len(set(names)) < len(names):
        raise AttendanceError(f"two webhooks of {SINKS_FILE} have the same name")
    for one in config.get("webhooks", ()):
        values = _with_secret(one, "secret", folder)
        secret = values.pop("secret", "").encode()
        sinks.append(WebhookSink(Webhook(secret=secret, **values)))
    if "mqtt" in config:
        values = _with_secret(config["mqtt"], "password", folder)
        unknown = values.keys() - {one.name for one in fields(MqttBroker)}
        if unknown:
            raise AttendanceError(f"mqtt of {SINKS_FILE} has {sorted(unknown)}, which is not known")
        sinks.append(MqttSink(MqttBroker(**values)))
    return sinks


def _with_secret(values: Mapping[str, Any], what: str, folder: Path) -> dict[str, Any]:
    """Return ``values`` with the content of the file that ``WHAT_file`` names as ``what``."""
    if what in values:
        raise AttendanceError(
            f"{SINKS_FILE} holds a {what}; put it in a file of its own, readable by its owner "
            f"alone, and name that with {what}_file"
        )
    kept = {name: value for name, value in values.items() if name != f"{what}_file"}
    name = values.get(f"{what}_file")
    if name is None:
        return kept
    places = [Path(os.environ.get("CREDENTIALS_DIRECTORY", folder)), folder]
    file = next((place / name for place in places if (place / name).is_file()), folder / name)
    with file.open("rb") as opened:
        content = opened.read(_MOST_SECRET_BYTES)
    return {**kept, what: content.decode().strip()}
