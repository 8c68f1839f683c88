"""Pages are fetched from allowed hosts at public addresses, and from nowhere else."""

import http.server
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from koboshi_tools import ToolError
from koboshi_tools.fetching import fetch, is_public


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.8.8.8",
        "0.0.0.0",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "224.0.0.1",
        "255.255.255.255",
        "240.0.0.1",
        "::1",
        "::",
        "fe80::1",
        "fe80::1%eth0",
        "fc00::1",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe",
        "2002:7f00:1::",
        "2001:db8::1",
    ],
)
def test_addresses_of_this_machine_and_its_neighbourhood_are_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["93.184.216.34", "8.8.8.8", "2606:2800:220:1::1", "64:ff9b::808:808"])
def test_addresses_of_the_internet_are_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://127.0.0.1/", "has the address 127.0.0.1, which is out of reach"),
        ("http://localhost/", "which is out of reach"),
        ("http://2130706433/", "out of reach|was not found"),
        ("http://0x7f.1/", "out of reach|was not found"),
        ("http://[::1]/", "which is out of reach"),
        ("http://[::ffff:127.0.0.1]/", "which is out of reach"),
        ("http://user:pass@8.8.8.8/", "is not a plain http or https URL"),
        ("file:///etc/passwd", "is not a plain http or https URL"),
        ("ftp://8.8.8.8/", "is not a plain http or https URL"),
        ("http://8.8.8.8:22/", "names port 22"),
        ("http://8.8.8.8:notaport/", "is not a URL"),
        ("http:///x", "is not a plain http or https URL"),
        ("http://8.8.8.8/\r\nX: y", "holds blanks"),
    ],
)
def test_urls_that_lead_elsewhere_are_refused(url: str, said: str) -> None:
    with pytest.raises(ToolError, match=said):
        fetch(url, ["*"])


def test_only_hosts_that_are_named_are_asked() -> None:
    for url in ("http://example.org.evil.test/", "http://evil.test/?example.org", "http://notexample.org/"):
        with pytest.raises(ToolError, match="is not allowed; allowed are: example.org, \\*.example.org"):
            fetch(url, ["example.org", "*.example.org"])
    with pytest.raises(ToolError, match="allowed are: none"):
        fetch("http://example.org/", [])


class Pages(http.server.BaseHTTPRequestHandler):
    """Answers by the path."""

    def do_GET(self) -> None:
        if self.path.startswith("/to/"):
            self.send_response(302)
            self.send_header("Location", self.path[4:])
            self.end_headers()
            return
        self.send_response(404 if self.path == "/none" else 200)
        self.send_header("Content-Type", "text/plain; charset=latin-1")
        self.end_headers()
        body = b"x" * (2 << 20) if self.path == "/large" else f"page {self.path} caf\xe9".encode("latin-1")
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def looked_up(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A server of this machine, reached as if `public.test` were it; every name that is looked up is noted."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Pages)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    names: list[str] = []

    def resolve(host: str, port: int, **_: Any) -> list[Any]:
        names.append(host)
        address = {"public.test": "93.184.216.34", "inside.test": "10.0.0.1"}[host]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    def connect(place: tuple[str, int], timeout: float) -> socket.socket:
        assert place == ("93.184.216.34", 80)
        channel = socket.socket()
        channel.settimeout(timeout)
        channel.connect(server.server_address)
        return channel

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setattr(socket, "create_connection", connect)
    yield names
    server.shutdown()
    server.server_close()


def test_a_page_comes_with_its_status_and_in_its_own_encoding(looked_up: list[str]) -> None:
    assert fetch("http://public.test/a?b=c", ["public.test"]).text == "page /a?b=c café"
    assert fetch("http://public.test/none", ["public.test"]).status == 404
    assert looked_up == ["public.test", "public.test"]


def test_every_redirect_is_looked_at_again(looked_up: list[str]) -> None:
    assert fetch("http://public.test/to//b", ["public.test"]).url == "http://public.test/b"
    with pytest.raises(ToolError, match="'inside.test' has the address 10.0.0.1, which is out of reach"):
        fetch("http://public.test/to/http://inside.test/", ["*.test"])
    with pytest.raises(ToolError, match="the host 'inside.test' is not allowed"):
        fetch("http://public.test/to/http://inside.test/", ["public.test"])
    with pytest.raises(ToolError, match="is not a plain http"):
        fetch("http://public.test/to/file:///etc/passwd", ["*"])
    with pytest.raises(ToolError, match="more than 4 redirects"):
        fetch("http://public.test" + "/to/" * 5 + "/x", ["*"])


def test_a_page_without_end_is_given_up(looked_up: list[str]) -> None:
    with pytest.raises(ToolError, match="it has more than 1048576 bytes"):
        fetch("http://public.test/large", ["public.test"])
