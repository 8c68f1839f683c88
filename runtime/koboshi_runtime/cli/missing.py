"""Which extra of the distribution brings a package that is not installed: the runtime works without any of them."""

from importlib.metadata import PackageNotFoundError, requires
from re import match


def extra_with(module: str | None) -> str | None:
    """Return the extra that installs the top-level package of `module`, or None if none does."""
    wanted = (module or "").partition(".")[0].lower()
    try:
        needed = requires("koboshi") or []
    except PackageNotFoundError:
        return None
    for requirement in needed:
        package, extra = match(r"[\w.-]+", requirement), match(r".*extra == ['\"](\w+)['\"]", requirement)
        if package and extra and package[0].lower().replace("-", "_") == wanted:
            return extra[1]
    return None
