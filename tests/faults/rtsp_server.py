"""A real RTSP server (gst-rtsp-server) whose picture can be made faulty while it runs.

Run by a Python that has ``gi`` with GstRtspServer 1.0, most often the system's, not this project's:
``python3 rtsp_server.py PORT WIDTH HEIGHT [USER PASSWORD]``. Prints ``ready`` when it listens.
Commands on standard input, one a line: ``good``, ``black``, ``frozen``, ``grey``, ``kick`` (end
every session). It ends with its standard input.
"""

# mypy: ignore-errors

import sys
import threading

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402

# A ball that moves before static bars: every frame is another. "frozen" is the bars alone.
_LAUNCH = (
    "( videotestsrc name=picture is-live=true pattern=ball foreground-color=0xffe0a040 "
    "background-color=0xff2060a0 ! video/x-raw,format=I420,width={width},height={height},"
    "framerate=25/1 ! videobalance name=colour ! x264enc tune=zerolatency speed-preset=ultrafast "
    "key-int-max=25 threads=1 bitrate=1500 ! rtph264pay name=pay0 pt=96 config-interval=1 )"
)
_PATTERNS = {"good": "ball", "grey": "ball", "black": "black", "frozen": "smpte100"}


class Camera:
    def __init__(self, port: str, width: str, height: str, *account: str) -> None:
        self._wanted = "good"
        self._pictures: list = []
        self._server = GstRtspServer.RTSPServer()
        self._server.set_address("127.0.0.1")
        self._server.set_service(port)
        factory = GstRtspServer.RTSPMediaFactory()
        factory.set_launch(_LAUNCH.format(width=width, height=height))
        factory.set_shared(True)
        factory.connect("media-configure", self._configured)
        if account:
            self._protect(factory, *account)
        self._server.get_mount_points().add_factory("/live", factory)
        self._server.attach(None)

    def _protect(self, factory, user: str, password: str) -> None:
        auth = GstRtspServer.RTSPAuth()
        token = GstRtspServer.RTSPToken()
        token.set_string("media.factory.role", "viewer")
        auth.add_basic(GstRtspServer.RTSPAuth.make_basic(user, password), token)
        self._server.set_auth(auth)
        permissions = GstRtspServer.RTSPPermissions()
        permissions.add_permission_for_role("viewer", "media.factory.access", True)
        permissions.add_permission_for_role("viewer", "media.factory.construct", True)
        factory.set_permissions(permissions)

    def _configured(self, _factory, media) -> None:
        self._pictures = [media.get_element()]
        self.show(self._wanted)

    def show(self, what: str) -> None:
        self._wanted = what
        for element in self._pictures:
            element.get_by_name("picture").set_property("pattern", _PATTERNS[what])
            saturation = 0.0 if what == "grey" else 1.0
            element.get_by_name("colour").set_property("saturation", saturation)

    def kick(self) -> None:
        self._server.client_filter(lambda _server, _client: GstRtspServer.RTSPFilterResult.REMOVE)


def main() -> None:
    Gst.init(None)
    camera, loop = Camera(*sys.argv[1:]), GLib.MainLoop()

    def obey() -> None:
        for line in sys.stdin:
            action = camera.kick if line.strip() == "kick" else None
            word = line.strip()
            GLib.idle_add(action or (lambda word=word: camera.show(word)))
        GLib.idle_add(loop.quit)

    threading.Thread(target=obey, daemon=True).start()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    loop.run()


main()
