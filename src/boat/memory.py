"""The memory of this machine, and sizes as text."""

import os
import re
from pathlib import Path

from boat.errors import SettingError

_CGROUPS = Path("/sys/fs/cgroup")
_UNITS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?", re.IGNORECASE)
MIN_BUDGET = 2**30
"""Smallest budget in bytes: TensorFlow alone needs about half of it."""


def of_machine() -> int:
    """Return the memory of this machine in bytes, or the limit of its container if that is smaller."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([machine, *_container_limits()])


def parse(text: str, name: str) -> int:
    """Return the bytes of a size such as `6GB`, `6GiB` or `512MB`.

    Args:
        text: Value of the setting. `GB` is 10⁹ bytes, `GiB` is 2³⁰.
        name: Name of the setting, for the error.

    Raises:
        SettingError: It is not a size, below `MIN_BUDGET`, or above the memory of this machine.
    """
    match = _SIZE.fullmatch(text.strip())
    if not match:
        raise SettingError(f"{name} is {text!r}, which is not a size.", "Write it like 6GB or 512MB.")
    number, unit, binary = match.groups()
    size = int(float(number) * (1024 if binary else 1000) ** _UNITS[unit.lower()])
    machine = of_machine()
    if not MIN_BUDGET <= size <= machine:
        raise SettingError(
            f"{name} is {text!r}, but this machine allows sizes from {shown(MIN_BUDGET)} to {shown(machine)}.",
            f"Write a size between them. The default is half of the memory: {shown(machine // 2)}.",
        )
    return size


def require(needed: int, available: int, what: str) -> None:
    """Check that a step has enough memory before it starts.

    Raises:
        SettingError: It needs more than is available.
    """
    if needed > available:
        raise SettingError(
            f"{what} needs about {shown(needed)} of memory, and {shown(available)} are allowed.",
            "Increase BOAT_MEMORY (or the field `memory` of the platform block), train on fewer `days`, or run it on a "
            "larger machine with AWS Batch or ECS.",
        )


def shown(size: float) -> str:
    """Return a size as text for people, such as `6.4 GB`."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


def _container_limits() -> list[int]:
    """Return the limits of the control groups of this process: its own and those above it."""
    paths = [_CGROUPS / "memory" / "memory.limit_in_bytes"]  # version 1, as a container sees it
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        if line.startswith("0::/"):  # version 2
            group = Path(line.removeprefix("0::/"))
            paths += [_CGROUPS / folder / "memory.max" for folder in (group, *group.parents)]
    limits = []
    for path in paths:
        try:
            limits.append(int(path.read_text()))
        except (OSError, ValueError):  # missing, or `max`
            continue
    return [limit for limit in limits if limit > 0]
