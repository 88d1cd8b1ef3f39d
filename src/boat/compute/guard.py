"""Run a command, print what it used, and kill its whole process group when the caller ends.

`boat.compute.local` starts this file as `python -I -S guard.py COMMAND…`. The caller holds the other end of standard
input. The operating system closes it even if the caller is ended by kill -9.
"""

import json
import os
import resource
import signal
import subprocess
import sys
import threading

RESOURCES = "boat-resources "
"""Beginning of the last line: CPU time and largest memory of the command, as JSON."""


def _end_with_caller() -> None:
    sys.stdin.buffer.read()
    os.killpg(0, signal.SIGKILL)


def main(command: list[str]) -> int:
    """Run the command and return its exit code: 128 plus the signal's number if a signal ended it."""
    threading.Thread(target=_end_with_caller, daemon=True).start()
    code = subprocess.run(command, stdin=subprocess.DEVNULL, check=False).returncode
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    unit = 1 if sys.platform == "darwin" else 1024
    figures = {"cpu_seconds": round(used.ru_utime + used.ru_stime, 2), "peak_bytes": used.ru_maxrss * unit}
    print(f"{RESOURCES}{json.dumps(figures)}", flush=True)
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.stdout.flush()
    os._exit(main(sys.argv[1:]))  # does not wait for the thread that watches the caller
