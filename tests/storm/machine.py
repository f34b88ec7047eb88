"""The processes of a storm, and a scheduler that delivers to workers as Dask's does.

A worker that dies is replaced, and what it was running is delivered again under the same number;
now and then that is forgotten, as when the scheduler dies too. One thread, so that it may fork.
"""

import ctypes
import os
import random
import select
import signal
import socket
import sys
import time
import traceback
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tests.storm import children
from tests.storm.children import Plan, receive, send

ROLES: dict[str, Callable[[Plan, int, socket.socket], None]] = {
    "worker": children.work,
    "dispatcher": children.dispatch,
    "api": children.serve,
    "client": children.call,
    "prelude": children.call_in_peace,
    "locker": children.lock,
    "watcher": children.watch,
}
# Of those whose crash has to be made good; clients end by themselves.
RESTARTED = ("worker", "dispatcher", "api")
WORKERS = 3
FORGOTTEN_SHARE = 0.15
TICK_SECONDS = 0.01
END_WITH_PARENT = 1  # PR_SET_PDEATHSIG of prctl(2)

Delivery = list[Any]


@dataclass
class Child:
    pid: int
    role: str
    channel: socket.socket | None
    running: Delivery | None = None
    frozen_until: float | None = None
    # Another has taken its place: it may end its work, and gets no more.
    retired: bool = False


class Machine:
    def __init__(self, plan: Plan, listener: socket.socket, chance: random.Random) -> None:
        self.plan, self.listener, self.chance = plan, listener, chance
        self.children: dict[int, Child] = {}
        self.pending: deque[Delivery] = deque()
        self.generation = 1
        self.twice = False
        self.forks = 0
        self.deaths: Counter[str] = Counter()

    def start(self, role: str) -> Child:
        """A new process. Workers and the dispatcher get a channel, the others the API's socket."""
        self.forks += 1
        ours, theirs = None, self.listener
        if role in ("worker", "dispatcher"):
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        pid = os.fork()
        if pid == 0:
            self.become(role, theirs)
        if ours is not None:
            theirs.close()
        child = self.children[pid] = Child(pid, role, ours)
        return child

    def become(self, role: str, channel: socket.socket) -> None:
        code = 1
        try:
            if sys.platform == "linux":
                ctypes.CDLL(None).prctl(END_WITH_PARENT, signal.SIGKILL)
            with (self.plan.folder / "log").open("ab") as log:
                os.dup2(log.fileno(), 1)
                os.dup2(log.fileno(), 2)
            for child in self.children.values():
                if child.channel is not None:
                    child.channel.close()
            if channel is not self.listener:
                self.listener.close()
            ROLES[role](self.plan, self.forks, channel)
            code = 0
        except BaseException:  # noqa: BLE001 - it must never come back into the parent's code
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)

    def run(self, seconds: float) -> None:
        """Delivers, and replaces what has died, for this long."""
        end = time.monotonic() + seconds
        while True:
            self.thaw()
            self.bury()
            self.assign()
            left = end - time.monotonic()
            if left <= 0:
                return
            self.listen(min(left, TICK_SECONDS))

    def listen(self, seconds: float) -> None:
        channels = {child.channel: child for child in self.children.values() if child.channel}
        for channel in select.select(list(channels), [], [], seconds)[0]:
            child = channels[channel]
            try:
                message = receive(channel)
                if message is not None:
                    self.hear(child, channel, message)
            except OSError:
                continue  # it died over it, and is about to be buried

    def hear(self, child: Child, channel: socket.socket, message: Any) -> None:
        if child.role == "worker":
            child.running = None
            if child.retired:
                channel.shutdown(socket.SHUT_RDWR)
        elif message == "state":
            send(channel, [str(self.generation), WORKERS])
        else:
            self.pending.append(message)

    def assign(self) -> None:
        idle = [child for child in self.workers() if child.running is None]
        while self.pending and idle:
            delivery = self.pending.popleft()
            self.hand(idle.pop(), delivery)
            if self.twice and idle:
                self.twice = False
                self.hand(idle.pop(), delivery)

    def hand(self, child: Child, delivery: Delivery) -> None:
        child.running = delivery
        assert child.channel is not None
        try:
            send(child.channel, delivery)
        except OSError:
            return  # dead: what it was to run is delivered again when it is buried

    def workers(self) -> list[Child]:
        """Those that the scheduler counts on: the frozen ones are not known to be."""
        return [c for c in self.children.values() if c.role == "worker" and not c.retired]

    def of(self, role: str) -> list[Child]:
        return [child for child in self.children.values() if child.role == role]

    def bury(self) -> None:
        for child in list(self.children.values()):
            pid, status = os.waitpid(child.pid, os.WNOHANG)
            if pid == 0:
                continue
            del self.children[child.pid]
            if child.channel is not None:
                child.channel.close()
            if os.WIFSIGNALED(status):
                self.deaths[child.role] += 1
            if child.running is not None and self.chance.random() >= FORGOTTEN_SHARE:
                self.pending.appendleft(child.running)
            if child.role in RESTARTED and not child.retired:
                self.start(child.role)

    def freeze(self, child: Child, seconds: float) -> None:
        """Stops a worker as it stands. Another takes its place, and not what it was running."""
        os.kill(child.pid, signal.SIGSTOP)
        child.frozen_until = time.monotonic() + seconds
        child.retired = True
        self.start("worker")

    def thaw(self) -> None:
        for child in self.children.values():
            if child.frozen_until is not None and time.monotonic() >= child.frozen_until:
                child.frozen_until = None
                os.kill(child.pid, signal.SIGCONT)
                if child.running is None and child.channel is not None:
                    child.channel.shutdown(socket.SHUT_RDWR)

    def kill_all(self) -> None:
        for child in list(self.children.values()):
            os.kill(child.pid, signal.SIGKILL)
            os.waitpid(child.pid, 0)
        self.children.clear()


@contextmanager
def machine(plan: Plan, chance: random.Random) -> Iterator[Machine]:
    with socket.create_server(("127.0.0.1", 0), backlog=100) as listener:
        running = Machine(plan, listener, chance)
        try:
            for role in ("api", "dispatcher", *["worker"] * WORKERS):
                running.start(role)
            yield running
        finally:
            running.kill_all()
