"""A process that uses a replica hub as a person would: the client reads its settings at import.

It runs one command of fslab, or one piece of Python, after another, so that libraries are imported
once; a command's exit code and what it printed come back.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Answer:
    code: int
    out: str
    err: str


def environment(hub_url: str, home: Path, **more: str) -> dict[str, str]:
    """Return the environment of a machine whose hub is the replica, with folders of its own."""
    own = {
        "HF_ENDPOINT": hub_url, "HF_HUB_DISABLE_XET": "1", "HF_HOME": str(home / "hf"),
        "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_TELEMETRY": "1", "FSLAB_WEIGHTS": str(home / "own"),
        "FSLAB_STORE": str(home / "store"), "OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1",
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]),
    }  # fmt: skip
    dropped = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_CACHE", "TRANSFORMERS_OFFLINE")
    kept = {name: value for name, value in os.environ.items() if name not in dropped}
    return {**kept, **own, **more}


class Client:
    """The process, seen from a test."""

    def __init__(self, settings: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, __file__], env=settings, text=True, cwd=ROOT,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip

    def run(self, *words: object) -> Answer:
        """Run `fslab WORDS`."""
        return self._ask({"words": [str(word) for word in words]})

    def python(self, code: str) -> Answer:
        """Run Python; the exit code is 1 where it raised, and what it raised is in `err`."""
        return self._ask({"code": code})

    def cache(self, folder: Path) -> None:
        """Use another cache and another folder of weights from now on."""
        code = (
            f"import os, huggingface_hub.constants as c; c.HF_HUB_CACHE = {str(folder / 'hub')!r}"
        )
        code += f"; os.environ['FSLAB_WEIGHTS'] = {str(folder / 'own')!r}"
        assert self.python(code).code == 0

    def _ask(self, question: dict) -> Answer:
        self.process.stdin.write(json.dumps(question) + "\n")
        self.process.stdin.flush()
        return Answer(**json.loads(self.process.stdout.readline()))

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait(20)


def _answered(question: dict) -> Answer:
    out, err, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        if "words" in question:
            from fslab.cli import main

            sys.argv = ["fslab", *question["words"]]
            try:
                main()
            except SystemExit as ended:
                code = ended.code or 0
        else:
            try:
                exec(question["code"], {})
            except BaseException as error:  # noqa: BLE001 - the answer says what it was
                code = 1
                err.write(f"{type(error).__name__}: {error}")
    return Answer(code, out.getvalue(), err.getvalue())


def serve() -> None:
    """Answer questions, one a line, until there are none."""
    import huggingface_hub.constants
    from listed_once import listed_once

    # The replica's files are small: the client shall write pieces of them, as it does of large ones.
    huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE = 1 << 16
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints is no answer
    with listed_once():
        for line in sys.stdin:
            print(json.dumps(vars(_answered(json.loads(line)))), file=answers, flush=True)


if __name__ == "__main__":
    serve()
