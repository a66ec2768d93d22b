"""Speaks what huggingface_hub's client asks: information, trees, files with etags and ranges.

Large files are redirected to a second server, as the real hub does to its storage. Faults are
asked for by a test: gates, missing repositories, connections cut, wrong bytes, files held midway.
"""

from __future__ import annotations

import hashlib
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

LARGE = (".safetensors", ".bin", ".ckpt", ".h5", ".msgpack", ".onnx", ".png", ".pt")
"""Endings of files that the hub keeps as large ones, named by their sha256."""

PAGE = 20
"""Entries of a tree in one answer; the real hub gives 1,000."""


def _git_digest(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@dataclass(frozen=True)
class Entry:
    """One file of a repository; size: what the hub says of it, which a test may change."""

    path: Path
    size: int
    sha1: str
    sha256: str
    large: bool

    @property
    def etag(self) -> str:
        return self.sha256 if self.large else self.sha1


@dataclass
class Repository:
    """A model's files by revision: {"main": {"unet/config.json": path on this machine}}."""

    revisions: dict[str, dict[str, Path]]
    trees: dict[str, dict[str, Entry]] = field(default_factory=dict)
    commits: dict[str, str] = field(default_factory=dict)

    def __post_init__(self):
        for revision, files in self.revisions.items():
            tree = {name: _entry(name, path) for name, path in sorted(files.items())}
            listing = json.dumps([[name, each.etag] for name, each in tree.items()])
            commit = hashlib.sha1(listing.encode()).hexdigest()
            self.trees[commit] = tree
            self.commits[revision] = commit

    def commit(self, revision: str) -> str | None:
        """Return the commit of a branch, of a pull request or of a commit itself."""
        return revision if revision in self.trees else self.commits.get(revision)

    def say_size(self, name: str, size: int) -> None:
        """Have the hub say another size of a file than it has."""
        for tree in self.trees.values():
            if name in tree:
                tree[name] = Entry(**{**vars(tree[name]), "size": size})


def _entry(name: str, path: Path) -> Entry:
    content = path.read_bytes()
    return Entry(
        path, len(content), _git_digest(content), hashlib.sha256(content).hexdigest(),
        name.endswith(LARGE),
    )  # fmt: skip


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, hub: Hub, handler: type) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        self.hub = hub
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request, client_address):
        """A client that was killed is no error of ours."""


