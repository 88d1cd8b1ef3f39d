"""Settings of an installation. Only this module reads `BOAT_…` environment variables.

An invalid value is refused before anything starts, and the error names the variable.
"""

import ipaddress
import math
import os
import re
import tempfile
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from boat import memory as machine
from boat.errors import SettingError
from boat.events import is_missing

MIN_SECRET = 16
"""Fewest characters of a signing secret."""
MAX_SHOP = 64
"""Most characters of a shop's name."""
MAX_PORT = 65_535
PORT_VARIABLES = {
    "prefect_port": "BOAT_PREFECT_PORT",
    "endpoint_port": "BOAT_ENDPOINT_PORT",
    "reports_port": "BOAT_REPORTS_PORT",
    "collect_port": "BOAT_COLLECT_PORT",
}
"""Environment variable of each port in `Settings`."""

_DEFAULT_PORTS = {"http": 80, "https": 443}
_LABEL = re.compile(r"[a-z0-9_-]{1,63}")
_NOT_IN_ORIGINS = {
    "*": "a wildcard is not supported, so name each origin",
    "/": "it has a path",
    "\\": "it has a backslash",
    "?": "it has a query",
    "#": "it has a fragment",
    "@": "it has a user name",
    "%": "it has percent encoding",
}
_NOT_IN_HOME = {
    r"\?": "URLs of DuckDB, MLflow and Prefect end at a question mark",
    r"#": "dbt reads the path of the warehouse as a URL, which ends at #",
    r"\\": "DuckDB reads a backslash in file patterns as an escape",
    r"[*\[]": "TensorFlow reads * and [ in paths as file patterns",
    r"\$": "Great Expectations reads $ in URLs as a variable",
    r"%[0-9A-Fa-f]{2}": "Great Expectations reads % before two digits as an encoded character",
    r" ;": "supervisord reads a semicolon after a space as a comment",
}
"""Patterns that are not allowed in the path of an installation, each with the reason."""
_LOOPBACK = ("127.0.0.1", "localhost")
_PROXIES = ("http_proxy", "https_proxy", "all_proxy")


@dataclass(frozen=True)
class Settings:
    """Folders and addresses of one installation.

    Attributes:
        home: Folder for all state (`BOAT_HOME`, default `.boat` in the current folder).
        prefect_port: Port of the Prefect server (`BOAT_PREFECT_PORT`).
        endpoint_port: Port of the endpoint host (`BOAT_ENDPOINT_PORT`).
        reports_port: Port of the reports and the alert inbox (`BOAT_REPORTS_PORT`).
        collect_port: Port of the collector (`BOAT_COLLECT_PORT`).
        slack_webhook_url: Receiver of alerts (`BOAT_SLACK_WEBHOOK_URL`). Empty: the local inbox.
        chosen_ports: Names of the ports that a variable sets.
    """

    home: Path
    prefect_port: int = 4200
    endpoint_port: int = 8080
    reports_port: int = 8090
    collect_port: int = 8070
    slack_webhook_url: str = field(default="", repr=False)
    chosen_ports: frozenset[str] = frozenset()

    def shop(self, name: str) -> Path:
        """Return the folder of a shop's data: landing files, warehouse, snapshots, models, registry."""
        return self.home / "shops" / name

    def dbt_target(self, platform: str) -> Path:
        """Return the folder for dbt's manifest and results of a platform block. Its logs are beside it."""
        return self.home / "dbt" / platform / "target"

    @property
    def cache(self) -> Path:
        """Return the folder for downloads from a remote artifact store. It may be deleted at any time."""
        return self.home / "cache"

    @property
    def serving(self) -> Path:
        return self.home / "serving"

    @property
    def reports(self) -> Path:
        return self.home / "reports"

    @property
    def prefect_api_url(self) -> str:
        return f"http://127.0.0.1:{self.prefect_port}/api"

    @property
    def prefect_ui_url(self) -> str:
        return f"http://127.0.0.1:{self.prefect_port}"

    @property
    def endpoint_url(self) -> str:
        return f"http://127.0.0.1:{self.endpoint_port}"

    @property
    def reports_url(self) -> str:
        return f"http://127.0.0.1:{self.reports_port}"

    @property
    def collect_url(self) -> str:
        return f"http://127.0.0.1:{self.collect_port}"


