"""A web server on the loopback that can do what real ones do: ranges, conditional requests, breaking off, error pages with a wrong type."""

from __future__ import annotations

import hashlib
import re
import threading
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class File:
    """What a path gives. `etag` False: no validators at all, not even a length that could be compared."""

    kind: str
    content: bytes
    etag: bool = True
    ranges: bool = True

    @property
    def tag(self) -> str:
        return f'"{hashlib.sha256(self.content).hexdigest()[:8]}"'


class Server:
    """Serves `files`, remembers what was asked for as (method, path, range). Unknown paths give their own status: /403 gives 403."""

    def __init__(self) -> None:
        self.files: dict[str, File] = {}
        self.hits: list[tuple[str, str, str | None]] = []
        self.break_after: int | None = None
        """Bytes of a body after which the connection ends."""
        self.refuse_heads = False
        self.seconds_per_megabyte = 0.0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.hits.append((self.command, self.path, self.headers.get("Range")))
                found = outer.files.get(self.path)
                if self.command == "HEAD" and outer.refuse_heads:
                    self.send_error(405)
                elif found is None:
                    self.send_error(int(self.path[1:]) if self.path[1:].isdigit() else 404)
                elif found.etag and self.headers.get("If-None-Match") == found.tag:
                    self.send_response(304)
                    self.end_headers()
                else:
                    self.give(found)

            do_HEAD = do_GET  # noqa: N815

            def give(self, found: File) -> None:
                body, whole = found.content, len(found.content)
                asked = re.match(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "") if found.ranges else None
                if asked:
                    first, last = int(asked[1]), min(int(asked[2] or whole - 1), whole - 1)
                    if first >= whole:
                        self.send_error(416)
                        return
                    body = body[first : last + 1]
                    self.send_response(206)
                    self.send_header("Content-Range", f"bytes {first}-{last}/{whole}")
                else:
                    self.send_response(200)
                self.send_header("Content-Type", found.kind)
                self.send_header("Content-Length", str(len(body)))
                if found.ranges:
                    self.send_header("Accept-Ranges", "bytes")
                if found.etag:
                    self.send_header("ETag", found.tag)
                self.end_headers()
                if self.command == "GET":
                    self.pour(body[: outer.break_after])

            def pour(self, body: bytes) -> None:
                for at in range(0, len(body), 1 << 14):
                    self.wfile.write(body[at : at + (1 << 14)])
                    if outer.seconds_per_megabyte:
                        time.sleep(outer.seconds_per_megabyte / 64)

            def log_message(self, *_: object) -> None: ...

        class QuietServer(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: object) -> None: ...

        self._http = QuietServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self._http.server_port}{path}"

    def bodies(self, path: str) -> int:
        """How often a body of `path` was asked for."""
        return sum(method == "GET" and asked == path for method, asked, _ in self.hits)

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
