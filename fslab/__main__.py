"""`python -m fslab` is the command line."""

from fslab.cli import main

main()
