"""What is kept of a person: as little as the shop's figures need.

An address is truncated (IPv4 to /24, IPv6 to /48) and hashed with a salt that lives in memory for one UTC day: the same
visitor can be counted within a day, and nobody can tell later who it was. A user agent becomes browser, system and
device. E-mail addresses, phone numbers and card numbers in free text are masked.
"""

import hmac
import re
import secrets
from datetime import date
from functools import lru_cache
from ipaddress import IPv4Address, ip_address
from typing import Any

NEVER_KEPT = frozenset({"ip", "ip_address", "remote_addr", "uip", "user_agent", "userAgent", "ua"})
"""Fields of an event that would bring back what is dropped from its request."""
MAX_USER_AGENT = 512
_MAX_HASHES = 10_000

# All parts are bounded, and each match starts where a token does: the time is linear in the text.
_EMAIL = re.compile(r"(?<![\w.+%'-])[\w.+%'-]{1,64}?(?:@|%40)[\w-]{1,63}(?:\.[\w-]{1,63}){1,6}", re.IGNORECASE)
_CARD = re.compile(r"(?<![\w.-])[2-6]\d{3}(?:[ -]?\d){10,15}(?![\w-])")
_PHONE = re.compile(
    r"(?<![\w.-])(?:"
    r"(?:\+|%2B|00)[1-9](?:[ ()./-]{0,2}\d){7,13}"  # international
    r"|\(?0\d{2,4}\)?[ /-]\d{3}[\d /-]{2,9}\d"  # national with a trunk zero
    r"|0[1-9]\d{8,9}"  # the same without separators
    r"|\(?[2-9]\d{2}\)?[ .-]\d{3}[ .-]\d{4}"  # North American
    r")(?![\w-])",
    re.IGNORECASE,
)


def has_email(text: str) -> bool:
    """Whether there is an e-mail address in a text."""
    return ("@" in text or "%40" in text) and _EMAIL.search(text) is not None


def masked(text: str) -> str:
    """The text with `[email]`, `[card]` and `[phone]` in place of what looks like one."""
    if "@" in text or "%40" in text:
        text = _EMAIL.sub("[email]", text)
    if sum(map(str.isdigit, text)) >= 10:  # fewer are no phone number
        text = _CARD.sub(lambda match: "[card]" if _luhn(match[0]) else match[0], text)
        text = _PHONE.sub("[phone]", text)
    return text


def masked_tree(value: Any) -> Any:
    """JSON with all its texts masked."""
    if isinstance(value, str):
        return masked(value)
    if isinstance(value, dict):
        return {name: masked_tree(part) for name, part in value.items() if name not in NEVER_KEPT}
    if isinstance(value, list):
        return [masked_tree(part) for part in value]
    return value


def _luhn(text: str) -> bool:
    digits = [int(digit) for digit in reversed(text) if digit.isdigit()]
    doubled = [digit * 2 - 9 * (digit > 4) for digit in digits[1::2]]
    return (sum(digits[::2]) + sum(doubled)) % 10 == 0


class Addresses:
    """Hashes of truncated addresses, with a new salt each day that is never written down."""

    def __init__(self) -> None:
        self._day, self._salt = date.min, b""
        self._hashes: dict[str, str] = {}

    def hashed(self, address: str, today: date) -> str:
        """16 hex digits, or nothing where it is no address."""
        if today != self._day:
            self._day, self._salt = today, secrets.token_bytes(32)
            self._hashes.clear()
        if address not in self._hashes:
            if len(self._hashes) >= _MAX_HASHES:
                self._hashes.clear()
            network = truncated(address)
            digest = hmac.digest(self._salt, network.encode(), "sha256").hex()[:16]
            self._hashes[address] = digest if network else ""
        return self._hashes[address]


def truncated(address: str) -> str:
    """The network of an address: 203.0.113.0 for 203.0.113.77; nothing where it is no address."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return ""
    mapped = parsed if isinstance(parsed, IPv4Address) else parsed.ipv4_mapped
    if mapped:
        return str(IPv4Address(int(mapped) & ~0xFF))
    return str(type(parsed)(int(parsed) >> 80 << 80))


@lru_cache(2048)
def reduced(user_agent: str) -> dict[str, str]:
    """`browser`, `os` and `device` as far as they are known. The answer is shared: do not change it.""" ""
    from ua_parser import parse

    known = parse(user_agent[:MAX_USER_AGENT])
    families = {"browser": known.user_agent, "os": known.os, "device": known.device}
    return {name: family.family for name, family in families.items() if family is not None}
