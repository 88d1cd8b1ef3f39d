"""Rate limits and signatures of senders, in bounded memory."""

import hmac
import re
from collections import OrderedDict
from collections.abc import Mapping

REPLAY_SECONDS = 300
"""Largest difference between a signature's time and ours. A signature is accepted once."""
MAX_SENDERS = 50_000
MAX_SIGNATURES = 200_000

_SIGNATURE = re.compile(r"t=(\d{1,12}),v1=([0-9a-f]{64})")


class RateLimit:
    """A token bucket for each key: `burst` events at once, `per_second` in the long run.

    Beyond `MAX_SENDERS`, the key used longest ago is forgotten. It starts again with a full bucket.
    """

    def __init__(self, per_second: float, burst: int) -> None:
        self._per_second, self._burst = per_second, burst
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, key: str, events: int, now: float) -> float:
        """Take a token per event. Return 0, or the seconds to wait if there are too few: then no token is used."""
        tokens, since = self._buckets.pop(key, (float(self._burst), now))
        tokens = min(self._burst, tokens + max(0.0, now - since) * self._per_second)
        enough = tokens >= min(events, self._burst)
        self._buckets[key] = (tokens - events if enough else tokens, now)
        if len(self._buckets) > MAX_SENDERS:
            self._buckets.popitem(last=False)
        return 0.0 if enough else (min(events, self._burst) - tokens) / self._per_second


def signature(secret: str, seconds: int, body: bytes) -> str:
    """Return the `X-Boat-Signature` of a body in the bytes that are sent: HMAC-SHA256 over `SECONDS.BODY`."""
    return f"t={seconds},v1={_digest(secret, str(seconds), body)}"


def _digest(secret: str, seconds: str, body: bytes) -> str:
    return hmac.digest(secret.encode(), seconds.encode() + b"." + body, "sha256").hex()


class Signatures:
    """Checks signatures and accepts each of them once.

    Args:
        secrets: Secret of each signing key.
    """

    def __init__(self, secrets: Mapping[str, str]) -> None:
        self._secrets = secrets
        self._seen: OrderedDict[str, float] = OrderedDict()

    def flaw(self, key: str, signed: str, body: bytes, now: float) -> str:
        """Return why a signature is not valid, or an empty text if it is. Sign each retry again."""
        match = _SIGNATURE.fullmatch(signed)
        secret = self._secrets.get(key)
        if match is None or secret is None:
            return "signature_unknown"
        if not hmac.compare_digest(match[2], _digest(secret, match[1], body)):
            return "signature_wrong"
        if abs(now - int(match[1])) > REPLAY_SECONDS:
            return "signature_expired"
        return self._flaw_of_replay(match[2], now)

    def _flaw_of_replay(self, digest: str, now: float) -> str:
        while self._seen and next(iter(self._seen.values())) < now:
            self._seen.popitem(last=False)
        if digest in self._seen:
            return "signature_replayed"
        if len(self._seen) >= MAX_SIGNATURES:  # a forgotten signature could be replayed
            return "signature_memory_full"
        self._seen[digest] = now + 2 * REPLAY_SECONDS
        return ""
