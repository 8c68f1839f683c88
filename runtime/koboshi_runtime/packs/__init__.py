"""The demo projects that come with koboshi."""

from .demonstration import Demonstration, DemoTurn, Pack
from .loading import PACKS, load_pack

__all__ = ["PACKS", "DemoTurn", "Demonstration", "Pack", "load_pack"]
