"""One run of the office: watch, serve, tell systemd, and stop in good order."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from examples.attendance.cameras import Camera, close_all
from examples.attendance.office import LocalOffice
from examples.attendance.opening import OfficeOptions, open_office
from examples.attendance.service import notify, stop_on_signals, watchdog_period_s

__all__ = ["RunOptions", "run_until_stopped"]

_LOG = logging.getLogger("attendance")
_PERIOD_S = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """Where the pages are served; ``web`` is False for none."""

    web: bool = True
    host: str = "127.0.0.1"
    port: int = 8765
    names: tuple[str, ...] = ()
    certificate: Path | None = None
    private_key: Path | None = None
    behind_tls_proxy: bool = False
    metrics_token: str | None = None


def run_until_stopped(
    options: OfficeOptions,
    cameras: Sequence[Camera],
    run: RunOptions,
    say: Callable[[str], None],
) -> bool:
    """Run until a signal, the end of all recordings, or a failure; return False for the last."""
    stop = stop_on_signals()
    with ExitStack() as stack:
        stack.callback(close_all, cameras)
        office = stack.enter_context(open_office(options))
        for notice in office.notices:
            say(notice)
        office.start(cameras)
        if run.web:
            say(f"pages: {stack.enter_context(_pages(office, run, say))}")
        stack.callback(notify, "STOPPING=1")
        notify("READY=1")
        _LOG.info("started with %d cameras", len(cameras))
        watchdog = _Watchdog()
        while not stop.wait(_PERIOD_S):
            watcher = office.watcher
            if watcher is not None and watcher.has_ended:
                if watcher.failure is not None:
                    say(f"watching failed: {watcher.failure}")
                    return False
                if not run.web:
                    break
            watchdog.pat(office)
        _LOG.info("stopping")
    return True


class _Watchdog:
    """Tells systemd that the program works, as long as it does."""

    def __init__(self) -> None:
        self._period_s = watchdog_period_s()
        self._next_s = 0.0

    def pat(self, office: LocalOffice) -> None:
        """Say so if it is time; a program that stands still says nothing, and is started anew."""
        now_s = time.monotonic()
        if self._period_s is None or now_s < self._next_s:
            return
        self._next_s = now_s + self._period_s
        watcher = office.watcher
        stands_still = office.housekeeping.stands_still or (
            watcher is not None and watcher.stands_still
        )
        if not stands_still:
            notify("WATCHDOG=1")


@contextmanager
def _pages(office: LocalOffice, run: RunOptions, say: Callable[[str], None]) -> Iterator[str]:
    from examples.attendance.web.app import create_app
    from examples.attendance.web.server import WebServer
    from examples.attendance.web.settings import WebSettings

    settings = WebSettings(
        host=run.host,
        port=run.port,
        names=run.names,
        certificate=run.certificate,
        private_key=run.private_key,
        is_behind_tls_proxy=run.behind_tls_proxy,
        metrics_token=run.metrics_token,
    )
    app = create_app(office, settings)
    server = WebServer(app, settings)
    server.start()
    token = app.state.site.accounts.set_up_token
    if token is not None:
        say(f"nobody has a login yet: make the first one at {server.address}/set-up with {token}")
    try:
        yield server.address
    finally:
        server.stop()
