"""Back ends behind a URL: Boat's own are in a table, back ends of other packages are found by entry point.

Boat's own are not entry points. A job's code package and the Lambda functions have no installed metadata, and an
editable installation shows new entry points only after it is installed again.
"""

import importlib
from collections.abc import Mapping
from importlib.metadata import entry_points
from operator import attrgetter
from typing import Any, NamedTuple

from boat.errors import SettingError


class Backend(NamedTuple):
    """A back end's module, the factory in it that takes a URL, and the command that installs the packages it needs."""

    module: str
    name: str
    install: str


def construct(seam: str, group: str, url: str, backends: Mapping[str, Backend]) -> Any:
    """Return the back end that speaks the protocol of `url`.

    Args:
        seam: Name of the seam in error messages, such as `warehouse`.
        group: Entry point group for back ends of other packages. The name of an entry point is its protocol.
        url: Begins with the protocol and a colon.
        backends: Boat's own back ends by protocol. They win over an entry point of the same name.

    Raises:
        SettingError: Unknown protocol, or its package is not installed.
    """
    protocol = url.split(":", 1)[0]
    candidates = backends if protocol in backends else {**_installed(group), **backends}
    if protocol not in candidates:
        raise SettingError(
            f"No {seam} back end speaks {protocol!r} (URL {url!r}).",
            f"Use one of: {', '.join(sorted(candidates))}. To add one, install a package that declares an entry point "
            f"named {protocol} in the group {group}.",
        )
    backend = candidates[protocol]
    try:
        factory = attrgetter(backend.name)(importlib.import_module(backend.module))
    except (ImportError, AttributeError) as error:
        raise SettingError(
            f"The {seam} back end {protocol!r} cannot be imported ({error}).", f"Install it: {backend.install}."
        ) from error
    return factory(url)


def _installed(group: str) -> dict[str, Backend]:
    """Return the back ends that installed packages declare as `PROTOCOL = MODULE:FACTORY`."""
    return {
        point.name: Backend(point.module, point.attr, f"pip install {point.dist.name if point.dist else point.module}")
        for point in entry_points(group=group)
    }
