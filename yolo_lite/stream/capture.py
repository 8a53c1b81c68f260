"""Open cameras and videos in the network with OpenCV, within time limits, and say in one line why that fails."""

from __future__ import annotations

import math
import socket
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import SplitResult

from yolo_lite.errors import InputError, counted, reason
from yolo_lite.media.opencv import quiet_cv2
from yolo_lite.media.sources import EndsEarlyError
from yolo_lite.stream.addresses import PORTS, Camera, Network, parts_of
from yolo_lite.structures.geometry import Image


@dataclass(frozen=True)
class Limits:
    """Time limits of a stream, in seconds.

    Attributes:
        open: for connecting to a source.
        read: for the next frame; a source that sends none for so long counts as frozen, and is connected again.
        total: for the whole stream, which then ends.
    """

    open: float = 5.0
    read: float = 5.0
    total: float = math.inf

    def __post_init__(self) -> None:
        if not (self.open > 0 and self.read > 0 and self.total > 0):
            raise InputError(f"time limits must be above 0 seconds, got {self}")


class Capture(Protocol):
    """An open source.

    Attributes:
        finite: whether it is a recording, whose every frame is read.
    """

    finite: bool

    def read(self) -> Image | None:
        """Return the next frame, uint8 [H, W, 3] RGB; None if there is none within the limit, or at the end."""

    def close(self) -> None:
        """Release the source."""


class CvCapture:
    """A camera or a video in the network, read by OpenCV."""

    def __init__(self, capture: Any, name: str) -> None:
        cv2 = quiet_cv2()
        self._capture, self._name, self._count = capture, name, 0
        frames = capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self._frames = int(frames) if math.isfinite(frames) and frames > 0 else 0
        self.finite = self._frames > 0

    def read(self) -> Image | None:
        """Return the next frame; see `Capture`.

        Raises:
            EndsEarlyError: if a recording ends before the number of frames in its header.
        """
        good, frame = self._capture.read()
        if good:
            self._count += 1
            cv2 = quiet_cv2()
            return cv2.cvtColor(frame, cv2.COLOR_GRAY2RGB if frame.ndim == 2 else cv2.COLOR_BGR2RGB)  # type: ignore[no-any-return]
        if self.finite and self._count < self._frames - max(2, self._frames // 50):
            raise EndsEarlyError(f"{self._name} ends early: {self._count} of {counted(self._frames, 'frame')} came")
        return None

    def close(self) -> None:
        """Release the source."""
        self._capture.release()


def open_capture(address: Camera | Network, limits: Limits) -> Capture:
    """Open a camera, or a video in the network.

    Raises:
        InputError: if that fails within the limit, with the reason as far as it can be known.

    Example:
        >>> try:
        ...     open_capture(Camera(99, "camera 99"), Limits(open=1))
        ... except InputError as error:
        ...     print(str(error).partition(":")[0])
        camera 99 cannot be opened
    """
    cv2 = quiet_cv2("cameras and streams need it")
    if isinstance(address, Camera):
        capture = cv2.VideoCapture(address.index)
        if not capture.isOpened():
            raise InputError(
                f"{address.name} cannot be opened: no such camera, another program uses it, or you lack permission"
            )
        capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        return CvCapture(capture, address.name)
    with _connect(address, limits.open):
        pass  # FFmpeg would not say why it cannot connect
    settings = {
        cv2.CAP_PROP_OPEN_TIMEOUT_MSEC: _milliseconds(limits.open),
        cv2.CAP_PROP_READ_TIMEOUT_MSEC: _milliseconds(limits.read),
        cv2.CAP_PROP_N_THREADS: 1,  # several threads would decode several frames behind
    }
    capture = cv2.VideoCapture(address.url, cv2.CAP_FFMPEG, [int(value) for pair in settings.items() for value in pair])
    if not capture.isOpened():
        capture.release()
        raise InputError(f"{address.name} {_why(address, limits.open)}")
    return CvCapture(capture, address.name)


def _milliseconds(seconds: float) -> int:
    return max(1, min(2**31 - 1, round(1000 * seconds)))


def _connect(address: Network, limit: float) -> socket.socket:
    parts = parts_of(address.url)
    try:
        return socket.create_connection((parts.hostname or "", parts.port or PORTS[parts.scheme.lower()]), limit)
    except (OSError, UnicodeError) as error:
        if isinstance(error, TimeoutError):
            why = f"no answer within {limit:g} s; is the address right, and the server on?"
        else:
            why = f"{reason(error)}; is the server running?"
        raise InputError(f"cannot reach {address.name}: {why}") from error


def _why(address: Network, limit: float) -> str:
    """Return why a server that can be reached sends no video: its own answer if that is a refusal."""
    try:
        answer = _answer(address, parts_of(address.url), limit)
    except (OSError, ValueError):
        answer = ""
    words = answer.split(None, 1)
    if len(words) == 2 and words[1][:1] in ("4", "5"):
        return f"was refused by the server: {words[1]}"
    return f"sends nothing within {limit:g} s that OpenCV can decode; is it a video, of a usual codec?"


def _answer(address: Network, parts: SplitResult, limit: float) -> str:
    """Ask the server for the stream once more, by hand, and return the first line of its answer."""
    scheme = parts.scheme.lower()
    target = f"{parts.path or '/'}{f'?{parts.query}' if parts.query else ''}"
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    place = f"{host}:{parts.port or PORTS[scheme]}"
    if scheme.startswith("rtsp"):
        request = f"DESCRIBE {scheme}://{place}{target} RTSP/1.0\r\nCSeq: 1\r\nAccept: application/sdp\r\n\r\n"
    else:
        request = f"GET {target} HTTP/1.0\r\nHost: {place}\r\n\r\n"
    with _connect(address, limit) as plain:
        import ssl

        secure = scheme in ("https", "rtsps")
        line = ssl.create_default_context().wrap_socket(plain, server_hostname=parts.hostname) if secure else plain
        with closing(line):
            line.sendall(request.encode())
            return line.recv(200).partition(b"\r\n")[0].decode("ascii", "replace")