class Hub:
    """The server, its repositories and the faults that are asked of it.

    gated: a repository's id to the token that opens it. cuts: a file's name to how many bytes each
    connection in turn gets. wrong: names of files whose bytes are altered on the way. held: a
    file's name to the bytes after which its connection waits for `release`. asked: (method, path,
    range) of every request, and `tokens` of those to the storage.
    """

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.gated: dict[str, str] = {}
        self.cuts: dict[str, list[int]] = {}
        self.held: dict[str, int] = {}
        self.wrong: set[str] = set()
        self.status = 200
        self.asked: list[tuple[str, str, str | None]] = []
        self.tokens: list[str | None] = []
        self.waiting, self.release = threading.Event(), threading.Event()
        self._storage, self._front = _Server(self, _Storage), _Server(self, _Front)
        self.url, self.storage_url = self._front.url, self._storage.url

    def close(self) -> None:
        """Stop both servers."""
        self.release.set()
        for server in (self._front, self._storage):
            server.shutdown()
            server.server_close()

    def behave(self) -> None:
        """Forget all faults and what was asked."""
        for each in (self.gated, self.cuts, self.held, self.wrong, self.asked, self.tokens):
            each.clear()
        self.status = 200
        self.release.set()
        self.waiting, self.release = threading.Event(), threading.Event()

    def bytes_sent_of(self, name: str) -> list[str | None]:
        """Return the ranges by which a file's content was asked for."""
        return [how for method, path, how in self.asked if method == "GET" and path.endswith(name)]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        asked = urlsplit(self.path)
        self.hub.asked.append((self.command, unquote(asked.path), self.headers.get("Range")))
        self.answer(unquote(asked.path).strip("/"), parse_qs(asked.query))

    @property
    def hub(self) -> Hub:
        return self.server.hub

    def send(self, status: int, body: bytes = b"", length: int | None = None, **headers) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def send_file(self, name: str, entry: Entry, **headers) -> None:
        """Send a file, or the range of it that was asked for, with the faults of its name."""
        hub, body = self.hub, entry.path.read_bytes()
        if name in hub.wrong:
            body = bytes([body[0] ^ 1]) + body[1:]
        given = self.headers.get("Range")
        start = int(given.removeprefix("bytes=").split("-")[0]) if given else 0
        if start >= len(body) and given:
            return self.send(416, Content_Range=f"bytes */{len(body)}")
        status, rest = (206, body[start:]) if given else (200, body)
        if given:
            headers["Content_Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
        cuts = hub.cuts.get(name)
        cut = cuts.pop(0) if cuts and self.command == "GET" else len(rest)
        held = hub.held.get(name, len(rest)) if self.command == "GET" else len(rest)
        self.send(status, rest[: min(cut, held)], len(rest), Accept_Ranges="bytes", **headers)
        if held < len(rest):
            self.wfile.flush()
            hub.waiting.set()
            hub.release.wait(60)
            self.wfile.write(rest[held:])
        if cut < len(rest):
            self.close_connection = True


class _Storage(_Handler):
    def answer(self, path: str, _: dict) -> None:
        """Send a large file: /sha256/name; the token of the hub has no business here."""
        self.hub.tokens.append(self.headers.get("Authorization"))
        digest, _, name = path.partition("/")
        for repository in self.hub.repositories.values():
            for tree in repository.trees.values():
                if name in tree and tree[name].sha256 == digest:
                    return self.send_file(name, tree[name], ETag=f'"{digest}"')
        self.send(404)


class _Front(_Handler):
    def answer(self, path: str, query: dict) -> None:
        if self.hub.status != 200:
            return self.send(self.hub.status, b"the hub is unwell")
        parts = path.split("/")
        api = parts[:2] == ["api", "models"]
        names = parts[2:] if api else parts
        repository = self.hub.repositories.get("/".join(names[:2]))
        if repository is None:
            message = "Invalid username or password." if "Authorization" not in self.headers else ""
            return self.send(
                404 if "Authorization" in self.headers else 401, b"{}",
                X_Error_Code="RepoNotFound", X_Error_Message=message or "Repository not found",
            )  # fmt: skip
        rest = names[2:]
        if api and not rest:
            return self.information("/".join(names), repository, "main")
        what, rest = rest[0], rest[1:]
        if api and what == "revision":
            return self.information("/".join(names[:2]), repository, "/".join(rest))
        if api and what == "tree":
            return self.tree(repository, "/".join(rest), query)
        if what == "resolve" and not api:
            return self.resolve("/".join(names[:2]), repository, rest)
        self.send(404)

    def refuse_revision(self) -> None:
        self.send(404, b"{}", X_Error_Code="RevisionNotFound", X_Error_Message="Invalid rev id")

    def information(self, name: str, repository: Repository, revision: str) -> None:
        commit = repository.commit(revision)
        if commit is None:
            return self.refuse_revision()
        siblings = [{"rfilename": path} for path in repository.trees[commit]]
        data = {
            "_id": "0" * 24, "id": name, "modelId": name, "sha": commit, "private": False,
            "gated": "manual" if name in self.hub.gated else False, "disabled": False,
            "downloads": 1, "likes": 1, "tags": ["license:openrail"], "siblings": siblings,
            "author": name.split("/")[0], "createdAt": "2022-03-02T23:29:04.000Z",
        }  # fmt: skip
        self.send(200, json.dumps(data).encode(), Content_Type="application/json")

    def tree(self, repository: Repository, revision: str, query: dict) -> None:
        """Send a page of a tree, folders included, with the link to the next page."""
        commit = repository.commit(revision)
        if commit is None:
            return self.refuse_revision()
        tree = repository.trees[commit]
        folders = sorted({name.rpartition("/")[0] for name in tree} - {""})
        listed = [{"type": "directory", "oid": "0" * 40, "size": 0, "path": x} for x in folders]
        listed += [_listed(name, entry) for name, entry in tree.items()]
        start = int(query.get("cursor", ["0"])[0])
        headers = {"Content_Type": "application/json"}
        if start + PAGE < len(listed):
            url = f"{self.hub.url}{urlsplit(self.path).path}?recursive=True&cursor={start + PAGE}"
            headers["Link"] = f'<{url}>; rel="next"'
        self.send(200, json.dumps(listed[start : start + PAGE]).encode(), **headers)

    def resolve(self, name: str, repository: Repository, rest: list[str]) -> None:
        """Send a file, or the way to it, of `REVISION/PATH`; a pull request has slashes."""
        count = 3 if rest[:2] == ["refs", "pr"] else 1
        commit = repository.commit("/".join(rest[:count]))
        if commit is None:
            return self.refuse_revision()
        token = self.hub.gated.get(name)
        if token and self.headers.get("Authorization") != f"Bearer {token}":
            status = 403 if "Authorization" in self.headers else 401
            return self.send(
                status, b"", X_Error_Code="GatedRepo", X_Repo_Commit=commit,
                X_Error_Message=f"Access to model {name} is restricted.",
            )  # fmt: skip
        path = "/".join(rest[count:])
        entry = repository.trees[commit].get(path)
        if entry is None:
            return self.send(
                404, b"", X_Error_Code="EntryNotFound", X_Repo_Commit=commit,
                X_Error_Message="Entry not found",
            )  # fmt: skip
        if not entry.large:
            return self.send_file(path, entry, ETag=f'"{entry.sha1}"', X_Repo_Commit=commit)
        self.send(
            302, b"", X_Repo_Commit=commit, X_Linked_Etag=f'"{entry.sha256}"',
            X_Linked_Size=str(entry.size), ETag=f'"{entry.sha1}"',
            Location=f"{self.hub.storage_url}/{entry.sha256}/{path}",
        )  # fmt: skip


def _listed(name: str, entry: Entry) -> dict:
    data = {"type": "file", "oid": entry.sha1, "size": entry.size, "path": name}
    if entry.large:
        data["lfs"] = {"oid": entry.sha256, "size": entry.size, "pointerSize": 134}
    return data
