"""An RTSP server of GStreamer that sends numbered frames in H.264; a program of its own, for the system's Python.

rtsp_server.py PORT FPS prints "NUMBER TIME" for each frame, by the monotonic clock. A line "freeze" on standard input
makes it silent, and "go" lets it go on.
"""

import sys
import threading
import time

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402

WIDTH, HEIGHT = 320, 240


class Factory(GstRtspServer.RTSPMediaFactory):
    def __init__(self, fps: int) -> None:
        super().__init__()
        self.fps, self.frozen, self.number, self.began = fps, False, 0, time.monotonic()
        caps = f"video/x-raw,format=I420,width={WIDTH},height={HEIGHT},framerate={fps}/1"
        encoder = f"x264enc tune=zerolatency speed-preset=ultrafast key-int-max={fps}"
        self.set_launch(
            f"( appsrc name=source is-live=true do-timestamp=true format=time caps={caps} ! {encoder} "
            "! rtph264pay name=pay0 config-interval=1 )"
        )
        self.set_shared(True)

    def begin(self, media: object) -> None:
        self.began = time.monotonic() - self.number / self.fps
        source = media.get_element().get_by_name_recurse_up("source")
        threading.Thread(target=self.push, args=(source,), daemon=True).start()

    def push(self, source: object) -> None:
        while True:
            time.sleep(max(0.0, self.began + self.number / self.fps - time.monotonic()))
            self.number += 1
            if self.frozen:
                continue
            level = bytes([16 + 8 * (self.number % 25)]) * (WIDTH * HEIGHT)
            buffer = Gst.Buffer.new_wrapped(level + bytes([128]) * (WIDTH * HEIGHT // 2))
            now = time.monotonic()
            if source.emit("push-buffer", buffer) != Gst.FlowReturn.OK:
                return
            print(self.number, now, flush=True)


def main() -> None:
    port, fps = map(int, sys.argv[1:])
    Gst.init(None)
    server, factory = GstRtspServer.RTSPServer(), Factory(fps)
    server.set_address("127.0.0.1")
    server.set_service(str(port))
    factory.connect("media-configure", lambda _, media: factory.begin(media))
    server.get_mount_points().add_factory("/yard", factory)
    server.attach(None)
    loop = GLib.MainLoop()
    threading.Thread(target=loop.run, daemon=True).start()
    for line in sys.stdin:
        factory.frozen = line.strip() == "freeze"


main()
