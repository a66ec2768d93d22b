"""Put pydensecrf2 into this Python's environment, if it can be built: the CRF that ours is held to.

The registry has it as source only, for Python 3.11 and 3.12. Where it cannot be built, one line
says so, and nothing but the comparison with it is missing.
"""

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

LOCKED = Path(__file__).resolve().parents[1] / "requirements-reference.txt"
COMPILERS = ("c++", "g++", "clang++")


def main() -> int:
    """Install it; return the exit code."""
    if lacking := lacks():
        print(f"pydensecrf2 is left out, and with it the comparison of our CRF: {lacking}")
        return 0
    pip = (sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    how = ("--require-hashes", "--no-deps", "--no-build-isolation", "-r", str(LOCKED))
    return subprocess.run([*pip, *how], check=False).returncode


def lacks() -> str:
    """Return what its build lacks here; "" where nothing."""
    if sys.version_info >= (3, 13):
        return "it builds on Python 3.11 and 3.12 only"
    if not any(map(shutil.which, COMPILERS)):
        return "there is no C++ compiler"
    if not Path(sysconfig.get_path("include"), "Python.h").exists():
        return "Python's headers are not here (Debian: python3-dev)"
    return ""


if __name__ == "__main__":
    sys.exit(main())
