"""Settings of a collector from variables and options, and invalid ones that it refuses at its start."""

from pathlib import Path

import pytest

from boat import settings
from boat.__main__ import main
from boat.collect.server import ServerOptions
from boat.errors import SettingError
from tests.collect.events import GOOD
from tests.collect.running_collector import running_collector


def test_an_empty_environment_is_enough() -> None:
    assert settings.load_collector({}) == settings.CollectorSettings()


def test_lists_are_separated_by_commas() -> None:
    collector = settings.load_collector(
        {
            "BOAT_COLLECT_ORIGINS": "https://a.example, https://b.example,",
            "BOAT_COLLECT_KEYS": "a:secret-with:a-colon,b:sixteen-characters",
            "BOAT_COLLECT_PROXIES": "10.0.0.1,10.0.0.2",
        }
    )
    assert collector.origins == {"https://a.example", "https://b.example"}
    assert collector.secrets == {"a": "secret-with:a-colon", "b": "sixteen-characters"}
    assert collector.proxies == "10.0.0.1,10.0.0.2"


@pytest.mark.parametrize("keys", ["secret-without-a-key", "a:short", ":sixteen-characters"])
def test_invalid_keys_are_refused_without_printing_them(keys: str) -> None:
    with pytest.raises(SettingError, match="BOAT_COLLECT_KEYS") as raised:
        settings.load_collector({"BOAT_COLLECT_KEYS": keys})
    assert keys not in str(raised.value)


def test_secrets_are_not_printed() -> None:
    collector = settings.load_collector({"BOAT_COLLECT_KEYS": "a:sixteen-characters"})
    assert "sixteen" not in repr(collector)


@pytest.mark.parametrize(
    ("text", "as_a_browser_sends_it"),
    [
        ("https://shop.example", "https://shop.example"),
        ("https://shop.example/", "https://shop.example"),
        ("  HTTPS://Shop.Example  ", "https://shop.example"),
        ("https://Shop.example:443/", "https://shop.example"),
        ("https://shop.example:0443", "https://shop.example"),
        ("https://shop.example:", "https://shop.example"),
        ("http://shop.example:80", "http://shop.example"),
        ("http://shop.example:443", "http://shop.example:443"),
        ("https://shop.example:8443/", "https://shop.example:8443"),
        ("http://localhost:3000", "http://localhost:3000"),
        ("http://192.168.0.1:80/", "http://192.168.0.1"),
        ("http://[2001:DB8:0:0::1]:8080", "http://[2001:db8::1]:8080"),
        ("http://[::1]:80", "http://[::1]"),
        ("https://my_shop.example", "https://my_shop.example"),
        ("https://MÜNCHEN.example", "https://xn--mnchen-3ya.example"),
        ("https://straße.example", "https://xn--strae-oqa.example"),
        ("https://mu\u0308nchen。example", "https://xn--mnchen-3ya.example"),
        ("https://例え.テスト:443", "https://xn--r8jz45g.xn--zckzah"),
        ("https://XN--MNCHEN-3YA.example", "https://xn--mnchen-3ya.example"),
    ],
)
def test_an_origin_is_stored_as_browsers_send_it(text: str, as_a_browser_sends_it: str) -> None:
    assert settings.origin(text, "--origin") == as_a_browser_sends_it
    assert settings.load_collector({"BOAT_COLLECT_ORIGINS": f"{text},"}).origins == {as_a_browser_sends_it}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("shop.example", "no scheme"),
        ("shop.example:443", "no scheme"),
        ("//shop.example", "no scheme"),
        ("null", "no scheme"),
        ("", "no scheme"),
        ('"https://shop.example"', "not http or https"),
        ("ftp://shop.example", "not http or https"),
        ("ws://shop.example", "not http or https"),
        ("*", "no scheme"),
        ("https://*", "wildcard"),
        ("https://*.shop.example", "wildcard"),
        ("https://shop.example/cart", "a path"),
        ("https://shop.example//", "a path"),
        ("https://shop.example/?", "a path"),
        ("https://shop.example?a=b", "a query"),
        ("https://shop.example#top", "a fragment"),
        ("https:\\\\shop.example", "no scheme"),
        ("https://shop.example\\", "a backslash"),
        ("https://me@shop.example", "a user name"),
        ("https://me:secret@shop.example", "a user name"),
        ("https://", "no host"),
        ("https:///", "no host"),
        ("https://:443", "no host"),
        ("https://shop.example:0", "not a port"),
        ("https://shop.example:65536", "not a port"),
        ("https://shop.example:https", "not a port"),
        ("https://shop.example:-1", "not a port"),
        ("https://a.example:443:444", "not a port"),
        ("https://shop..example", "part of a host"),
        ("https://shop.example.", "part of a host"),
        ("https://shop example", "part of a host"),
        ("https://a.example https://b.example", "a path"),
        ("https://a.example;https://b.example", "a path"),
        ("https://shop\u200b.example", "part of a host"),
        ("https://shop\n.example", "part of a host"),
        (f"https://{'a' * 64}.example", "part of a host"),
        ("https://shop%2Eexample", "percent"),
        ("https://1.2.3", "octets"),
        ("https://0x7f.1", "octets"),
        ("https://1.2.3.456", "456"),
        ("https://[::1", "not a port"),
        ("https://[fe80::1%25eth0]", "percent"),
        ("https://[shop]", "shop"),
        ("https://[::1]x", "not a port"),
    ],
)
def test_an_invalid_origin_is_named_with_the_reason(text: str, why: str) -> None:
    with pytest.raises(SettingError) as raised:
        settings.origin(text, "--origin")
    assert f"--origin has {text!r}" in str(raised.value)
    assert why in str(raised.value)
    assert "such as https://shop.example" in str(raised.value)


