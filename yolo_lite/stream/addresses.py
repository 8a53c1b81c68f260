"""What a source may be: a camera, an address in the network, files, standard input, or a list of these."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from yolo_lite.errors import InputError
from yolo_lite.files import read_text
from yolo_lite.media.sources import Video, find_source, relative_names

PORTS = {"rtsp": 554, "rtsps": 322, "http": 80, "https": 443}  # by scheme
_EXPECTED = "a camera number, rtsp://, rtsps://, http://, https://, a file, a folder, a pattern, a list (.txt) or -"


@dataclass(frozen=True)
class Camera:
    """A camera of this machine; 0 is the first."""

    index: int
    name: str


@dataclass(frozen=True)
class Network:
    """A video that a server sends. `name` is the URL without user, password and tokens."""

    url: str
    name: str


@dataclass(frozen=True)
class VideoFile:
    """A video file."""

    video: Video
    name: str


@dataclass(frozen=True)
class ImageFiles:
    """Image files, each a source of one frame."""

    images: tuple[Path, ...]
    name: str


@dataclass(frozen=True)
class StandardInput:
    """Images from standard input: a tar archive, or JPEG files one after another."""

    name: str = "stdin"


Address = Camera | Network | VideoFile | ImageFiles | StandardInput


def find_addresses(sources: Sequence[str], *, say: Callable[[str], object] = lambda line: None) -> list[Address]:
    """Return what each source is, with the sources of list files in their place.

    Args:
        sources: each a camera number, a URL, a path, a pattern, - for standard input, or a .txt file with a source a
            line. In a list, # begins a comment, and relative paths start at the folder of the list. Beside other files
            a text is no list: like all that a shell's pattern matches by mistake, it counts as an unreadable image.
        say: as for `find_source`.

    Raises:
        InputError: if a source does not exist or is of no known kind, or a list has none.

    Example:
        >>> find_addresses(["0", "rtsp://user:secret@10.0.0.7/yard"])
        [Camera(index=0, name='camera 0'), Network(url='rtsp://user:secret@10.0.0.7/yard', name='rtsp://10.0.0.7/yard')]
    """
    addresses: list[Address] = []
    has_lists = are_streams(sources)
    for source in sources:
        for text in _listed(source) if has_lists else (source,):
            try:
                addresses.append(_address(text, say, lenient=len(sources) > 1))
            except InputError as error:
                raise error if text == source else InputError(f"{source}: {error}") from error
    return _with_own_names(addresses)


def short_names(addresses: Sequence[Address]) -> dict[str, str]:
    """Return a short name of every file by that of its source: relative to the deepest folder that contains them all.

    Example:
        >>> short_names(find_addresses(["my_images/images/0001.png", "my_images/images/0002.png"]))
        {'my_images/images/0001.png': '0001.png', 'my_images/images/0002.png': '0002.png'}
    """
    videos = {address.name: address.video.path for address in addresses if isinstance(address, VideoFile)}
    names = relative_names([*image_paths(addresses), *videos.values()])
    short = {str(path): names[path] for path in image_paths(addresses)}
    counts: dict[str, int] = {}
    for source, path in videos.items():
        counts[names[path]] = number = counts.get(names[path], 0) + 1
        short[source] = names[path] if number == 1 else f"{names[path]} ({number})"
    return short


def image_paths(addresses: Sequence[Address]) -> list[Path]:
    """Return the image files among the sources, each once.

    Example:
        >>> image_paths(find_addresses(["photo.jpg", "0", "photo.jpg"])) == [Path("photo.jpg")]
        True
    """
    return list(
        dict.fromkeys(path for address in addresses if isinstance(address, ImageFiles) for path in address.images)
    )


def is_stream(source: str) -> bool:
    """Return whether a source is read as a stream: a camera, a URL, standard input or a list, rather than files.

    Example:
        >>> [is_stream(source) for source in ("0", "rtsp://10.0.0.7/yard", "cameras.txt", "-", "photo.jpg")]
        [True, True, True, True, False]
    """
    return source == "-" or source.isdecimal() or "://" in source or _is_list(source)


def are_streams(sources: Sequence[str]) -> bool:
    """Return whether sources are read as streams; lists beside files are not, as a shell's pattern may match a text.

    Example:
        >>> are_streams(["cameras.txt"]), are_streams(["photo.jpg", "notes.txt"]), are_streams(["photo.jpg", "0"])
        (True, False, True)
    """
    lists = [source for source in sources if _is_list(source) and "://" not in source]
    return len(sources) > 0 and (len(lists) == len(sources) or any(map(is_stream, set(sources) - set(lists))))


def without_secrets(url: str) -> str:
    """Return a URL without user and password, and with *** for values that are named like a password or a token.

    Example:
        >>> without_secrets("http://me:secret@host:8080/video?token=abc&size=2")
        'http://host:8080/video?token=***&size=2'
    """
    scheme, separator, place = url.partition("://")
    end = min((at for at in map(place.find, "/?#") if at >= 0), default=len(place))
    kept = place[:end].rpartition("@")[2] + place[end:]
    return _SECRET.sub(r"\1***", f"{scheme}{separator}{kept}")


_SECRET = re.compile(r"((?:pass(?:word|wd)?|pwd|token|secret|auth|[a-z_]*key|user(?:name)?|usr)[=:])[^&/;_]*", re.I)


def parts_of(url: str) -> SplitResult:
    """Return the parts of a URL that has a host.

    Raises:
        InputError: if there is no host, or the port is not a number; the message shows no password.

    Example:
        >>> parts_of("rtsp://10.0.0.7:8554/yard").port
        8554
    """
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise InputError(f"{without_secrets(url)} is not a URL; write it like rtsp://10.0.0.7:554/path") from error
    if not parts.hostname:
        raise InputError(f"{without_secrets(url)} names no host; write it like rtsp://10.0.0.7:554/path")
    return parts


def _is_list(source: str) -> bool:
    return source.lower().endswith(".txt")


def _listed(source: str) -> Iterator[str]:
    """Yield the sources of a list, or the source itself if it is none."""
    if not _is_list(source) or "://" in source:
        yield source
        return
    path = Path(source)
    if not path.exists():
        raise InputError(f"{source} does not exist; a list has a source a line: {_EXPECTED}")
    lines = [line.partition(" #")[0].strip() for line in read_text(path).splitlines()]
    named = [line for line in lines if line and not line.startswith("#")]
    if not named:
        raise InputError(f"{source} lists no source; write one a line: {_EXPECTED}")
    for line in named:
        if line == "-" or _is_list(line):
            raise InputError(f"{source}: {line} cannot be in a list; pass it to --source itself")
        yield line if is_stream(line) else str(path.parent / line)


def _address(source: str, say: Callable[[str], object], *, lenient: bool) -> Address:
    """Return what a source is; if `lenient`, a file of another kind counts as an image, which will be skipped."""
    if source == "-":
        return StandardInput()
    if source.isdecimal():
        return Camera(int(source), f"camera {int(source)}")
    scheme, separator, place = source.partition("://")
    if separator:
        if scheme.lower() not in PORTS:
            raise InputError(f"{without_secrets(source)} cannot be read; a source is {_EXPECTED}")
        parts_of(source)
        url = f"{scheme.lower()}://{place}"  # FFmpeg knows no capitals
        return Network(url, without_secrets(url))
    try:
        files = find_source(source, say=say)
    except InputError:
        if not lenient or not os.path.lexists(source):
            raise
        files = [Path(source)]
    if isinstance(files, Video):
        return VideoFile(files, source)
    return ImageFiles(tuple(files), source)


def _with_own_names(addresses: list[Address]) -> list[Address]:
    """Return the addresses with a number after each name that came before, so that every source has its own."""
    counts: dict[str, int] = {}
    renamed: list[Address] = []
    for address in addresses:
        counts[address.name] = number = counts.get(address.name, 0) + 1
        renamed.append(address if number == 1 else replace(address, name=f"{address.name} ({number})"))
    return renamed
