"""Pages of the web, from hosts that the project allows: `hosts = ["example.org", "*.example.org"]`."""

from typing import Annotated

from pydantic import Field

from ..definition import ToolContext, tool
from ..errors import ToolError, UsageError
from ..fetching import fetch


@tool(effect="net", idempotent=True, sandbox=False)
def http_get(url: Annotated[str, Field(min_length=8, max_length=500)], context: ToolContext) -> str:
    """Get a page of the web by its URL."""
    hosts = context.settings.get("hosts", [])
    if not isinstance(hosts, list) or not all(isinstance(host, str) for host in hosts):
        raise UsageError(f"the hosts of http_get are {hosts!r}", hint='Write hosts = ["example.org"].')
    page = fetch(url, hosts)
    if page.status != 200:
        raise ToolError(f"{page.url} answered {page.status}: {page.text[:500]}")
    return page.text