def test_an_invalid_origin_is_named_with_its_variable() -> None:
    with pytest.raises(SettingError, match=r"BOAT_COLLECT_ORIGINS has 'b\.example'"):
        settings.load_collector({"BOAT_COLLECT_ORIGINS": "https://a.example,b.example"})


@pytest.mark.parametrize("text", ["10.0.0.1, 10.1.0.0/16", "2001:db8::/32,::1"])
def test_proxies_are_addresses_and_networks(text: str) -> None:
    assert settings.load_collector({"BOAT_COLLECT_PROXIES": text}).proxies == text.replace(" ", "")


@pytest.mark.parametrize("text", ["*", "proxy.example", "10.0.0", "10.0.0.1/8", "10.0.0.256", "10.0.0.1:80"])
def test_an_invalid_proxy_is_named(text: str) -> None:
    with pytest.raises(SettingError, match="BOAT_COLLECT_PROXIES") as raised:
        settings.load_collector({"BOAT_COLLECT_PROXIES": f"127.0.0.1,{text}"})
    assert repr(text) in str(raised.value)


def test_a_key_has_only_one_secret() -> None:
    with pytest.raises(SettingError, match="BOAT_COLLECT_KEYS has the key 'a' 2 times") as raised:
        settings.load_collector({"BOAT_COLLECT_KEYS": "a:sixteen-characters,b:sixteen-characters,a:sixteen-other-ones"})
    assert "sixteen-" not in str(raised.value)


def test_shops_are_separated_by_commas_and_an_empty_list_means_any() -> None:
    assert settings.load_collector({"BOAT_COLLECT_SHOPS": "mugs, Läden & Co"}).shops == {"mugs", "Läden & Co"}
    assert settings.load_collector({"BOAT_COLLECT_SHOPS": " "}).shops == frozenset()
    assert settings.load_collector({"BOAT_COLLECT_SHOPS": "m" * 64}).shops == {"m" * 64}


@pytest.mark.parametrize("text", ["mugs,,pens", "m" * 65, "mugs\tpens", "mugs,(not set)"])
def test_an_invalid_name_of_a_shop_is_refused(text: str) -> None:
    with pytest.raises(SettingError, match="BOAT_COLLECT_SHOPS"):
        settings.load_collector({"BOAT_COLLECT_SHOPS": text})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--port", "abc"], "--port is 'abc', which is not a port"),
        (["--port", "0"], "--port is '0', which is not a port"),
        (["--port", "70000"], "1 to 65535"),
        (["--origin", "shop.example"], "--origin has 'shop.example'"),
        (["--proxy", "*"], "--proxy has '*'"),
        (["--shop", ""], "--shop has ''"),
        (["--events-per-second", "nan"], "--events-per-second is nan"),
        (["--events-per-second", "inf"], "--events-per-second is inf"),
        (["--events-per-second", "-1"], "--events-per-second is -1"),
        (["--burst", "0"], "--burst is 0"),
        (["--rotate-seconds", "0"], "--rotate-seconds is 0"),
        (["--rotate-seconds", "nan"], "--rotate-seconds is nan"),
        (["--landing", "s3://bucket/shop"], "s3://bucket/shop is not a local folder"),
    ],
)
def test_an_invalid_option_is_named_in_one_line(
    options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["collect", "--landing", str(tmp_path), *options]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_an_origin_in_another_notation_may_send(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOAT_COLLECT_ORIGINS", "https://Other.example/")
    with running_collector(tmp_path / "landing", "--origin", "https://Shop.example:443/") as collecting:
        for origin in ("https://shop.example", "https://other.example", collecting.url):
            answer = collecting.post(GOOD, origin=origin)
            assert answer.status_code == 200
            assert answer.headers["access-control-allow-origin"] == origin
        assert collecting.post(GOOD, origin="https://shop.example:8443").status_code == 403


def test_a_collector_on_port_80_allows_its_own_pages() -> None:
    assert ServerOptions(Path("landing"), port=80).own_origins == {"http://127.0.0.1", "http://localhost"}
