"""Who may call: the Host and Origin headers that a browser cannot forge, the bearer token, and the kind of answer."""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Collection
from urllib.parse import urlsplit

from yolo_lite.errors import short
from yolo_lite.serve.limits import RefusedError

_LOCAL = ("localhost", "127.0.0.1", "::1")
_PORTS = {"http": 80, "https": 443}
JSON, JPEG = "application/json", "image/jpeg"


def is_loopback(host: str) -> bool:
    """Return whether a host name or address is this machine's own, which no other machine can reach.

    Example:
        >>> is_loopback("localhost"), is_loopback("127.0.0.1"), is_loopback("0.0.0.0")
        (True, True, False)
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_host(host: str, allowed: Collection[str] | None) -> None:
    """Refuse a request for another host: a page whose name was pointed at this machine (DNS rebinding).

    Args:
        host: the Host header.
        allowed: host names without ports; this machine's own names are always allowed. None: any host.

    Raises:
        RefusedError: 403.

    Example:
        >>> check_host("localhost:8000", ())
        >>> check_host("evil.example:8000", ())  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        yolo_lite.serve.limits.RefusedError: The server does not answer for the host 'evil.example:8000'; ...
    """
    if allowed is None:
        return
    name, _ = _place(f"http://{host}")
    if name not in (*_LOCAL, *allowed):
        raise RefusedError(
            403,
            f"The server does not answer for the host {short(host)}; call it by localhost, or start it with --allow-host.",
        )


def check_origin(origin: str | None, host: str) -> None:
    """Refuse a request that a page of another site sends.

    Args:
        origin: the Origin header; None outside browsers.
        host: the Host header.

    Raises:
        RefusedError: 403.

    Example:
        >>> check_origin("http://localhost:8000", "localhost:8000")
        >>> check_origin("https://evil.example", "localhost:8000")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        yolo_lite.serve.limits.RefusedError: A page of 'https://evil.example' must not use this server; ...
    """
    if origin is None:
        return
    scheme = origin.partition("://")[0]
    if scheme not in _PORTS or _place(origin) != _place(f"{scheme}://{host}"):
        raise RefusedError(
            403,
            f"A page of {short(origin)} must not use this server; send the request from a page of {host}.",
        )


def _place(url: str) -> tuple[str, int]:
    """Return host and port of a URL; an empty name if it has none."""
    try:
        parts = urlsplit(url)
        return (parts.hostname or "").rstrip("."), parts.port or _PORTS.get(parts.scheme, 0)
    except ValueError:
        return "", 0


def check_token(authorization: str, token: str | None) -> None:
    """Refuse a request without the bearer token; None: no token is needed.

    Raises:
        RefusedError: 401.

    Example:
        >>> check_token("Bearer secret", "secret")
        >>> check_token("", "secret")
        Traceback (most recent call last):
        yolo_lite.serve.limits.RefusedError: The server expects a token; send the header Authorization: Bearer TOKEN.
    """
    if token is None:
        return
    scheme, _, given = authorization.partition(" ")
    if scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), token.encode()):
        return
    state = "The token is wrong" if scheme else "The server expects a token"
    raise RefusedError(
        401,
        f"{state}; send the header Authorization: Bearer TOKEN.",
        headers={"WWW-Authenticate": 'Bearer realm="yolo_lite"'},
    )


def preferred(accept: str) -> str:
    """Return the type of answer that an Accept header prefers: JSON, unless it puts JPEG first.

    Example:
        >>> preferred("image/jpeg"), preferred("*/*"), preferred("image/*;q=0.5, application/json")
        ('image/jpeg', 'application/json', 'application/json')
    """
    return JPEG if _quality(accept, JPEG) > _quality(accept, JSON) else JSON


def _quality(accept: str, kind: str) -> float:
    """Return how much a type is wanted, from 0 to 1: what the most specific range of the header says."""
    best = (0, 0.0)
    for item in accept.split(","):
        name, *options = (part.strip().lower() for part in item.split(";"))
        ranges = {"*/*": 1, f"{kind.partition('/')[0]}/*": 2, kind: 3}
        if name in ranges:
            best = max(best, (ranges[name], _weight(options)))
    return best[1]


def _weight(options: list[str]) -> float:
    for option in options:
        if option.startswith("q="):
            try:
                return min(max(float(option[2:]), 0.0), 1.0)
            except ValueError:
                return 0.0
    return 1.0
