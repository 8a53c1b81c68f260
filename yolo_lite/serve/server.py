"""Listen on a port, and answer until a signal asks to stop."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from yolo_lite.errors import InputError, reason
from yolo_lite.serve.answers import to_json
from yolo_lite.serve.application import Application

MOST_CONNECTIONS = 500
HEAD_SECONDS = 10.0  # in which the head of a request must arrive
IDLE_SECONDS = 5  # after which a connection without a further request is closed
_FLUSH = 30.0  # seconds in which a client must take the rest of an answer


def bind(host: str, port: int) -> socket.socket:
    """Return a socket that is bound to an address.

    Args:
        host: a name or an address of this machine.
        port: 0 for any free one.

    Raises:
        InputError: if the address is unknown or in use.

    Example:
        >>> with bind("127.0.0.1", 0) as bound:
        ...     bound.getsockname()[0]
        '127.0.0.1'
    """
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise InputError(f"--host {host} is not an address of this machine: {reason(error)}") from error
    family, kind, protocol, _, address = min(addresses, key=lambda each: each[0] != socket.AF_INET)
    bound = socket.socket(family, kind, protocol)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError as error:
        bound.close()
        raise InputError(f"cannot listen on {host}, port {port}: {reason(error)}; choose another --port") from error
    return bound


def address_of(bound: socket.socket) -> str:
    """Return the URL of a bound socket.

    Example:
        >>> with bind("127.0.0.1", 0) as bound:
        ...     address_of(bound).rpartition(":")[0]
        'http://127.0.0.1'
    """
    host, port = bound.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def serve(application: Application, bound: socket.socket, *, on_start: Callable[[], object] = lambda: None) -> None:
    """Answer requests until SIGINT, SIGTERM or SIGHUP; what was accepted is finished, and the signal is raised again.

    Args:
        application: answers the requests.
        bound: from `bind`.
        on_start: called when the server is ready.

    Example:
        >>> from yolo_lite.serve.models import Choices, open_models
        >>> application = Application(open_models([], Choices()))  # doctest: +SKIP
        >>> serve(application, bind("127.0.0.1", 8000))  # doctest: +SKIP
    """
    for name in ("uvicorn.error", "uvicorn.access", "python_multipart"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)  # the application reports its failures itself
    config = uvicorn.Config(
        application,
        loop="asyncio",
        http=_Protocol,
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=IDLE_SECONDS,
        timeout_graceful_shutdown=int(2 * application.limits.seconds) + 1,
    )
    server = _Server(config, application, on_start=on_start)
    try:
        with server.hangup():
            server.run(sockets=[bound])
    finally:
        application.close(at_once=server.force_exit)


class _Server(uvicorn.Server):
    """uvicorn's server, which answers with 503 between a signal and the end of the last accepted request."""

    def __init__(self, config: uvicorn.Config, application: Application, *, on_start: Callable[[], object]) -> None:
        super().__init__(config)
        self._engine, self._on_start = application.engine, on_start
        self._until = 0.0  # by the monotonic clock, when a server that stops gives up

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_start()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Accept no more at the first signal; give up what is left at the second."""
        if self._engine.is_stopping:
            self.should_exit = self.force_exit = True
        elif not self._captured_signals:
            self._captured_signals.append(sig)
        self._engine.stop()

    async def on_tick(self, counter: int) -> bool:
        """Leave the loop once nothing is being worked on; clients that read slowly get what is left of the time."""
        if self._engine.is_stopping:
            now, most = time.monotonic(), self.config.timeout_graceful_shutdown or 1
            self._until = self._until or now + most
            if not self._engine.places:
                self.config.timeout_graceful_shutdown = max(1, int(self._until - now))
                self.should_exit = True
        return await super().on_tick(counter)

    @contextmanager
    def hangup(self) -> Iterator[None]:
        """Treat SIGHUP as uvicorn treats SIGTERM, unless it is ignored (nohup)."""
        number = getattr(signal, "SIGHUP", None)
        is_main = threading.current_thread() is threading.main_thread()
        if number is None or not is_main or signal.getsignal(number) is signal.SIG_IGN:
            yield
            return
        before = signal.signal(number, self.handle_exit)
        try:
            yield
        finally:
            signal.signal(number, before)
            if number in self._captured_signals:
                signal.raise_signal(number)


class _Protocol(H11Protocol):
    """uvicorn's HTTP/1.1, with limits for clients that do not finish their requests or do not take their answers."""

    _head_timer: asyncio.TimerHandle | None = None
    _flush_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        if len(self.connections) > MOST_CONNECTIONS:
            transport.abort()
            return
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        self._stop_flush_timer()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Give a client that does not read what it asked for some time."""
        super().pause_writing()
        self._flush_timer = self._flush_timer or self.loop.call_later(_FLUSH, self.transport.abort)

    def resume_writing(self) -> None:
        self._stop_flush_timer()
        super().resume_writing()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.cycle is None or self.cycle.response_complete:
            self._await_head()
        else:
            self._stop_timer()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.is_closing():
            self._abort_later()

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        self._abort_later()

    def send_400_response(self, msg: str) -> None:
        """Answer a request that is not HTTP in the words of the application."""
        self._stop_timer()
        if self.transport.is_closing() or self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.close()
            return
        body = to_json({"error": "The request is not valid HTTP/1.1; send a correct one."})
        headers = [("content-type", "application/json"), ("content-length", str(len(body))), ("connection", "close")]
        for event in (h11.Response(status_code=400, headers=headers), h11.Data(data=body), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()
        self._abort_later()

    def _await_head(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(HEAD_SECONDS, self.transport.abort)

    def _stop_flush_timer(self) -> None:
        if self._flush_timer is not None:
            self._flush_timer.cancel()
            self._flush_timer = None

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _abort_later(self) -> None:
        self.loop.call_later(_FLUSH, self.transport.abort)
