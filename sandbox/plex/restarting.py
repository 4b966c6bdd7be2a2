"""What keeps a real Plex alive: starts a command, and starts it again when it failed.

As Docker's ``--restart on-failure`` and systemd's ``Restart=on-failure`` do.

    restart-on-failure COMMAND [ARGUMENT…]

Docker's delays: 100 ms, doubled with each restart up to a minute, 100 ms again after a run of more than 10 s. A command
that ended well, or was asked to end (SIGTERM here is passed on), is left alone; the exit code is its own.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time

FIRST_DELAY, LONGEST_DELAY, GOOD_RUN = 0.1, 60.0, 10.0  # seconds


def main() -> int:
    """Run until the command ends well or SIGTERM comes."""
    stop = threading.Event()
    running: list[subprocess.Popen[bytes]] = []

    def asked(number: int, _frame: object) -> None:
        stop.set()
        for process in running:
            process.send_signal(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, asked)
    delay, restarts = FIRST_DELAY, 0
    while True:
        began = time.monotonic()
        running[:] = [subprocess.Popen(sys.argv[1:])]
        code = running[0].wait()
        if code == 0 or stop.is_set():
            return code
        restarts += 1
        delay = FIRST_DELAY if time.monotonic() - began > GOOD_RUN else delay
        print(f"ended with code {code}; restart {restarts} in {delay:g} s", file=sys.stderr, flush=True)
        if stop.wait(delay):
            return code
        delay = min(LONGEST_DELAY, 2 * delay)


if __name__ == "__main__":
    sys.exit(main())
