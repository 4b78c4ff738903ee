"""A real HTTP server on loopback that serves given bytes and injects scripted faults.

Each path has a queue of faults, one per request; when it is empty the file is served as it should
be, with Range, ETag and If-Range.
"""

from __future__ import annotations

import hashlib
import re
import socket
import ssl
import struct
import subprocess
import threading
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

PAGE = b"<html><body>We are down for maintenance.</body></html>"
# Faults after which a patient client must end with the right file.
PASSING = (
    *(f"status {code}" for code in (408, 429, 500, 502, 503, 504)),
    *("reset", "short", "shorter promise", "long", "longer promise", "range ignored"),
    *("range refused", "range elsewhere", "redirect", "drip", "silence", "page", "page unmarked"),
    *("range shortened", "no length", "chunked", "chunks end early", "hang up"),
)
LASTING = ("status 404", "status 410", "status 403")


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


@dataclass(frozen=True)
class Fault:
    """`kind`, how much of the body comes first (0 to 1), and a header or address it needs."""

    kind: str
    share: float = 0.5
    value: str | None = None


@dataclass
class FaultServer:
    """Use as a context manager; `requests` lists (path, headers, fault) of all that came."""

    files: dict[str, bytes]
    certificate: Path | None = None
    script: dict[str, deque[Fault]] = field(default_factory=lambda: defaultdict(deque))
    requests: list[tuple[str, dict[str, str], str]] = field(default_factory=list)
    on_request: Callable[[], object] = lambda: None
    sent: int = 0
    connections: int = 0

    def __enter__(self) -> FaultServer:
        self.closing = threading.Event()
        self.release = threading.Event()
        self.http = _Http(("127.0.0.1", 0), _Handler)
        self.http.owner = self
        if self.certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self.certificate)
            # The handshake belongs to the request's thread: one that fails must not stop others.
            self.http.socket = context.wrap_socket(
                self.http.socket, server_side=True, do_handshake_on_connect=False
            )
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self.release.set()
        self.http.shutdown()
        self.http.server_close()

    def url(self, path: str) -> str:
        scheme = "https" if self.certificate else "http"
        return f"{scheme}://127.0.0.1:{self.http.server_address[1]}{path}"

    def add(self, path: str, *faults: Fault | str) -> str:
        """Queue faults for a path and return its address."""
        self.script[path].extend(Fault(f) if isinstance(f, str) else f for f in faults)
        return self.url(path)

    def ranges(self, path: str) -> list[str | None]:
        return [headers.get("Range") for seen, headers, _ in self.requests if seen == path]


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    owner: FaultServer

    def get_request(self) -> tuple[socket.socket, Any]:
        self.owner.connections += 1
        return super().get_request()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that hang up are what this server is for."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Http

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        owner, path = self.server.owner, self.path.split("?")[0]
        faults = owner.script[path]
        fault = faults.popleft() if faults else Fault("none")
        owner.on_request()
        owner.requests.append((path, dict(self.headers), fault.kind))
        content = owner.files.get(path)
        if content is None:
            self._page(404, b"no such file")
            return
        kind = fault.kind
        if kind.startswith("status "):
            extra = {"Retry-After": fault.value} if fault.value is not None else {}
            self._page(int(kind.split()[1]), PAGE, extra)
        elif kind == "redirect":
            self._page(302, b"", {"Location": fault.value or path})
        elif kind == "range refused":
            self._page(416, b"", {"Content-Range": f"bytes */{len(content)}"})
        elif kind == "page":
            self._page(200, PAGE, {"Content-Type": "text/html; charset=utf-8"})
        elif kind == "page unmarked":
            self._page(200, PAGE, {"Content-Type": "application/octet-stream"})
        elif kind == "hang up":
            self._reset()
        elif kind == "silence":
            owner.closing.wait(600)
            self.close_connection = True
        else:
            self._file(content, fault)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()

    def _page(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _file(self, content: bytes, fault: Fault) -> None:
        kind, etag = fault.kind, f'"{md5(content)}"'
        start = 0
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        fits = kind == "if-range ignored" or self.headers.get("If-Range", etag) == etag
        if asked and kind != "range ignored" and fits:
            start = int(asked[1])
            if start >= len(content):
                self._page(416, b"", {"Content-Range": f"bytes */{len(content)}"})
                return
        if kind == "range elsewhere" and asked:
            start = start // 2
        body, total = content[start:], len(content)
        if kind == "range shortened" and start:
            body = body[: max(1, len(body) // 2)]
        if kind == "corrupt":
            body = bytes([body[0] ^ 1]) + body[1:]
        if kind in ("long", "longer promise"):
            body += b"and more"
        if kind == "longer promise":
            total += len(b"and more")
        if kind == "shorter promise":
            body, total = body[: len(body) // 2], start + len(body) // 2
        self.send_response(206 if asked and start else 200)
        if asked and start:
            self.send_header("Content-Range", f"bytes {start}-{start + len(body) - 1}/{total}")
        self.send_header("ETag", etag)
        chunked = kind in ("chunked", "chunks end early")
        if chunked:
            self.send_header("Transfer-Encoding", "chunked")
        elif kind in ("no length", "long"):
            self.close_connection = True
        else:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        first = int(len(body) * fault.share)
        if chunked:
            self._chunks(body, first, whole=kind == "chunked")
        elif kind in ("reset", "short", "drip", "stall", "replaced"):
            self._write(body[:first])
            self._after_part(kind, body[first:])
        else:
            self._write(body)

    def _after_part(self, kind: str, rest: bytes) -> None:
        self.close_connection = True
        owner = self.server.owner
        if kind == "reset":
            self._reset()
        elif kind == "replaced":
            owner.files[self.path] = owner.files[self.path][::-1]
        elif kind == "drip":
            for number in range(len(rest)):
                if owner.closing.wait(0.02):
                    return
                self._write(rest[number : number + 1])
        elif kind == "stall":
            owner.release.wait(600)
            self._write(rest)

    def _chunks(self, body: bytes, first: int, whole: bool) -> None:
        for piece in (body[:first], body[first:] if whole else b""):
            if piece:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        if whole:
            self.wfile.write(b"0\r\n\r\n")
        else:
            self.close_connection = True

    def _write(self, data: bytes) -> None:
        self.wfile.write(data)
        self.server.owner.sent += len(data)

    def _reset(self) -> None:
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        # The handler's files keep the socket open; without them close() sends the reset.
        self.wfile.close()
        self.rfile.close()
        self.connection.close()


def self_signed(folder: Path) -> Path:
    """A key and its self-signed certificate for 127.0.0.1 in one PEM file.

    Raises
    ------
    FileNotFoundError
        The openssl command isn't there.
    """
    pem, key = folder / "server.pem", folder / "server.key"
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=127.0.0.1"
    name = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(pem)]
    subprocess.run([*command.split(), *name], check=True, capture_output=True)
    pem.write_text(pem.read_text() + key.read_text())
    return pem
