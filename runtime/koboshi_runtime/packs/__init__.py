"""The demo projects that come with koboshi."""

from .demonstration import Demonstration, DemoTurn, Pack

__all__ = ["DemoTurn", "Demonstration", "Pack"]