def load(environment: Mapping[str, str] | None = None) -> Settings:
    """Read the settings from `environment` (default: this process's). Create no folder.

    Raises:
        SettingError: A value is not valid. The message names the variable.
    """
    env = os.environ if environment is None else environment
    ports = {name: port(env[variable], variable) for name, variable in PORT_VARIABLES.items() if env.get(variable)}
    for number, count in Counter(ports.values()).items():
        if count > 1:
            variables = " and ".join(PORT_VARIABLES[name] for name in ports if ports[name] == number)
            raise SettingError(f"{variables} are both {number}.", "Use a different port for each service.")
    return Settings(
        home=_home(env.get("BOAT_HOME") or ".boat"),
        slack_webhook_url=_webhook(env.get("BOAT_SLACK_WEBHOOK_URL", ""), "BOAT_SLACK_WEBHOOK_URL"),
        chosen_ports=frozenset(ports),
        **ports,
    )


def memory(environment: Mapping[str, str] | None = None) -> int:
    """Return the memory budget of an installation in bytes (`BOAT_MEMORY`, default half of this machine's memory).

    Raises:
        SettingError: The value is not a size that this machine has.
    """
    return _budget(environment, machine.of_machine() // 2)


def job_memory(environment: Mapping[str, str] | None = None) -> int:
    """Return the memory that a job may use in bytes (`BOAT_MEMORY`, default all of its machine or container).

    Raises:
        SettingError: The value is not a size that this machine has.
    """
    return _budget(environment, machine.of_machine())


def _budget(environment: Mapping[str, str] | None, default: int) -> int:
    text = (os.environ if environment is None else environment).get("BOAT_MEMORY", "")
    return machine.parse(text, "BOAT_MEMORY") if text else default


@dataclass(frozen=True)
class CollectorSettings:
    """Settings of a collector.

    Attributes:
        landing: Landing folder, or `s3://bucket/prefix` for the Lambda function (`BOAT_COLLECT_LANDING`).
        origins: Origins of pages that may send events (`BOAT_COLLECT_ORIGINS`, separated by commas).
        secrets: Secret of each signing key (`BOAT_COLLECT_KEYS`, as `key:secret,key:secret`).
        proxies: Addresses of the proxies in front of the server (`BOAT_COLLECT_PROXIES`, separated by commas).
        shops: Names of the accepted shops (`BOAT_COLLECT_SHOPS`, separated by commas). Empty: any shop.
    """

    landing: str = ""
    origins: frozenset[str] = frozenset()
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    proxies: str = ""
    shops: frozenset[str] = frozenset()


def load_collector(environment: Mapping[str, str] | None = None) -> CollectorSettings:
    """Read a collector's settings from `environment` (default: this process's).

    Raises:
        SettingError: A value is not valid. The message names the variable.
    """
    env = os.environ if environment is None else environment
    shops = env.get("BOAT_COLLECT_SHOPS", "")
    return CollectorSettings(
        landing=env.get("BOAT_COLLECT_LANDING", ""),
        origins=origins(_parts(env.get("BOAT_COLLECT_ORIGINS", "")), "BOAT_COLLECT_ORIGINS"),
        secrets=_secrets(env.get("BOAT_COLLECT_KEYS", "")),
        proxies=proxies(env.get("BOAT_COLLECT_PROXIES", ""), "BOAT_COLLECT_PROXIES"),
        shops=shop_names(shops.split(","), "BOAT_COLLECT_SHOPS") if shops.strip() else frozenset(),
    )


def port(text: str, name: str) -> int:
    """Parse a TCP port.

    Args:
        text: Value of the variable or option.
        name: Name of the variable or option, for the error.

    Raises:
        SettingError: The value is not a whole number from 1 to 65535.
    """
    digits = text.strip()
    number = int(digits) if digits.isascii() and digits.isdecimal() and len(digits) <= 10 else 0
    if not 1 <= number <= MAX_PORT:
        raise SettingError(f"{name} is {text!r}, which is not a port.", f"Write a whole number from 1 to {MAX_PORT}.")
    return number


def positive(number: float, name: str) -> None:
    """Check that a limit or a duration is a finite number above 0.

    Raises:
        SettingError: It is not. The message names the option.
    """
    if not (math.isfinite(number) and number > 0):
        raise SettingError(f"{name} is {number:g}, which is not a finite number above 0.", "Write a number above 0.")


def origins(texts: Iterable[str], name: str) -> frozenset[str]:
    """Parse origins; see `origin`."""
    return frozenset(origin(text, name) for text in texts)


def origin(text: str, name: str) -> str:
    """Return an origin as a browser sends it in the header `Origin`: `https://shop.example`.

    Scheme and host become lower case, and a host with other letters than ASCII becomes punycode. The scheme's default
    port, a slash at the end and surrounding spaces are removed.

    Args:
        text: Value of the variable or option.
        name: Name of the variable or option, for the error.

    Raises:
        SettingError: The value is not an origin of a web page. The message has the reason.
    """
    scheme, mark, rest = text.strip().partition("://")
    authority = rest.removesuffix("/")
    host, port_text = _split(authority)
    try:
        if not mark:
            raise ValueError("it has no scheme")
        if scheme.lower() not in _DEFAULT_PORTS:
            raise ValueError(f"the scheme {scheme!r} is not http or https")
        for character, problem in _NOT_IN_ORIGINS.items():
            if character in authority:
                raise ValueError(problem)
        number = port(port_text, name) if port_text else None
        suffix = "" if number in {None, _DEFAULT_PORTS[scheme.lower()]} else f":{number}"
        return f"{scheme.lower()}://{_host(host)}{suffix}"
    except ValueError as error:
        reason = str(error)
    except SettingError:
        reason = f"{port_text!r} is not a port from 1 to {MAX_PORT}"
    raise SettingError(
        f"{name} has {text!r}, which is not an origin: {reason}.",
        "Write the scheme and host of the shop's pages, such as https://shop.example. Separate origins by commas.",
    )


def _split(authority: str) -> tuple[str, str]:
    """Return the host and the port as written. An IPv6 address keeps its brackets."""
    if authority.startswith("[") and "]" in authority:
        host, _, tail = authority.partition("]")
        return f"{host}]", tail.removeprefix(":")
    host, _, tail = authority.partition(":")
    return host, tail


def _host(text: str) -> str:
    """Return a host as browsers write it.

    Raises:
        ValueError: The text is not a host. The message has the reason.
    """
    if not text:
        raise ValueError("it has no host")
    if text.startswith("["):
        return f"[{ipaddress.IPv6Address(text[1:-1]).compressed}]"
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).lower()).replace("\u3002", ".")
    labels = [_label(label) for label in folded.split(".")]
    if labels[-1].isdecimal() or labels[-1].startswith("0x"):
        return str(ipaddress.IPv4Address(".".join(labels)))
    return ".".join(labels)


