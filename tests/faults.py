"""How many faults the hard tests inject, and that all were survived, by kind.

`python tests/faults.py` runs the tests of the store and of evaluation and prints the table; a fault
counts after the assertions on what it left, so a failing test adds nothing.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import pytest

SURVIVED: Counter[str] = Counter()
HARD = ("test_hard_store.py", "test_hard_evaluation.py", "test_hard_interrupts.py")


def survived(kind: str, count: int = 1) -> None:
    """Count faults of one kind whose aftermath was checked."""
    SURVIVED[kind] += count


def table() -> str:
    """Return the counts as a table of Markdown."""
    rows = [f"| {kind} | {count} |" for kind, count in sorted(SURVIVED.items())]
    total = f"| all | {SURVIVED.total()} |"
    return "\n".join(["| fault | injected and survived |", "|---|---|", *rows, total])


def main() -> int:
    """Run the hard tests and print the table."""
    import faults  # the module that the tests count in, not this program

    here = Path(__file__).parent
    code = pytest.main(["-q", *(str(here / name) for name in HARD)])
    print(faults.table())
    return int(code)


if __name__ == "__main__":
    sys.exit(main())
