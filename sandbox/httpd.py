"""A small threaded HTTP/1.1 server on the standard library: the base of every simulator that speaks HTTP.

    app = Simulator("plextv", faults=Faults(path))
    app.route("GET", "/devices.xml", handler)             # handler(request) -> Response
    app.route("DELETE", "/devices/{id}.xml", handler)     # request.params["id"]
    app.serve(port)                                        # blocks until SIGTERM; or start(port) ... stop() in tests

It binds loopback addresses only (and those in SANDBOX_BIND), keeps connections alive, always reads the request's body
(the Scaleway SDK sends one with every GET), and answers `GET|PUT /_sandbox/faults` by itself.
"""

from __future__ import annotations

import ipaddress
import json
import os
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote
from xml.etree import ElementTree as ET

if TYPE_CHECKING:
    from sandbox.faults import Faults

Handler = Callable[["Request"], "Response"]
MAX_BODY_BYTES = 64 * 1024 * 1024
BIND_ENV = "SANDBOX_BIND"
"""Addresses, separated by commas, that a simulator may bind although they are not loopback: inside a container."""


@dataclass(frozen=True, slots=True)
class Response:
    """What goes back: a status, bytes, headers (Content-Length and Date are added by the server)."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def json(cls, value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
        """`value` as JSON."""
        body = json.dumps(value, separators=(",", ":")).encode()
        return cls(status, body, {"Content-Type": "application/json", **(headers or {})})

    @classmethod
    def xml(cls, root: ET.Element, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
        """An element tree as an XML document."""
        body = ET.tostring(root, encoding="utf-8", xml_declaration=True)
        return cls(status, body, {"Content-Type": "text/xml;charset=utf-8", **(headers or {})})

    @classmethod
    def text(cls, text: str, status: int = 200, content_type: str = "text/plain") -> Response:
        """Text as UTF-8."""
        return cls(status, text.encode(), {"Content-Type": f"{content_type};charset=utf-8"})


class Reply(Exception):
    """Raised anywhere below a handler to answer with `response` at once."""

    def __init__(self, response: Response) -> None:
        super().__init__(f"HTTP {response.status}")
        self.response = response


@dataclass(frozen=True, slots=True)
class Request:
    """One request, fully read. `path` is percent-decoded, `query` keeps every value, header names are lower case."""

    method: str
    path: str
    query: Mapping[str, list[str]]
    headers: Mapping[str, str]
    body: bytes
    params: Mapping[str, str] = field(default_factory=dict)

    def arg(self, name: str, default: str = "") -> str:
        """The last value of the query parameter `name`."""
        values = self.query.get(name)
        return values[-1] if values else default

    def args(self, name: str) -> list[str]:
        """Every value of the query parameter `name`, in order."""
        return list(self.query.get(name, []))

    def header(self, name: str, default: str = "") -> str:
        """The header `name` (any case)."""
        return self.headers.get(name.lower(), default)

    def json(self) -> Any:
        """The body as JSON; raises ValueError when it is not JSON."""
        return json.loads(self.body)


@dataclass(frozen=True, slots=True)
class _Route:
    method: str
    pattern: re.Pattern[str]
    handler: Handler


def _compile(template: str) -> re.Pattern[str]:
    """`/a/{id}.xml` → one segment's worth for `{id}`, everything that is left for `{rest:path}`."""
    parts = re.split(r"(\{[a-z_]+(?::path)?\})", template)
    pattern = ""
    for part in parts:
        if part.startswith("{"):
            name, _, kind = part[1:-1].partition(":")
            pattern += f"(?P<{name}>{'.*' if kind else '[^/]+'})"
        else:
            pattern += re.escape(part)
    return re.compile(pattern)


