"""How a process learns that it has to end: by a signal, or because its parent is gone."""

import os
import signal
import threading


def stopping_on_signals() -> threading.Event:
    """An event that SIGTERM and Ctrl-C set."""
    stopping = threading.Event()

    def stop(*_: object) -> None:
        # From a thread of its own: the handler may have interrupted `stopping.wait` while that
        # holds the lock which `set` needs.
        threading.Thread(target=stopping.set).start()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    return stopping


def end_with_parent() -> None:
    """Ends this process when standard input closes, as it does however the parent ends."""

    def watch() -> None:
        while os.read(0, 4096):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()
