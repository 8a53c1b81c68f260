"""The page that the server shows in a browser, and the policy that it allows the page."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

_FILE = Path(__file__).with_name("page.html")
_BLOCK = re.compile(r"<(style|script)>(.*?)</\1>", re.DOTALL)


@dataclass(frozen=True)
class Page:
    """A page of one file.

    Attributes:
        content: HTML.
        policy: the value of its Content-Security-Policy header.
    """

    content: bytes
    policy: str


def read_page(file: Path = _FILE) -> Page:
    """Read the page; its policy allows the style and the script that the file itself holds, and nothing else.

    Example:
        >>> page = read_page()
        >>> page.policy.split("; ")[0], "unsafe" in page.policy
        ("default-src 'none'", False)
    """
    text = file.read_bytes().decode("utf-8")
    hashes: dict[str, list[str]] = {"style": [], "script": []}
    for kind, inside in _BLOCK.findall(text.replace("\r\n", "\n")):
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        hashes[kind].append(f"'sha256-{digest}'")
    policy = "; ".join(
        [
            "default-src 'none'",
            "img-src 'self' blob: data:",
            "media-src 'self' blob:",
            f"style-src {' '.join(hashes['style']) or chr(39) + 'none' + chr(39)}",
            f"script-src {' '.join(hashes['script']) or chr(39) + 'none' + chr(39)}",
            "connect-src 'self'",
            "form-action 'none'",
            "base-uri 'none'",
            "frame-ancestors 'none'",
        ]
    )
    return Page(text.encode(), policy)
