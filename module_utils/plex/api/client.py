"""HTTP to one Plex server, with time limits, retries, and error messages as sentences.

plexapi makes the objects (`PlexClient.server`). Every request, also plexapi's, goes through `PlexClient.call`, so every
request has a time limit and no message contains a token: the token is sent in a header, and query strings (which may
contain a claim token) are never quoted.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ..errors import LibraryMissing, PlexAnswerError, PlexMaintenance, PlexNotFound, PlexUnauthorized, PlexUnreachable

try:
    import requests
    from plexapi.server import PlexServer
    from plexapi.utils import parseXMLString
except ImportError as error:
    IMPORT_PROBLEM = str(error)
else:
    IMPORT_PROBLEM = ""

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

BODY_LIMIT = 2000
"""Characters of an answer kept for messages; a 401 page or a maintenance notice fits."""
RETRY_STATUSES = frozenset({500, 502, 504})
IDENTIFIER = "plexburst"


def require_libraries() -> None:
    """Raise LibraryMissing with the next step when requests or plexapi cannot be imported."""
    if IMPORT_PROBLEM:
        raise LibraryMissing(
            "This module needs the Python packages plexapi and requests on the machine where it runs, and its "
            f"interpreter cannot import them ({IMPORT_PROBLEM}). Run the role plex_indexing with tasks_from: prepare "
            "first, and set ansible_python_interpreter to the environment that it creates."
        )


def parse_xml(text: str) -> Element:
    """Return parsed XML text (by plexapi's parser, which accepts the control characters that Plex sends).

    Raises PlexAnswerError when it is empty or not XML.
    """
    try:
        root: Element | None = parseXMLString(text)
    except SyntaxError as error:  # ElementTree.ParseError is a SyntaxError
        raise PlexAnswerError(f"Expected XML from Plex, got {text[:200]!r} ({error}).") from error
    if root is None:
        raise PlexAnswerError("Expected XML from Plex, got an empty body.")
    return root


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer. `seconds` is its duration."""

    method: str
    path: str
    status: int
    body: str
    seconds: float
    content_type: str = ""

    def xml(self) -> Element:
        """Return the body as an element tree; raises PlexAnswerError when it is not XML."""
        try:
            return parse_xml(self.body)
        except PlexAnswerError as error:
            raise PlexAnswerError(f"{self.method} {self.path} answered {self.status}. {error.message}") from error


@dataclass(frozen=True, slots=True)
class Identity:
    """GET /identity; needs no token and comes from memory (docs/plex-facts.md#readiness)."""

    machine_identifier: str
    version: str
    claimed: bool


class _Session:
    """The part of requests.Session that plexapi uses, routed through PlexClient.call."""

    def __init__(self, client: PlexClient) -> None:
        self._client = client

    def _send(self, method: str, url: str, **kwargs: Any) -> Any:
        parts = urlsplit(url)
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        headers = {k: v for k, v in (kwargs.get("headers") or {}).items() if k.lower().startswith("x-plex-container")}
        return self._client.call_raw(method, path, params=kwargs.get("params"), headers=headers)

    def get(self, url: str, **kwargs: Any) -> Any:
        return self._send("GET", url, **kwargs)

    def put(self, url: str, **kwargs: Any) -> Any:
        return self._send("PUT", url, **kwargs)

    def post(self, url: str, **kwargs: Any) -> Any:
        return self._send("POST", url, **kwargs)

    def delete(self, url: str, **kwargs: Any) -> Any:
        return self._send("DELETE", url, **kwargs)


@dataclass(slots=True)
class PlexClient:
    """One Plex server. `timeout` is seconds per request; `retries` are further tries of requests that may be
    repeated."""

    base_url: str
    token: str = ""
    timeout: float = 30.0
    retries: int = 3
    sleep: Callable[[float], None] = time.sleep
    secrets: tuple[str, ...] = ()
    _http: Any = field(default=None, repr=False)
    _server: Any = field(default=None, repr=False)

    def __post_init__(self) -> None:
        require_libraries()
        self.base_url = self.base_url.rstrip("/")
        self._http = requests.Session()
        host = urlsplit(self.base_url).hostname or ""
        # Requests to loopback must not use a proxy of the environment or credentials of ~/.netrc.
        self._http.trust_env = not (host == "localhost" or host.startswith("127.") or host == "::1")

    def mask(self, text: str) -> str:
        """Return the text without this client's secrets."""
        for secret in (self.token, *self.secrets):
            if secret:
                text = text.replace(secret, "***")
        return text

    def call_raw(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        retries: int | None = None,
    ) -> Any:
        """Send a request and return the Response, whatever its status.

        Raises PlexUnreachable. GET is retried on any transport error and on 500/502/504; other methods only when no
        connection could be made, because then the server cannot have acted on the request.
        """
        tries = 1 + (self.retries if retries is None else retries)
        shown = path.split("?", 1)[0]
        send_headers = {
            "Accept": "application/xml",
            "X-Plex-Client-Identifier": IDENTIFIER,
            "X-Plex-Product": IDENTIFIER,
            **(headers or {}),
        }
        if self.token:
            send_headers["X-Plex-Token"] = self.token
        limit = timeout or self.timeout
        problem: Exception | None = None
        for attempt in range(tries):
            if attempt:
                self.sleep(min(0.5 * 2 ** (attempt - 1), 8.0))
            try:
                response = self._http.request(
                    method, self.base_url + path, params=params, headers=send_headers, timeout=(min(limit, 10.0), limit)
                )
            except requests.exceptions.ConnectionError as error:
                problem = error
                never_sent = isinstance(error, requests.exceptions.ConnectTimeout) or "refused" in str(error)
                if method != "GET" and not never_sent:
                    break
            except requests.exceptions.RequestException as error:
                problem = error
                if method != "GET":
                    break
            else:
                if method == "GET" and response.status_code in RETRY_STATUSES and attempt + 1 < tries:
                    continue
                return response
        raise PlexUnreachable(
            f"{method} {shown} got no answer from Plex at {self.base_url} within {limit:g} s "
            f"({type(problem).__name__}, {tries} tries). Check that the server runs and listens on that port.",
            url=self.base_url,
            path=shown,
        )

    def call(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        retries: int | None = None,
        accept: tuple[int, ...] = (200, 201, 204),
    ) -> Answer:
        """Send and return the Answer when its status is in `accept`; else raise the PlexError of that status."""
        started = time.monotonic()
        response = self.call_raw(method, path, params=params, headers=headers, timeout=timeout, retries=retries)
        answer = Answer(
            method=method,
            path=path.split("?", 1)[0],
            status=response.status_code,
            body=response.text,
            seconds=time.monotonic() - started,
            content_type=response.headers.get("Content-Type", ""),
        )
        if answer.status in accept:
            return answer
        raise self.problem(answer)

    def problem(self, answer: Answer) -> Exception:
        """Return the exception for an unexpected answer."""
        body = self.mask(answer.body.strip())[:BODY_LIMIT]
        details = {"http_status": answer.status, "body": body, "path": answer.path}
        what = f"{answer.method} {answer.path} answered HTTP {answer.status}"
        error: Exception = PlexAnswerError(f"{what}: {body[:300] or 'no body'}", **details)
        maintenance = maintenance_status(answer.body) if answer.status == 503 else ""
        if maintenance:
            error = PlexMaintenance(f"Plex is in maintenance: {maintenance}", **details)
        elif answer.status == 401:
            error = PlexUnauthorized(
                f"{what}: Plex does not accept the token, or requires one. Check that the token is of this server's "
                "owner and that the server is claimed by that account.",
                **details,
            )
        elif answer.status == 404:
            error = PlexNotFound(f"{what}: not found. {body[:200]}".rstrip(), **details)
        return error

    @property
    def server(self) -> Any:
        """plexapi's PlexServer over this client's requests (made at first use; it asks for GET /)."""
        if self._server is None:
            self.call("GET", "/")  # raise our errors before plexapi raises its own
            make: Any = PlexServer  # plexapi's constructor has no types
            self._server = make(self.base_url, self.token or None, session=_Session(self), timeout=self.timeout)
        return self._server

    def identity(self, *, retries: int | None = None) -> Identity:
        """GET /identity. In XML `claimed` is "0"/"1"; servers before apiVersion lack nothing else
        (docs/plex-facts.md#readiness)."""
        root = self.call("GET", "/identity", retries=retries).xml()
        identifier = root.get("machineIdentifier", "")
        if root.tag != "MediaContainer" or not identifier:
            raise PlexAnswerError(
                f"GET /identity answered 200 but not with a MediaContainer of a server: <{root.tag}>."
            )
        return Identity(
            machine_identifier=identifier,
            version=root.get("version", ""),
            claimed=root.get("claimed", "0") in ("1", "true"),
        )

    def total(self, path: str, params: Mapping[str, Any] | None = None) -> int:
        """Return the number of entries of a listing without fetching them (container size 0,
        docs/plex-facts.md#http-api)."""
        root = self.call(
            "GET", path, params=params, headers={"X-Plex-Container-Start": "0", "X-Plex-Container-Size": "0"}
        ).xml()
        text = root.get("totalSize")
        if text is None or not text.isdigit():
            raise PlexAnswerError(f"GET {path} returned no totalSize for an empty page, so the count is unknown.")
        return int(text)


def maintenance_status(body: str) -> str:
    """Return the text of a 503 Maintenance body (XML or JSON form of docs/plex-facts.md#readiness), '' for another
    503."""
    text = body.strip()
    if text.startswith("<"):
        try:
            root = parse_xml(text)
        except PlexAnswerError:
            return ""
        return root.get("status", "") if root.get("title") == "Maintenance" else ""
    if text.startswith("{"):
        try:
            data = json.loads(text)
        except ValueError:
            return ""
        return str(data.get("status", "")) if data.get("title") == "Maintenance" else ""
    return ""
