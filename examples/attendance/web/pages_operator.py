"""For machines that watch this one: is it well, and figures. No names in either."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from edgeface.errors import MissingDependencyError
from examples.attendance.interface import Office
from examples.attendance.web.views import site_of

if TYPE_CHECKING:
    from prometheus_client.core import Metric

__all__ = ["router"]

router = APIRouter()
_PREFIX = "attendance"


@router.get("/healthz")
def healthz(request: Request) -> JSONResponse:
    """Return 200 when attendance is being taken, 503 with the problems when not."""
    health = site_of(request).office.health()
    content = {
        "ok": health.is_ok,
        "problems": list(health.problems),
        "cameras": {camera.name: camera.state.value for camera in health.cameras},
    }
    return JSONResponse(content, status_code=200 if health.is_ok else 503)


@router.get("/metrics")
def metrics(request: Request) -> Response:
    """Return figures in the text format of Prometheus."""
    try:
        from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
    except ImportError as exc:
        raise MissingDependencyError("prometheus-client", extra="web") from exc
    registry = CollectorRegistry()
    registry.register(_Figures(site_of(request).office))
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)


class _Figures:
    """A collector of the figures of one moment."""

    def __init__(self, office: Office) -> None:
        self._office = office

    def describe(self) -> list[Metric]:
        """Return nothing: the figures are known once they are collected."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield the figures."""
        health = self._office.health()
        yield _figure("up", "1 when attendance is being taken", float(health.is_ok))
        for name, value in {"present": float(health.present), **health.figures}.items():
            yield _figure(name, name.replace("_", " "), value)
        yield _by_label(
            "camera_fps", "Frames a second", "camera", {c.name: c.fps for c in health.cameras}
        )
        yield _by_label(
            "camera_usable",
            "1 when the picture can be searched",
            "camera",
            {c.name: float(c.is_usable) for c in health.cameras},
        )
        yield _by_label(
            "camera_reconnects",
            "How often the camera came back",
            "camera",
            {c.name: float(c.reconnects) for c in health.cameras},
        )
        yield _by_label(
            "sink_waiting",
            "Events that wait to be delivered",
            "sink",
            {sink.name: float(sink.waiting) for sink in health.sinks},
        )


def _figure(name: str, text: str, value: float) -> Any:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    family = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
    return family(f"{_PREFIX}_{name.removesuffix('_total')}", text, value=value)


def _by_label(name: str, text: str, label: str, values: dict[str, float]) -> Any:
    from prometheus_client.core import GaugeMetricFamily

    family = GaugeMetricFamily(f"{_PREFIX}_{name}", text, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family
