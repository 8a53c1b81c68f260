"""One request and its answer: what was read and sent, and how the connection ends if the body was not read."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

LINGER = 2.0  # seconds in which the rest of a refused body is read and thrown away, so that its sender sees the answer


class Exchange:
    """The ASGI channels of one request.

    An answer that is sent before the body was read closes the connection, because what follows is not a request. The
    rest of the body is thrown away for a moment: a client that still sends would otherwise see a broken connection
    instead of the answer.

    Attributes:
        status: of the answer; 499 as long as there is none, such as for a client that has gone.
        began: whether an answer was begun.
    """

    def __init__(self, scope: Mapping[str, Any], receive: Receive, *, send: Send) -> None:
        headers = {name.lower(): value for name, value in scope["headers"]}
        self._receive, self._send = receive, send
        self._has_body = headers.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in headers
        self._was_asked = b"expect" in headers  # the client waits for permission to send its body
        self._is_read = False
        self._reading = False
        self.status, self.began = 499, False

    async def receive(self) -> Message:
        """Return the next part of the body."""
        self._reading = True
        message = await self._receive()
        if message["type"] != "http.request" or not message.get("more_body", False):
            self._is_read = True
        return message

    async def send(self, message: Message) -> None:
        """Send the head or a part of the answer."""
        unread = self._has_body and not self._is_read
        if message["type"] == "http.response.start":
            self.status, self.began = message["status"], True
            if unread:
                message = {**message, "headers": [*message.get("headers", []), (b"connection", b"close")]}
            await self._send(message)
            return
        if unread and not message.get("more_body", False) and (self._reading or not self._was_asked):
            await self._send({**message, "more_body": True})
            await self._discard()
            message = {"type": "http.response.body", "body": b"", "more_body": False}
        await self._send(message)

    async def _discard(self) -> None:
        """Read what still arrives, for a moment."""
        until = time.monotonic() + LINGER
        while not self._is_read and (left := until - time.monotonic()) > 0:
            try:
                await asyncio.wait_for(self.receive(), left)
            except asyncio.TimeoutError:
                return
