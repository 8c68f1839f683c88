"""The table of `configuration.md`: every key with its default. Run by cog; see `make docs`."""

from collections.abc import Iterator

from koboshi_runtime.config_values import Settings

# Defaults that are the machine's, not ours.
_BY_MACHINE = {"threads", "batch_threads"}


def pages() -> Iterator[str]:
    """Yield a section for each table, its text from the class, its rows from the fields."""
    for table, values in Settings():
        yield f"## [{table}]\n"
        text = (type(values).__doc__ or "").partition(": ")[2]
        yield f"{text[:1].upper()}{text[1:]}\n"
        yield "| key | default |"
        yield "|---|---|"
        for key, value in values:
            yield f"| `{key}` | {'all processors' if key in _BY_MACHINE else f'`{value}`'} |"
        yield ""
