"""Invalid settings are named before anything starts."""

import os
import threading
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import botocore.exceptions
import httpx
import pytest

from boat import settings
from boat.errors import SettingError
from boat.serving.local import LocalServing

NOTHING_LISTENS = "http://127.0.0.1:9"


def test_ports_come_from_variables_and_are_marked_as_chosen() -> None:
    config = settings.load({"BOAT_PREFECT_PORT": " 5000 ", "BOAT_REPORTS_PORT": "", "BOAT_COLLECT_PORT": "65535"})
    assert (config.prefect_port, config.endpoint_port, config.collect_port) == (5000, 8080, 65535)
    assert config.chosen_ports == {"prefect_port", "collect_port"}


@pytest.mark.parametrize("text", ["abc", "0", "-1", "65536", "4200.0", "4_200", "+4200", "\uff11\uff12", "9" * 5000])
@pytest.mark.parametrize("variable", settings.PORT_VARIABLES.values())
def test_an_invalid_port_is_named_with_its_value_and_the_range(variable: str, text: str) -> None:
    with pytest.raises(SettingError) as raised:
        settings.load({variable: text})
    assert variable in str(raised.value)
    assert repr(text) in str(raised.value)
    assert "1 to 65535" in str(raised.value)


def test_two_services_cannot_share_a_port() -> None:
    with pytest.raises(SettingError, match="BOAT_PREFECT_PORT and BOAT_COLLECT_PORT are both 5000"):
        settings.load({"BOAT_PREFECT_PORT": "5000", "BOAT_COLLECT_PORT": "5000"})


@pytest.mark.parametrize("address", ["hooks.slack.com/services/T/B/secret", "ftp://secret", "https://", "https://[se"])
def test_an_invalid_webhook_is_refused_and_not_printed(address: str) -> None:
    with pytest.raises(SettingError, match="BOAT_SLACK_WEBHOOK_URL") as raised:
        settings.load({"BOAT_SLACK_WEBHOOK_URL": address})
    assert "secret" not in str(raised.value)


def test_a_webhook_is_not_printed() -> None:
    assert "secret" not in repr(settings.load({"BOAT_SLACK_WEBHOOK_URL": "https://hooks.slack.com/secret"}))


def test_the_home_of_a_user_who_does_not_exist_is_refused() -> None:
    with pytest.raises(SettingError, match="BOAT_HOME is '~nobody-of-this-name/boat'"):
        settings.load({"BOAT_HOME": "~nobody-of-this-name/boat"})


@pytest.mark.parametrize(
    "name", ["a?b", "a\\b", "a ;b", "a#b", "a$b", "a%20b", "a*b", "a[b]", "a\nb", "a\tb", "a\x7fb", "a\udcffb"]
)
def test_a_home_that_a_service_cannot_handle_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="BOAT_HOME is"):
        settings.prepare_home(tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_a_home_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for home in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(SettingError, match="not writable"):
            settings.prepare_home(home)


def test_a_home_that_is_not_writable_is_refused() -> None:
    with pytest.raises(SettingError, match="BOAT_HOME is '/proc/boat', but that folder is not writable"):
        settings.prepare_home(Path("/proc/boat"))


def test_a_home_is_created_and_stays_empty(tmp_path: Path) -> None:
    home = tmp_path / "new" / "50% (off); 'q' \"d\" ü"
    settings.prepare_home(home)
    assert list(home.iterdir()) == []


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, {}),
        ({"NO_PROXY": "a.example"}, {"NO_PROXY": "a.example"}),
        ({"HTTP_PROXY": "p"}, {"no_proxy": "127.0.0.1,localhost", "NO_PROXY": "127.0.0.1,localhost"}),
        (
            {"all_proxy": "p", "NO_PROXY": "a.example, localhost"},
            {"no_proxy": "a.example,localhost,127.0.0.1", "NO_PROXY": "a.example,localhost,127.0.0.1"},
        ),
        (
            {"https_proxy": "p", "no_proxy": "a", "NO_PROXY": "b"},
            {"no_proxy": "a,127.0.0.1,localhost", "NO_PROXY": "b,127.0.0.1,localhost"},
        ),
        ({"HTTPS_PROXY": "p", "no_proxy": "*"}, {"no_proxy": "*"}),
    ],
)
def test_no_proxy_is_extended(before: dict[str, str], after: dict[str, str]) -> None:
    environment = dict(before)
    settings.reach_loopback(environment)
    proxies = {name: value for name, value in before.items() if name.lower() != "no_proxy"}
    assert environment == {**proxies, **after}


@pytest.fixture
def answering() -> Iterator[str]:
    """Start a server that answers 404 to every request, and yield its address."""

    class NotFoundHandler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(404)

        do_POST = do_GET

        def log_message(self, *_: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), NotFoundHandler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set proxies that do not listen, without an exception for this machine."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        for spelled in (name, name.upper()):
            monkeypatch.setenv(spelled, NOTHING_LISTENS)
    monkeypatch.setenv("all_proxy", "socks5://127.0.0.1:9")
    monkeypatch.delenv("no_proxy")
    monkeypatch.delenv("NO_PROXY")


@pytest.mark.usefixtures("proxies")
def test_calls_to_this_machine_use_no_proxy(answering: str) -> None:
    settings.reach_loopback(os.environ)
    for address in (answering, answering.replace("127.0.0.1", "localhost")):
        assert httpx.get(address, timeout=10).status_code == 404
        with pytest.raises(urllib.request.HTTPError, match="404"):
            urllib.request.urlopen(address, timeout=10)


@pytest.mark.usefixtures("proxies")
def test_the_endpoint_host_is_called_without_a_proxy(answering: str) -> None:
    with pytest.raises(botocore.exceptions.ClientError, match="404"):
        LocalServing(f"local:{answering}").runtime().invoke_endpoint(EndpointName="any", Body=b"")
