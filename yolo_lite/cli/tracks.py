"""What --track, --count-line and --zone ask for."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from yolo_lite.errors import InputError

if TYPE_CHECKING:
    from yolo_lite.stream.addresses import Address
    from yolo_lite.tracking.streams import StreamTracks
    from yolo_lite.tracking.video import VideoTracks


def wanted_tracks(args: argparse.Namespace, source: Any) -> Callable[[float], VideoTracks] | None:
    """Return a function that makes the tracks for a score threshold, or None if objects are not to be followed.

    Raises:
        InputError: if the source is not a video, or a line or zone does not suit it.
    """
    from yolo_lite.media.sources import Video

    flag = _flag(args)
    if not flag:
        return None
    if not isinstance(source, Video):
        raise InputError(f"{flag} follows objects from frame to frame, so --source must be a video; got images")
    _tracks(args, source.hw, score_threshold=0.5)  # lines and zones are refused before the detector is built
    return lambda score_threshold: _tracks(args, source.hw, score_threshold=score_threshold)


def stream_tracks(args: argparse.Namespace, addresses: Sequence[Address]) -> Callable[[float], StreamTracks] | None:
    """Return a function that makes the tracks of a stream for a score threshold, or None, as `wanted_tracks` does."""
    from yolo_lite.stream.addresses import VideoFile, image_paths
    from yolo_lite.tracking.streams import StreamTracks

    flag = _flag(args)
    if not flag:
        return None
    for path in image_paths(addresses):
        raise InputError(f"{flag} follows objects in videos and live sources; leave the image {path} out of --source")
    for address in addresses:
        if isinstance(address, VideoFile):
            _tracks(args, address.video.hw, score_threshold=0.5)
    return lambda score_threshold: StreamTracks(lambda hw: _tracks(args, hw, score_threshold=score_threshold))


def _flag(args: argparse.Namespace) -> str:
    """Return the flag that asks for tracks, or nothing."""
    return "--track" if args.track else "--count-line" if args.count_line else "--zone" if args.zone else ""


def _tracks(args: argparse.Namespace, hw: tuple[int, int], *, score_threshold: float) -> VideoTracks:
    """Return new tracks for frames of a height and width, with the lines and zones that were asked for."""
    from yolo_lite.tracking.lines import CountLine
    from yolo_lite.tracking.tracker import Tracker
    from yolo_lite.tracking.video import VideoTracks, in_pixels
    from yolo_lite.tracking.zones import Zone

    lines = [
        _made(CountLine, *in_pixels(numbers, hw, name="--count-line"), name=f"--count-line {_text(numbers)}")
        for numbers in args.count_line
    ]
    zones = [
        _made(Zone, in_pixels(numbers, hw, name="--zone"), name=f"--zone {_text(numbers)}") for numbers in args.zone
    ]
    return VideoTracks(Tracker(score_threshold=score_threshold), lines=lines, zones=zones)


def _made(kind: Callable[..., Any], *points: Any, name: str) -> Any:
    try:
        return kind(*points)
    except InputError as error:
        raise InputError(f"{name}: {error}") from error


def _text(numbers: tuple[float, ...]) -> str:
    return ",".join(f"{number:g}" for number in numbers)
