"""The clock of streams, which tests replace."""

from __future__ import annotations

import threading
import time


class Clock:
    """Time of the system."""

    def monotonic(self) -> float:
        """Return seconds that never go backwards."""
        return time.monotonic()

    def wall(self) -> float:
        """Return seconds since 1970 in UTC."""
        return time.time()

    def wait(self, event: threading.Event, seconds: float) -> None:
        """Wait for an event, at most for some seconds."""
        event.wait(seconds)
