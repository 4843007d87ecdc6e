"""The command line: `tfpqn ...`, also `python -m tfpqn`."""

from tfpqn.cli.entry_point import main as main

__all__ = ["main"]
