"""Runs a command and ends it, with its whole process group, when the caller is gone.

Started as a plain file, `python -I -S guard.py COMMAND…`, by `boat.compute.local`. The caller holds the other end of
standard input; the operating system closes it however the caller ends, kill -9 included.
"""

import os
import signal
import subprocess
import sys
import threading


def _end_with_caller() -> None:
    sys.stdin.buffer.read()
    os.killpg(0, signal.SIGKILL)


def main(command: list[str]) -> int:
    """Run the command; its exit code, or 128 and the number of the signal that ended it."""
    threading.Thread(target=_end_with_caller, daemon=True).start()
    code = subprocess.run(command, stdin=subprocess.DEVNULL, check=False).returncode
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.stdout.flush()
    os._exit(main(sys.argv[1:]))  # the thread that watches the caller must not hold up the end
