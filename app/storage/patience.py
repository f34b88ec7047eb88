"""How long PostgreSQL is waited for: one call at most so long, and not by everybody in turn.

psycopg waits for ever for a server whose machine still acknowledges what it is sent (a proxy in
front of nothing, a stopped process): server-side timeouts and TCP's own do not help then. So every
call has a deadline on this side, and a connection that missed it is closed, never used again.
"""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from concurrent.futures import TimeoutError as NotInTime
from contextlib import suppress
from typing import Any

import psycopg
from psycopg.abc import PQGen
from psycopg.errors import OperationalError
from sqlalchemy import Engine, event

# How often it is tried whether a database that did not answer is back.
PROBE_SECONDS = 0.25
# Each try may take as long as a call, and so many may be under way.
PROBES_MAX = 20
WAIT_SECONDS = 0.1
# Of a call: how long a lock is waited for. The server ends that wait itself, and the connection can
# go on; that it came to nothing says nothing about the database.
LOCK_SHARE = 0.8
# Of a call, too: a transaction whose client vanished without a word holds its locks, a job's row
# among them, no longer than this. Nothing of ours stays so long between two statements of one.
IDLE_SHARE = 2.0


class BoundedConnection(psycopg.Connection[Any]):
    """A connection of which no call waits longer than `call_seconds`; None waits for ever.

    `missed` is called when one would have.
    """

    call_seconds: float | None = None
    missed: Callable[[], None] | None = None

    def wait(
        self, gen: PQGen[Any], interval: float = WAIT_SECONDS, timeout: float | None = None
    ) -> Any:
        """As its parent's; a timeout of the caller's own is the caller's to deal with."""
        if timeout is not None or self.call_seconds is None:
            return super().wait(gen, interval, timeout)
        return super().wait(
            self.while_it_moves(gen, self.call_seconds), min(interval, self.call_seconds / 4)
        )

    def while_it_moves(self, gen: PQGen[Any], seconds: float) -> PQGen[Any]:
        """As `gen`, as long as bytes come or go: a large value may take longer than a call."""
        moved_at = time.monotonic()
        try:
            wish = next(gen)
            while True:
                asked_at = time.monotonic()
                ready = yield wish
                if ready:
                    moved_at = time.monotonic()
                # Only a look that began too late tells: this thread may have slept through an
                # answer that was there in time.
                elif asked_at - moved_at >= seconds:
                    break
                wish = gen.send(ready)
        except StopIteration as end:
            return end.value
        # What it was in the middle of is unknown: nobody can go on with it.
        self.pgconn.finish()
        if self.missed is not None:
            self.missed()
        raise OperationalError(f"the database was silent for {seconds:g} s")

    def limit_waits(self, *, lock_seconds: float, idle_seconds: float) -> None:
        """What the server waits for, from now on; 0 is for ever. No transaction may be open."""
        self.autocommit = True
        self.execute(
            f"SET lock_timeout = {1000 * lock_seconds:.0f};"
            f"SET idle_in_transaction_session_timeout = {1000 * idle_seconds:.0f}"
        )
        self.autocommit = False


class Breaker:
    """Refuses to connect after that has failed, or a call has missed its deadline.

    Nobody then waits for what another has just waited for in vain: threads of its own find out
    when the database is back. Several may be under way at a time, since one that began while it
    was away may hang for longer than it is.
    """

    def __init__(self, *, call_seconds: float) -> None:
        self.probe_seconds = max(PROBE_SECONDS, call_seconds / PROBES_MAX)
        self.probe: Callable[[], BoundedConnection] | None = None
        self._back = threading.Event()
        self._back.set()
        self._lock = threading.Lock()

    def check(self) -> None:
        """Raises OperationalError while the database is away."""
        if not self._back.is_set():
            raise OperationalError("the database did not answer a moment ago")

    def failed(self) -> None:
        with self._lock:
            if self._back.is_set():
                self._back.clear()
                threading.Thread(target=self.find_out, daemon=True).start()

    def worked(self) -> None:
        self._back.set()

    def find_out(self) -> None:
        while True:
            threading.Thread(target=self.try_once, daemon=True).start()
            if self._back.wait(self.probe_seconds):
                return

    def try_once(self) -> None:
        if self.probe is not None:
            with suppress(psycopg.Error):
                self.probe().close()
                self.worked()


def bound(engine: Engine, *, call_seconds: float) -> None:
    """Makes an engine's connections bounded, and its connecting subject to a breaker."""
    breaker = Breaker(call_seconds=call_seconds)

    @event.listens_for(engine, "do_connect")
    def connect(_: Any, __: Any, arguments: list[Any], named: dict[str, Any]) -> BoundedConnection:
        breaker.check()
        breaker.probe = lambda: connected(call_seconds, *arguments, **named)
        try:
            connection = breaker.probe()
        except OperationalError:
            breaker.failed()
            raise
        connection.missed = breaker.failed
        return connection

    @event.listens_for(engine, "engine_disposed")
    def nobody_asks_any_more(_: Engine) -> None:
        breaker.worked()


def connected(call_seconds: float, *arguments: Any, **named: Any) -> BoundedConnection:
    """A bounded connection. Raises OperationalError if it is not there in time.

    It is made in a thread, since a name is looked up without any bound, and each of the addresses
    that it stands for is tried in turn; one that is made too late is closed.
    """
    promise: Future[BoundedConnection] = Future()

    def make() -> None:
        try:
            connection = BoundedConnection.connect(*arguments, **named)
            connection.call_seconds = call_seconds
            connection.limit_waits(
                lock_seconds=LOCK_SHARE * call_seconds, idle_seconds=IDLE_SHARE * call_seconds
            )
        except Exception as error:  # noqa: BLE001 - raised where it is waited for
            with suppress(InvalidStateError):
                promise.set_exception(error)
            return
        try:
            promise.set_result(connection)
        except InvalidStateError:
            connection.close()

    threading.Thread(target=make, daemon=True).start()
    try:
        return promise.result(call_seconds)
    except NotInTime:
        if not promise.cancel():
            return promise.result()
        raise OperationalError(f"no connection within {call_seconds:g} s") from None
