"""Get a page from a host that was allowed, and from no address of this machine or its neighbourhood.

A name is resolved once, every address that it has must be a public one, and the connection goes to the address that was
looked at: a name that answers differently the next time gains nothing. Every redirect is looked at in the same way.

Covered: loopback, private, link-local, multicast and reserved addresses, also those written inside IPv6; ports other
than 80 and 443; users and passwords in a URL; size, time and the number of redirects; proxies of the environment are
not used. Not covered: what an allowed host does with what a URL tells it.
"""

import http.client
import ipaddress
import socket
import ssl
import time
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import NamedTuple
from urllib.parse import SplitResult, urljoin, urlsplit

from .definition import Page
from .errors import ToolError
from .sandbox.wire import FetchAnswer

MAX_BYTES = 1 << 20
MAX_REDIRECTS = 4
TIME_LIMIT_S = 20.0

_CONNECT_S = 8.0
_PORTS = {"http": 80, "https": 443}
_REDIRECTS = (301, 302, 303, 307, 308)
_MAX_URL = 2000
# IPv6 addresses that carry an IPv4 one in their last 32 bits, or right after the prefix.
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_SIX_TO_FOUR = ipaddress.ip_network("2002::/16")


class _Place(NamedTuple):
    """Where a URL leads: what is asked for, and the address that is connected to."""

    parts: SplitResult
    host: str
    port: int
    address: str


def fetch(url: str, hosts: Iterable[str]) -> Page:
    """Return the page at `url`. Raises ToolError: its host is not one of `hosts` (names or globs), or has no page."""
    allowed, deadline = tuple(hosts), time.monotonic() + TIME_LIMIT_S
    for _ in range(MAX_REDIRECTS + 1):
        place = _look_at(url, allowed)
        page, moved = _get(place, url, deadline)
        if moved is None:
            return page
        url = urljoin(url, moved)
    raise ToolError(f"{url}: more than {MAX_REDIRECTS} redirects")


def fetch_answer(url: str, hosts: Iterable[str] | None) -> FetchAnswer:
    """Answer a sandboxed tool that asks for a page; `hosts` None means that it may not reach out at all."""
    if hosts is None:
        return FetchAnswer(refused=f"{url[:_MAX_URL]} cannot be fetched: only a tool of effect net may reach out")
    try:
        page = fetch(url, hosts)
    except ToolError as error:
        return FetchAnswer(refused=str(error))
    return FetchAnswer(status=page.status, url=page.url, content_type=page.content_type, text=page.text)


def is_public(address: str) -> bool:
    """Say whether an address is one of the public internet."""
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        inside = found.ipv4_mapped
        if found in _NAT64:
            inside = ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
        elif found in _SIX_TO_FOUR:
            inside = ipaddress.IPv4Address((int(found) >> 80) & 0xFFFFFFFF)
        if inside is not None:
            return is_public(str(inside))
    return found.is_global and not found.is_multicast and not found.is_reserved


def _look_at(url: str, allowed: tuple[str, ...]) -> _Place:
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").rstrip(".").encode("idna").decode("ascii").lower(), parts.port
    except (ValueError, UnicodeError) as error:
        raise ToolError(f"{url[:_MAX_URL]!r} is not a URL: {error}") from error
    if len(url) > _MAX_URL or any(ord(character) <= 32 for character in url):
        raise ToolError("the URL is too long, or holds blanks")
    if parts.scheme not in _PORTS or not host or "@" in parts.netloc:
        raise ToolError(f"{url!r} is not a plain http or https URL")
    if not any(fnmatchcase(host, glob.lower()) for glob in allowed):
        raise ToolError(f"the host {host!r} is not allowed; allowed are: {', '.join(allowed) or 'none'}")
    port = _PORTS[parts.scheme] if port is None else port
    if port not in _PORTS.values():
        raise ToolError(f"{url!r} names port {port}; only 80 and 443 are possible")
    return _Place(parts, host, port, _resolved(host, port))


def _resolved(host: str, port: int) -> str:
    try:
        found = [str(item[4][0]) for item in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    except (OSError, UnicodeError) as error:
        raise ToolError(f"the host {host!r} was not found: {error}") from error
    hidden = [address for address in found if not is_public(address)]
    if hidden or not found:
        raise ToolError(f"the host {host!r} has the address {', '.join(hidden)}, which is out of reach")
    return found[0]


def _get(place: _Place, url: str, deadline: float) -> tuple[Page, str | None]:
    """Return what one address answers, and where it sends the reader to, if it does."""
    target = (place.parts.path or "/") + (f"?{place.parts.query}" if place.parts.query else "")
    try:
        with _connected(place) as channel:
            connection = http.client.HTTPConnection(place.host, place.port, timeout=_CONNECT_S)
            connection.sock = channel
            connection.request("GET", target, headers={"User-Agent": "koboshi", "Accept-Encoding": "identity"})
            answer = connection.getresponse()
            moved = answer.getheader("Location") if answer.status in _REDIRECTS else None
            data = b"" if moved else _body(answer, deadline)
            kind = answer.getheader("Content-Type") or ""
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise ToolError(f"{url} could not be read: {error or type(error).__name__}") from error
    return Page(answer.status, url, kind, _text(data, kind)), moved


def _connected(place: _Place) -> socket.socket:
    channel = socket.create_connection((place.address, place.port), timeout=_CONNECT_S)
    if place.parts.scheme == "http":
        return channel
    try:
        return ssl.create_default_context().wrap_socket(channel, server_hostname=place.host)
    except BaseException:
        channel.close()
        raise


def _body(answer: http.client.HTTPResponse, deadline: float) -> bytes:
    data = b""
    # In pieces: a server that sends a byte now and then must not hold the call.
    while piece := answer.read1(1 << 16):
        data += piece
        if len(data) > MAX_BYTES:
            raise ValueError(f"it has more than {MAX_BYTES} bytes")
        if time.monotonic() > deadline:
            raise TimeoutError(f"it took more than {TIME_LIMIT_S:g} s")
    return data


def _text(data: bytes, content_type: str) -> str:
    named = content_type.partition("charset=")[2].split(";")[0].strip("\"' ")
    try:
        return data.decode(named or "utf-8", errors="replace")
    except LookupError:
        return data.decode("utf-8", errors="replace")
