"""The demo projects by name. A pack's generator is imported when it is asked for, so that a listing costs nothing."""

from importlib import import_module
from pathlib import Path

from koboshi_tools import UsageError

from .demonstration import Pack

PACKS = ("shop", "arithmetic")


def load_pack(name: str) -> Pack:
    """Return the pack of this name; UsageError names the packs there are."""
    if name not in PACKS:
        raise UsageError(f"there is no pack {name!r}", hint=f"The packs are: {', '.join(PACKS)}.")
    module = import_module(f".{name}.generate", __package__)
    return Pack(
        name=name,
        folder=Path(__file__).parent / name,
        sizes=module.SIZES,
        generate=module.generate,
        demonstrations=module.demonstrations,
        write_workspace=module.write_workspace,
    )