def _label(text: str) -> str:
    label = text if text.isascii() else f"xn--{text.encode('punycode').decode()}"
    if not text.isprintable() or not _LABEL.fullmatch(label):
        raise ValueError(f"{text!r} cannot be part of a host's name")
    return label


def proxies(text: str, name: str) -> str:
    """Check IP addresses and networks that are separated by commas, and return them without spaces.

    Raises:
        SettingError: A part is not an address or network. The message names it.
    """
    for part in _parts(text):
        try:
            ipaddress.ip_network(part)
        except ValueError as error:
            raise SettingError(
                f"{name} has {part!r}, which is not an IP address or network ({error}).",
                "Write them like 10.0.0.1,10.1.0.0/16.",
            ) from error
    return ",".join(_parts(text))


def shop_names(texts: Iterable[str], name: str) -> frozenset[str]:
    """Parse names of shops.

    Raises:
        SettingError: A name is empty, a word for a missing value, too long, or has a character that is not printable.
    """
    names = [text.strip() for text in texts]
    for shop in names:
        if is_missing(shop) or len(shop) > MAX_SHOP or not shop.isprintable():
            raise SettingError(
                f"{name} has {shop!r}, which is not a name of a shop.",
                f"A name has 1 to {MAX_SHOP} printable characters.",
            )
    return frozenset(names)


