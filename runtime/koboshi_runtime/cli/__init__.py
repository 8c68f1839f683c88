"""The command line: `main` is the program `koboshi`."""

from .root import main

__all__ = ["main"]
