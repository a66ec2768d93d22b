"""The thin command line over `lab`, `evaluate` and `score`."""

from fslab.cli.main import main

__all__ = ["main"]
