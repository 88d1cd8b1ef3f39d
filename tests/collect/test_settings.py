"""What a collector finds in its environment."""

import pytest

from boat import settings
from boat.errors import SettingError


def test_an_empty_environment_is_enough() -> None:
    assert settings.load_collector({}) == settings.CollectorSettings()


def test_lists_are_separated_by_commas() -> None:
    found = settings.load_collector(
        {
            "BOAT_COLLECT_ORIGINS": "https://a.example, https://b.example,",
            "BOAT_COLLECT_KEYS": "a:secret-with:a-colon,b:sixteen-characters",
            "BOAT_COLLECT_PROXIES": "10.0.0.1,10.0.0.2",
        }
    )
    assert found.origins == {"https://a.example", "https://b.example"}
    assert found.secrets == {"a": "secret-with:a-colon", "b": "sixteen-characters"}
    assert found.proxies == "10.0.0.1,10.0.0.2"


@pytest.mark.parametrize("keys", ["secret-without-a-key", "a:short", ":sixteen-characters"])
def test_keys_that_cannot_be_read_are_named_without_telling_them(keys: str) -> None:
    with pytest.raises(SettingError, match="BOAT_COLLECT_KEYS") as raised:
        settings.load_collector({"BOAT_COLLECT_KEYS": keys})
    assert keys not in str(raised.value)


def test_secrets_are_not_shown() -> None:
    found = settings.load_collector({"BOAT_COLLECT_KEYS": "a:sixteen-characters"})
    assert "sixteen" not in repr(found)
