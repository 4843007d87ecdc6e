"""The command line: `tfpqn ...`, also `python -m tfpqn`."""

from tfpqn.cli.main import main as main

__all__ = ["main"]
