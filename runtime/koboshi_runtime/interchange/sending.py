"""Hand exported runs to a collector on this machine: the one place that opens a connection for an export.

Only loopback addresses are taken, by number or as `localhost`; proxies of the environment are not used and redirects
not followed, so that what was recorded here cannot leave the machine by a setting.
"""

import json
import urllib.request
from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from koboshi_tools import KoboshiError, UsageError

_TIMEOUT_S = 30


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any, **__: Any) -> None:
        """Follow none."""


def loopback_url(url: str) -> str:
    """Return `url` if it names a place on this machine. Raises UsageError for any other."""
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname or not _is_loopback(parts.hostname):
        raise UsageError(
            f"{url} is no http:// address of this machine, and nothing is sent off it",
            hint="Send to a collector here, as http://127.0.0.1:4318/v1/traces, or write a file.",
        )
    return url


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def post_json(url: str, value: Mapping[str, Any]) -> None:
    """Post a value to a loopback address. Raises KoboshiError if it is not taken."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirects)
    request = urllib.request.Request(
        loopback_url(url), json.dumps(value).encode(), headers={"Content-Type": "application/json"}
    )
    try:
        with opener.open(request, timeout=_TIMEOUT_S) as response:
            response.read()
    except OSError as error:
        raise KoboshiError(f"{url} did not take the export: {error}", hint="Is a collector listening there?") from error
