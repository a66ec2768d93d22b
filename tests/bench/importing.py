"""What `import fslab` costs, each time in a new process."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator

from contest import Contest, Setting

HEAVY = ("torch", "diffusers", "transformers", "plotly", "sklearn", "PIL")

CODE = """
import sys, time
start = time.perf_counter()
import {name}
print(time.perf_counter() - start, *(name for name in {heavy} if name in sys.modules))
"""


def benches(setting: Setting) -> Iterator[Contest]:
    """Seconds, then the share of what torch alone costs."""
    _, loaded = imported("fslab")
    assert not loaded, f"import fslab loads {loaded}"
    both = {"ours": lambda: imported("fslab"), "other": lambda: imported("torch")}
    what, against = "import fslab, numpy's import included", "import torch"
    own: dict[str, Callable] = {"seconds_of": lambda call: call()[0]}
    yield Contest("import-seconds", what, "a clock", **both, target=0.3, figure="seconds", **own)
    if not setting.smoke:
        yield Contest(
            "import-share", what, against, **both, target=None, figure="of its time", **own
        )


def imported(name: str) -> tuple[float, list[str]]:
    """Return the seconds of an import in a new process, and which heavy packages it loaded."""
    code = CODE.format(name=name, heavy=HEAVY)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    seconds, *loaded = done.stdout.split()
    return float(seconds), loaded
