"""A hub's cache as huggingface_hub 2.4 leaves it: blobs, links, refs, and the listing beside."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path

from models import save_captioner, save_diffusion, save_matcher

COMMIT = "0123456789abcdef0123456789abcdef01234567"
OTHER = "fedcba9876543210fedcba9876543210fedcba98"
NOT_FETCHED = ("README.md", "v1-5-pruned.ckpt", "safety_checker/model.safetensors")
"""Files of a repository that nobody needs: the listing has them, the snapshot has not."""

IDS = {
    "diffusion": "stable-diffusion-v1-5/stable-diffusion-v1-5",
    "captioner": "Salesforce/blip-image-captioning-base",
    "clip": "openai/clip-vit-base-patch32",
}
"""The models of the preset sd15."""


def write_snapshot(
    cache: Path, name: str, folder: Path, ref: str | None = "main", commit: str = COMMIT
) -> Path:
    """File a folder as a model of the hub, and return its snapshot."""
    home = cache / f"models--{name.replace('/', '--')}"
    snapshot, listing = home / "snapshots" / commit, {}
    (home / "blobs").mkdir(parents=True, exist_ok=True)
    for path in sorted(each for each in folder.rglob("*") if each.is_file()):
        said, data = path.relative_to(folder).as_posix(), path.read_bytes()
        git = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
        listing[said] = {"size": len(data), "blob_id": git}
        blob = git
        if path.suffix in (".safetensors", ".bin"):
            blob = hashlib.sha256(data).hexdigest()
            listing[said] |= {"lfs_sha256": blob, "lfs_size": len(data)}
        shutil.copyfile(path, home / "blobs" / blob)
        link = snapshot / said
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(home / "blobs" / blob, link.parent))
    listing |= {said: {"size": 7, "blob_id": "0" * 40} for said in NOT_FETCHED}
    (home / "trees").mkdir(exist_ok=True)
    text = json.dumps({"format_version": 1, "files": listing})
    (home / "trees" / f"{commit}.json").write_text(text)
    if ref:
        path = home / "refs" / ref
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(commit)
    return snapshot


def save_parts(place: Path) -> dict[str, Path]:
    """Save the three models of a preset, tiny and random, to folders of their own."""
    return {
        "diffusion": save_diffusion(place / "diffusion"),
        "captioner": save_captioner(place / "captioner"),
        "clip": save_matcher(place / "clip"),
    }


def write_preset(cache: Path, folders: dict[str, Path]) -> dict[str, Path]:
    """File the three models of sd15; CLIP from its pull request, as `fslab fetch` brings it."""
    refs = {"clip": "refs/pr/15"}
    return {
        part: write_snapshot(cache, name, folders[part], refs.get(part, "main"))
        for part, name in IDS.items()
    }


def rewrite(path: Path, data: bytes) -> None:
    """Put other bytes where a snapshot's link leads: the file that a fetch left cut or spoilt."""
    target = path.resolve()
    target.write_bytes(data)
