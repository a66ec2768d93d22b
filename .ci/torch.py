"""Put PyTorch into this Python's environment: on Linux without a GPU, its build for the CPU.

pip's file for Linux on x86-64 brings gigabytes of libraries for a GPU. Where there is none, and
pip has no build for the CPU at hand, uv is asked for one, which knows where PyTorch keeps them;
where that cannot be reached either, nothing is fetched, and one line says what to do. In a file
or a requirement given as argument somebody has decided already.
"""

import importlib.metadata
import json
import shutil
import subprocess
import sys
from pathlib import Path

CONSTRAINTS = Path(__file__).resolve().parents[1] / "constraints.txt"
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")
FOR_A_GPU = ("cuda-", "nvidia-", "triton")


def main() -> int:
    """Install what is asked for, or the pinned version; return the exit code."""
    if given := sys.argv[1:]:
        return run(*PIP, "install", *given)
    asked = pinned()
    if installed() == asked.partition("==")[2]:
        return 0
    if has_gpu() or not brings(asked):
        return run(*PIP, "install", asked)
    uv = (sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", sys.executable)
    if not run(*PIP, "install", "uv") and not run(*uv, "--torch-backend", "cpu", asked):
        return 0
    print(
        f"There is no GPU here, and pip's {asked} brings gigabytes for one. Give a build for the "
        f"CPU, make TORCH=FILE_OR_URL, or take it all the same: make TORCH={asked}",
        file=sys.stderr,
    )
    return 1


def pinned() -> str:
    """Return the requirement of constraints.txt."""
    lines = CONSTRAINTS.read_text(encoding="utf-8").splitlines()
    return next(line for line in lines if line.startswith("torch=="))


def installed() -> str:
    """Return the version that is here, without what it was built for; "" where none is."""
    try:
        return importlib.metadata.version("torch").partition("+")[0]
    except importlib.metadata.PackageNotFoundError:
        return ""


def has_gpu() -> bool:
    """Tell whether pip's own file is the right one: a GPU of NVIDIA's, or another system."""
    return (
        sys.platform != "linux"
        or shutil.which("nvidia-smi") is not None
        or Path("/proc/driver/nvidia").exists()
    )


def brings(asked: str) -> bool:
    """Tell whether pip would install libraries for a GPU with it; also where it cannot say."""
    done = subprocess.run(
        [*PIP, "install", "--dry-run", "--ignore-installed", "--report", "-", asked],
        stdout=subprocess.PIPE, check=False,
    )  # fmt: skip
    if done.returncode:
        return True
    names = [one["metadata"]["name"] for one in json.loads(done.stdout)["install"]]
    return any(name.startswith(FOR_A_GPU) for name in names)


def run(*command: str) -> int:
    """Run a command; return its exit code."""
    return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
