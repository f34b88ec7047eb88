"""A proxy between the service and PostgreSQL that misbehaves when it is told to."""

import select
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import StrEnum

CHUNK_BYTES = 65_536
TICK_SECONDS = 0.02


class Mode(StrEnum):
    """What becomes of connections: those that are open, and those that are begun."""

    PASS = "pass"
    # Its machine still acknowledges everything; nothing ever comes back.
    BLACK_HOLE = "black_hole"
    # So for the connections that are open now; those that are begun are passed.
    LOST = "lost"
    RESET = "reset"
    SLOW = "slow"


class Proxy:
    """Passes bytes between a port of 127.0.0.1 and a Unix socket, or does not."""

    slow_seconds = 0.1

    def __init__(self, target: str) -> None:
        self.target = target
        self.mode = Mode.PASS
        self.set_at = 0.0
        self.over = threading.Event()
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=100)
        self.port: int = self.listener.getsockname()[1]

    def set(self, mode: Mode) -> None:
        self.mode, self.set_at = mode, time.monotonic()

    def serve(self) -> None:
        while not self.over.is_set():
            if not select.select([self.listener], [], [], TICK_SECONDS)[0]:
                continue
            near, _ = self.listener.accept()
            threading.Thread(target=self.carry, args=(near,), daemon=True).start()

    def carry(self, near: socket.socket) -> None:
        begun_at = time.monotonic()
        with near, socket.socket(socket.AF_UNIX) as far, suppress(OSError):
            far.connect(self.target)
            while not self.over.is_set():
                if self.mode is Mode.RESET:
                    # Linger of no seconds: the other side hears a reset, not an orderly end.
                    near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                    return
                if self.swallows(begun_at):
                    time.sleep(TICK_SECONDS)
                elif not self.pass_on(near, far, begun_at):
                    return

    def swallows(self, begun_at: float) -> bool:
        lost = self.mode is Mode.LOST and begun_at < self.set_at
        return lost or self.mode is Mode.BLACK_HOLE

    def pass_on(self, near: socket.socket, far: socket.socket, begun_at: float) -> bool:
        """What has come from either side goes to the other; False once one has hung up."""
        for source in select.select([near, far], [], [], TICK_SECONDS)[0]:
            while self.swallows(begun_at) and not self.over.is_set():
                time.sleep(TICK_SECONDS)
            if self.mode is Mode.SLOW:
                time.sleep(self.slow_seconds)
            data = source.recv(CHUNK_BYTES)
            if not data:
                return False
            (far if source is near else near).sendall(data)
        return True


@contextmanager
def proxy(target: str) -> Iterator[Proxy]:
    """A running proxy to the Unix socket at the path `target`."""
    running = Proxy(target)
    thread = threading.Thread(target=running.serve, daemon=True)
    thread.start()
    try:
        yield running
    finally:
        running.over.set()
        thread.join()
        running.listener.close()
