"""Masking of personal data: only data that the shop's figures need is stored.

An address is truncated (IPv4 to /24, IPv6 to /48) and hashed with a salt that is in memory for one UTC day. A visitor
can be counted within a day and cannot be identified later. A user agent is reduced to browser, system, device, and a
flag for known crawlers.

Masked values:

| value | e-mail addresses | phone numbers | card numbers |
|---|---|---|---|
| free text: `query` and texts in `extra` | yes | with `+`, `00` or separators | with a valid checksum |
| URLs: `url` and texts in `extra` that look like one | yes | see parameters | see parameters |
| parameters of URLs and fields in `extra` that are named for a phone or card | yes | any number | any number |
| parameters of URLs that are named for free text, such as `q` | yes | as in free text | as in free text |
| ids: `product_id`, `transaction_id`, and fields in `extra` named like ids | yes | no | no |

Path segments and other parameters of a URL are ids of pages and products: only mail addresses are masked in them. A
plain run of digits with the checksum of an EAN, ISBN-13 or UPC is no phone number.
"""

import hmac
import re
import secrets
from datetime import date
from functools import lru_cache
from ipaddress import IPv4Address, ip_address
from typing import Any
from urllib.parse import quote, unquote_plus

from boat.events import IS_BOT

NEVER_KEPT = frozenset({"ip", "ip_address", "remote_addr", "uip", "user_agent", "userAgent", "ua"})
"""Fields of an event that repeat data which is dropped from its request."""
MAX_USER_AGENT = 512
_MAX_HASHES = 10_000
_LONGEST_NAME = 64
_MASKS = ("[phone]", "[card]")
_UNMASKED = ("", "id")

# All parts are bounded, and a match starts at a token: the time is linear in the length of the text.
_EMAIL = re.compile(r"(?<![\w.+%'-])[\w.+%'-]{1,64}?(?:@|%40)[\w-]{1,63}(?:\.[\w-]{1,63}){1,6}", re.IGNORECASE)
_CARD = re.compile(r"(?<![\w.-])[2-6]\d{3}(?:[ -]?\d){10,15}(?![\w-])")
_PHONE = re.compile(
    r"(?<![\w.-])(?:"
    r"(?:\+|%2B|(?<!\d )00)[1-9](?:[ ()./-]{0,2}\d){7,13}"  # international; printed EANs have " 00" inside
    r"|\(?0\d{2,4}\)?[ /-]\d{3}[\d /-]{2,9}\d"  # national with a trunk zero
    r"|\(?[2-9]\d{2}\)?[ .-]\d{3}[ .-]\d{4}"  # North American
    r")(?![\w-])",
    re.IGNORECASE,
)
_MANY_DIGITS = re.compile(r"(?:\d\D{0,3}){9}\d")
"""A phone number has at least 10 digits, with at most two characters (or `%20`) between two digits."""
_DIAL = re.compile(r"[+(\d][\d ()./+-]{5,40}")
_PHONE_WORDS = frozenset(
    {
        *("tel", "telephone", "telefon", "telefono", "phone", "phones", "phoneno", "phonenumber", "cell", "cellphone"),
        *("mobile", "mobileno", "mobilenumber", "mobilephone", "handy", "fax", "msisdn", "whatsapp", "sms"),
    }
)
_CARD_WORDS = frozenset(
    {"card", "cardno", "cardnumber", "creditcard", "creditcardnumber", "debitcard", "cc", "ccnumber", "pan"}
)
_FREE_WORDS = frozenset(
    {"q", "query", "s", "search", "searchterm", "keyword", "keywords", "term", "text", "message", "comment", "note"}
)
_WORDS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+")
_SEPARATORS = re.compile("[?&#;]")
_PARAMETER = re.compile(r"(?:^|(?<=[?&#;]))([\w.%\[\]-]{1,64})([=:])([^&#;?]+)")
_ID_NAME = re.compile(
    r"(?:id|ids|sku|skus|isbn|isbn10|isbn13|ean|ean8|ean13|gtin|gtin8|gtin12|gtin13|gtin14|upc|asin|mpn|barcode|hash)$",
    re.IGNORECASE,
)
_URL = re.compile(r"(?:[a-z][a-z0-9+.-]{1,20}://|tel:|sms:|mailto:|/|\?)\S*", re.IGNORECASE)


def has_email(text: str) -> bool:
    """Return whether a text contains an e-mail address."""
    return ("@" in text or "%40" in text) and _EMAIL.search(text) is not None


def masked(text: str) -> str:
    """Return free text with e-mail addresses, card and phone numbers replaced by `[email]`, `[card]` and `[phone]`."""
    text = _without_email(text)
    if _MANY_DIGITS.search(text):
        text = _CARD.sub(lambda match: "[card]" if _is_card(match[0]) else match[0], text)
        text = _PHONE.sub(lambda match: match[0] if _is_article_number(match[0]) else "[phone]", text)
    return text


def masked_url(text: str) -> str:
    """Return a URL with e-mail addresses masked, and with phones and cards masked in parameters named for them."""
    text = _without_email(text)
    if ("=" in text and _has_named(text)) or text.startswith(("tel:", "sms:")):
        return _PARAMETER.sub(_masked_parameter, text)
    return text