def prepare_home(home: Path) -> None:
    """Create the home folder and check that services can write to it.

    Raises:
        SettingError: The path has a character that a service cannot handle, is not a folder, or is not writable.
    """
    for pattern, reason in _NOT_IN_HOME.items():
        if re.search(pattern, str(home)):
            raise SettingError(f"BOAT_HOME is {str(home)!r}, but {reason}.", "Set BOAT_HOME to another folder.")
    if not str(home).isprintable():
        raise SettingError(
            f"BOAT_HOME is {str(home)!r}, but that has a character that is not printable.",
            "Set BOAT_HOME to another folder.",
        )
    try:
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=home):
            pass
    except OSError as error:
        raise SettingError(
            f"BOAT_HOME is {str(home)!r}, but that folder is not writable ({error.strerror}).",
            "Set BOAT_HOME to a folder that you may write to.",
        ) from error


def reach_loopback(environment: MutableMapping[str, str]) -> None:
    """Exclude this machine from proxies: extend `NO_PROXY` if an HTTP proxy is set.

    Variables of other proxies (SOCKS) are removed, because Boat's HTTP clients fail with them.
    """
    names = [name for proxy in _PROXIES for name in (proxy, proxy.upper()) if environment.get(name)]
    for name in names:
        if "://" in environment[name] and not environment[name].lower().startswith(("http://", "https://")):
            del environment[name]
    lower, upper = environment.get("no_proxy", ""), environment.get("NO_PROXY", "")
    for name, value in {"no_proxy": lower or upper, "NO_PROXY": upper or lower}.items():
        hosts = _parts(value)
        if names and "*" not in hosts:
            environment[name] = ",".join([*hosts, *(host for host in _LOOPBACK if host not in hosts)])


def _home(text: str) -> Path:
    try:
        return Path(text).expanduser().absolute()
    except RuntimeError as error:
        raise SettingError(f"BOAT_HOME is {text!r}: {error}", "Write an absolute path.") from error


def _webhook(text: str, name: str) -> str:
    try:
        address = urlsplit(text)
        is_address = address.scheme in {"http", "https"} and bool(address.hostname) and not re.search(r"\s", text)
    except ValueError:
        is_address = False
    if text and not is_address:  # the address is a secret: it allows to send alerts
        raise SettingError(
            f"{name} is not the address of a webhook.", "Write it like https://hooks.slack.com/services/…."
        )
    return text


def _secrets(text: str) -> dict[str, str]:
    name = "BOAT_COLLECT_KEYS"
    pairs = [pair.partition(":") for pair in _parts(text)]
    if any(not re.fullmatch(r"[!-~]+", key) or len(secret) < MIN_SECRET for key, _, secret in pairs):
        raise SettingError(
            f"{name} is not of the form key:secret,key:secret.", f"A secret has at least {MIN_SECRET} characters."
        )
    for key, count in Counter(key for key, _, _ in pairs).items():
        if count > 1:
            raise SettingError(f"{name} has the key {key!r} {count} times.", "Use a different key for each secret.")
    return {key: secret for key, _, secret in pairs}


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]
