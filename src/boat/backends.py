"""Back ends behind a URL: a registry from protocol to a lazily imported class."""

import importlib
from collections.abc import Mapping
from typing import Any, NamedTuple

from boat.errors import SettingError


class Backend(NamedTuple):
    """Where a back end's class is, and what installs the packages it needs."""

    module: str
    name: str
    install: str


def construct(seam: str, url: str, backends: Mapping[str, Backend]) -> Any:
    """Make the back end that speaks the protocol of `url`.

    Raises:
        SettingError: Unknown protocol, or its package is not installed.
    """
    protocol = url.split(":", 1)[0]
    if protocol not in backends:
        raise SettingError(
            f"No {seam} back end speaks {protocol!r} (URL {url!r}).", f"Use one of: {', '.join(sorted(backends))}."
        )
    backend = backends[protocol]
    try:
        module = importlib.import_module(backend.module)
    except ImportError as error:
        raise SettingError(
            f"The {seam} back end {protocol!r} misses a package ({error}).", f"Install it: {backend.install}."
        ) from error
    return getattr(module, backend.name)(url)