def _has_named(text: str) -> bool:
    """Return whether a URL has a parameter that is masked because of its name."""
    for part in _SEPARATORS.split(text):
        name, sign, _ = part.partition("=")
        if sign and len(name) <= _LONGEST_NAME and _kind(name) not in _UNMASKED:
            return True
    return False


def masked_tree(value: Any, name: str = "") -> Any:
    """Return JSON with all texts masked according to the name of their field."""
    if isinstance(value, dict):
        return {_without_email(key): masked_tree(part, key) for key, part in value.items() if key not in NEVER_KEPT}
    if isinstance(value, list):
        return [masked_tree(part, name) for part in value]
    if isinstance(value, (str, int, float)) and not isinstance(value, bool):
        return _masked_value(value, name)
    return value


def _masked_value(value: str | float, name: str) -> str | float:
    kind = _kind(name) if len(name) <= _LONGEST_NAME else ""
    if kind in _MASKS and _DIAL.fullmatch(str(value).strip()):
        return kind
    if not isinstance(value, str):
        return value
    if kind == "id":
        return _without_email(value)
    return masked_url(value) if _URL.fullmatch(value) else masked(value)


def _without_email(text: str) -> str:
    return _EMAIL.sub("[email]", text) if "@" in text or "%40" in text else text


def _masked_parameter(match: "re.Match[str]") -> str:
    kind = _kind(match[1])
    if kind in _UNMASKED:
        return match[0]
    value = unquote_plus(match[3])
    if kind in _MASKS and _DIAL.fullmatch(value.strip()):
        return f"{match[1]}{match[2]}{kind}"
    text = masked(value)
    return match[0] if text == value else f"{match[1]}{match[2]}{quote(text, safe='[]')}"


@lru_cache(2048)
def _kind(name: str) -> str:
    """Return the kind of a field or parameter by its name: `id`, `text`, a mask for its whole value, or empty."""
    name = unquote_plus(name)
    if _ID_NAME.search(name):
        return "id"
    words = {word.lower() for word in _WORDS.findall(name)}
    if words & _PHONE_WORDS:
        return "[phone]"
    return "[card]" if words & _CARD_WORDS else "text" if words & _FREE_WORDS else ""


def _is_card(text: str) -> bool:
    digits = [int(digit) for digit in reversed(text) if digit.isdigit()]
    if len(digits) == 14 and digits[-1] != 3:  # cards of 14 digits begin with 3, other numbers of 14 are GTINs
        return False
    doubled = [digit * 2 - 9 * (digit > 4) for digit in digits[1::2]]
    return (sum(digits[::2]) + sum(doubled)) % 10 == 0


def _is_article_number(text: str) -> bool:
    """Return whether a sequence of digits has the checksum of an EAN, UPC or ISBN-13."""
    if len(text) not in {8, 12, 13, 14} or not text.isdigit():
        return False
    digits = [int(digit) for digit in reversed(text)]
    return (sum(digits[::2]) + 3 * sum(digits[1::2])) % 10 == 0


class Addresses:
    """Hashes of truncated addresses, with a new salt each day that is never stored."""

    def __init__(self) -> None:
        self._day, self._salt = date.min, b""
        self._hashes: dict[str, str] = {}

    def hashed(self, address: str, today: date) -> str:
        """Return 16 hex digits, or an empty text if it is not an address."""
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
    """Return the network of an address: 203.0.113.0 for 203.0.113.77. The text is empty if it is not an address."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return ""
    mapped = parsed if isinstance(parsed, IPv4Address) else parsed.ipv4_mapped
    if mapped:
        return str(IPv4Address(int(mapped) & ~0xFF))
    return str(type(parsed)(int(parsed) >> 80 << 80))


_AUTOMATED = re.compile(
    "HeadlessChrome|PhantomJS|Chrome-Lighthouse|Google Page Speed|GTmetrix|Prerender|Bytespider|Mediapartners-Google|"
    "GoogleOther|Google-Extended|Google-Ads|Google-Site-Verification|APIs-Google|FeedFetcher-Google|meta-external|"
    "anthropic-ai|Claude-User|Claude-SearchBot|Perplexity-User|ChatGPT-User|SkypeUriPreview|Embedly|Iframely",
    re.IGNORECASE,
)
"""Crawlers and headless browsers that are missing in ua-parser's list."""


@lru_cache(2048)
def reduced(user_agent: str) -> dict[str, Any]:
    """Return `browser`, `os` and `device` if they are known, and `is_bot` for a known crawler.

    The result is cached: do not change it.
    """
    from ua_parser import parse

    text = user_agent[:MAX_USER_AGENT]
    parsed = parse(text)
    parts = {"browser": parsed.user_agent, "os": parsed.os, "device": parsed.device}
    client: dict[str, Any] = {name: part.family for name, part in parts.items() if part is not None}
    # ua-parser lists Java's HTTP client as a spider, but servers and apps of shops use it.
    is_spider = client.get("device") == "Spider" and client.get("browser") != "Java"
    return client | {IS_BOT: True} if is_spider or _AUTOMATED.search(text) else client