class Simulator:
    """A table of routes served on loopback.

    `before(request)` may return a Response to stop a request (authentication, faults); `fallback(request, allowed)`
    answers what no route matches, `allowed` being the methods the path has (empty: unknown path). Both may be replaced
    by a subclass. Neither is asked for paths below `/_sandbox/`.
    """

    def __init__(self, name: str, faults: Faults | None = None) -> None:
        self.name = name
        self.faults = faults
        self._routes: list[_Route] = []
        self._server: _Server | None = None
        self._stopping = threading.Event()
        self.route("GET", "/_sandbox/ping", lambda _request: Response.json({"name": name}))
        if faults is not None:
            self.route("GET", "/_sandbox/faults", lambda _request: Response.json(faults.all()))
            self.route("PUT", "/_sandbox/faults", self._put_faults)

    def route(self, method: str, template: str, handler: Handler) -> None:
        """Answer `method` on `template` with `handler`; the first route that matches wins."""
        self._routes.append(_Route(method, _compile(template), handler))

    def before(self, request: Request) -> Response | None:
        """Called before each routed request; a Response ends it there."""
        return None

    def fallback(self, request: Request, allowed: list[str]) -> Response:
        """What a request without a route gets."""
        return Response.text("", 405 if allowed else 404)

    def handle(self, request: Request) -> Response:
        """Answer one request (also without a socket, for tests)."""
        internal = request.path.startswith("/_sandbox/")
        try:
            if not internal and (stop := self.before(request)) is not None:
                return stop
            allowed: list[str] = []
            for route in self._routes:
                match = route.pattern.fullmatch(request.path)
                if match is None:
                    continue
                if route.method == request.method or (route.method == "GET" and request.method == "HEAD"):
                    routed = Request(
                        request.method, request.path, request.query, request.headers, request.body, match.groupdict()
                    )
                    return route.handler(routed)
                allowed.append(route.method)
            if internal:
                return Response.json({"message": f"no such sandbox route: {request.method} {request.path}"}, 404)
            return self.fallback(request, allowed)
        except Reply as reply:
            return reply.response

    def start(self, port: int = 0, host: str = "127.0.0.1") -> str:
        """Serve in the background; returns the base URL. `port` 0 takes a free one."""
        allowed = os.environ.get(BIND_ENV, "").split(",")
        if not ipaddress.ip_address(host).is_loopback and host not in allowed:
            raise ValueError(
                f"The sandbox binds loopback addresses only, asked for {host}: use 127.0.0.1 or {BIND_ENV}."
            )
        self._server = _Server((host, port), self)
        threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True, name=self.name).start()
        return f"http://{host}:{self._server.server_address[1]}"

    def stop(self) -> None:
        """Stop serving and free the port."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def serve(self, port: int, host: str = "127.0.0.1") -> None:
        """Serve in the foreground until SIGTERM or SIGINT."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda _number, _frame: self._stopping.set())
        print(f"{self.name}: {self.start(port, host)}", flush=True)
        while not self._stopping.wait(0.5):
            pass
        self.stop()

    def _put_faults(self, request: Request) -> Response:
        assert self.faults is not None  # noqa: S101 — the route exists only with faults
        try:
            values = request.json()
        except ValueError as error:
            return Response.json({"message": f"faults must be a JSON object: {error}"}, 400)
        if not isinstance(values, dict):
            return Response.json({"message": "faults must be a JSON object such as {}"}, 400)
        self.faults.replace(values)
        return Response.json(self.faults.all())


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], app: Simulator) -> None:
        self.app = app
        super().__init__(address, _Connection)

    def server_bind(self) -> None:
        # HTTPServer.server_bind asks the resolver for the host's name, which can take seconds on a machine without DNS.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def handle_error(self, request: Any, client_address: Any) -> None:
        if isinstance(sys.exc_info()[1], ConnectionError):
            return  # the client went away; nothing of ours is wrong
        super().handle_error(request, client_address)


class _Connection(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 64 * 1024
    timeout = 120

    def __getattr__(self, name: str) -> Any:
        if name.startswith("do_"):
            return self._serve
        raise AttributeError(name)

    def _serve(self) -> None:
        target, _, query = self.path.partition("?")
        request = Request(
            method=self.command,
            path=unquote(target),
            query=parse_qs(query, keep_blank_values=True),
            headers={name.lower(): value for name, value in self.headers.items()},
            body=self._read_body(),
        )
        response = self.server.app.handle(request)
        self.send_response(response.status)
        for name, value in response.headers.items():
            self.send_header(name, value)
        if response.status != HTTPStatus.NO_CONTENT:
            self.send_header("Content-Length", str(len(response.body)))
        self.end_headers()
        if self.command != "HEAD" and response.status != HTTPStatus.NO_CONTENT:
            self.wfile.write(response.body)
        self.wfile.flush()

    def _read_body(self) -> bytes:
        if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
            return self._read_chunks()
        length = int(self.headers.get("Content-Length") or 0)
        if length > MAX_BODY_BYTES:
            raise ConnectionError(f"a body of {length} bytes is more than any simulator takes")
        return self.rfile.read(length) if length > 0 else b""

    def _read_chunks(self) -> bytes:
        body = bytearray()
        while True:
            size = int(self.rfile.readline().split(b";")[0], 16)
            body += self.rfile.read(size)
            self.rfile.readline()
            if size == 0:
                return bytes(body)

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        # Without the query: it may carry a token, and a log is no place for one.
        self.log_message("%s %s %s", self.command, self.path.partition("?")[0], int(code))

    def log_message(self, format: str, *args: Any) -> None:
        print(f"{time.strftime('%H:%M:%S')} {self.server.app.name} {format % args}", file=sys.stderr, flush=True)
