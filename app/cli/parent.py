"""How a child process learns that its parent is gone."""

import os
import signal
import threading


def end_with_parent() -> None:
    """Ends this process when standard input closes, as it does however the parent ends."""

    def watch() -> None:
        while os.read(0, 4096):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()
