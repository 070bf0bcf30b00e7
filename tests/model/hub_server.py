"""A hub on the loopback that serves one directory as a repository, and remembers what was asked."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """`files` is the repository "owner/model"; "owner/gated" refuses, anything else is unknown. `fetched` are names downloaded."""

    files: Path
    url: str = ""
    fetched: list[str] = field(default_factory=list)


def use_cache(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """A cache of the test's own, and a library that may use the network. The library read both from the environment at import."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)


def point_to(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """The library takes `url` for the hub."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")


@contextmanager
def serving(files: Path) -> Iterator[Hub]:
    hub = Hub(files)

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def log_message(self, *_: object) -> None:
            pass

        def _answer(self, body: bool) -> None:
            """/OWNER/NAME/resolve/REVISION/FILE, /api/models/OWNER/NAME/revision/REVISION or /api/models/OWNER/NAME/tree/REVISION."""
            is_api = self.path.startswith("/api/models/")
            parts = [*self.path.partition("?")[0].removeprefix("/api/models").lstrip("/").split("/"), "", ""]
            repository, what, revision, name = "/".join(parts[:2]), parts[2], parts[3], "/".join(parts[4:-2])
            if repository == "owner/gated":
                return self._fail(403, "GatedRepo")
            if repository != "owner/model":
                return self._fail(404, "RepoNotFound")
            if revision not in ("main", COMMIT):
                return self._fail(404, "RevisionNotFound")
            if is_api:
                return self._send(json.dumps(self._tree() if what == "tree" else self._facts()).encode(), body)
            if not (hub.files / name).is_file():
                return self._fail(404, "EntryNotFound")
            if body:
                hub.fetched.append(name)
            return self._send((hub.files / name).read_bytes(), body)

        def _facts(self) -> dict[str, object]:
            return {"id": "owner/model", "sha": COMMIT, "siblings": [{"rfilename": one["path"]} for one in self._tree()]}

        def _tree(self) -> list[dict[str, object]]:
            files = [path for path in sorted(hub.files.iterdir()) if path.is_file()]
            return [{"type": "file", "path": file.name, "size": file.stat().st_size, "oid": file.name} for file in files]

        def _send(self, content: bytes, body: bool) -> None:
            self.send_response(200)
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if body:
                self.wfile.write(content)

        def _fail(self, status: int, code: str) -> None:
            self.send_response(status)
            self.send_header("X-Error-Code", code)
            if code == "EntryNotFound":
                self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("Content-Length", "0")
            self.end_headers()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
