"""The one wrapper of the official Scaleway SDK.

The SDK (2.12) sends every request with ``requests.request`` and no time limit, retries nothing, reads every error body
as JSON even when it is empty, and quotes the secret key in its own validation error. Here every request has a time
limit, is tried again with back-off on 429 and 5xx as long as the caller's deadline allows, and fails as one sentence
without secrets.

A POST that may have been carried out although its answer was lost is never repeated blindly: the error says
``ambiguous`` and the caller looks for what it wanted to make, by tag, before it asks again.
"""

from __future__ import annotations

import json
import os
import random
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from .offers import Offer
from .records import BLOCK_VOLUME, LOCAL_VOLUME, IpRecord, ServerRecord, VolumeRecord

try:
    import requests
    import yaml
    from scaleway import Client
    from scaleway.block.v1 import BlockV1API
    from scaleway.instance.v1 import (
        IpType,
        ServerAction,
        VolumeServerTemplate,
        VolumeVolumeType,
    )
    from scaleway.instance.v1.custom_api import InstanceUtilsV1API
    from scaleway.marketplace.v2 import LocalImageType, MarketplaceV2API
    from scaleway_core.validations.string_validation import (
        is_access_key,
        is_project_id,
        is_secret_key,
        is_zone,
    )
    from urllib3.exceptions import MaxRetryError, NewConnectionError
except ImportError:
    IMPORT_ERROR: str | None = traceback.format_exc()
    InstanceUtilsV1API = BlockV1API = MarketplaceV2API = object
else:
    IMPORT_ERROR = None

T = TypeVar("T")

CONNECT_SECONDS = 10.0
PAGE_SIZE = 100
"""The largest page that every Scaleway API accepts."""
MAX_PAGES = 1000
"""The SDK's own paging asks until a page is empty, for ever if the server ignores the page number."""
LONGEST_PAUSE = 30.0
GIGABYTE = 10**9

_RETRIED = frozenset({429, 500, 502, 503, 504})
_SAFE_METHODS = frozenset({"GET", "HEAD", "PUT", "PATCH", "DELETE"})


class ScalewayError(Exception):
    """A request failed; ``str()`` is a message with the next step.

    ``kind`` is the API's error type (not_found, out_of_stock, quotas_exceeded, …), "network" when there was no usable
    answer, "configuration" when no request could be made, "deadline" when time ran out. ``ambiguous``: it may have been
    carried out all the same.
    """

    def __init__(self, sentence: str, *, kind: str, status: int | None = None, ambiguous: bool = False) -> None:
        super().__init__(sentence)
        self.kind = kind
        self.status = status
        self.ambiguous = ambiguous

    @property
    def is_shortage(self) -> bool:
        """True when another instance type may still be had: no stock, or a quota of this type is used up."""
        return self.kind in {"out_of_stock", "quotas_exceeded"}


class Deadline:
    """One end for everything a module does, on the monotonic clock; seconds."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds = seconds
        self._clock = clock
        self._end = clock() + seconds

    def remaining(self) -> float:
        """Seconds left, 0.0 when it has passed."""
        return max(0.0, self._end - self._clock())

    @property
    def passed(self) -> bool:
        """True when no time is left."""
        return self.remaining() <= 0.0


@dataclass(frozen=True, slots=True)
class Settings:
    """Where and as whom to speak to Scaleway; every field may be left out and is then found as ``load_client`` says."""

    config_file: str | None = None
    profile: str | None = None
    api_url: str | None = None
    project_id: str | None = None
    zone: str | None = None


_FILE_KEYS = (
    "access_key",
    "secret_key",
    "api_url",
    "default_organization_id",
    "default_project_id",
    "default_region",
    "default_zone",
)


def _configuration(sentence: str) -> ScalewayError:
    return ScalewayError(sentence, kind="configuration")


def _read_config_file(path: Path, profile: str | None) -> dict[str, str]:
    """Values of the SDK's YAML file: its top level, overridden by PROFILE or by the ``active_profile`` it names."""
    try:
        loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise _configuration(
            f"The Scaleway configuration file {path} cannot be read ({error.strerror}). Create it with `scw init`, "
            "or name another one."
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        # The parser's message quotes the line, and the line may be the secret key.
        raise _configuration(f"The Scaleway configuration file {path} is not valid YAML. Correct it.") from error
    if not isinstance(loaded, dict):
        raise _configuration(
            f"The Scaleway configuration file {path} contains no settings. Expected keys such as access_key."
        )
    values = {key: str(loaded[key]) for key in _FILE_KEYS if loaded.get(key)}
    chosen = profile or loaded.get("active_profile")
    if chosen and chosen != "default":
        profiles = loaded.get("profiles")
        section = profiles.get(chosen) if isinstance(profiles, dict) else None
        if not isinstance(section, dict):
            known = ", ".join(sorted(profiles)) if isinstance(profiles, dict) and profiles else "none"
            raise _configuration(f"The Scaleway configuration file {path} has no profile {chosen!r} (it has: {known}).")
        values |= {key: str(section[key]) for key in _FILE_KEYS if section.get(key)}
    return values


def load_client(settings: Settings, environ: Mapping[str, str] = os.environ) -> Client:
    """Build the SDK's client from SETTINGS, the configuration file and the ``SCW_*`` variables, without a request.

    The file is SETTINGS.config_file, else ``SCW_CONFIG_PATH``, else ``$XDG_CONFIG_HOME/scw/config.yaml`` or
    ``~/.config/scw/config.yaml``. As in the SDK the environment goes before the file, except before a file that was
    named in SETTINGS: who names a file means it, and a sandbox must never be entered with the keys of a real account.
    Raises ScalewayError (configuration) when a named file is missing or anything is malformed; no secret is quoted.
    """
    profile = settings.profile or environ.get("SCW_PROFILE") or None
    named = settings.config_file or environ.get("SCW_CONFIG_PATH")
    home = environ.get("XDG_CONFIG_HOME")
    default = (Path(home) if home else Path("~/.config").expanduser()) / "scw" / "config.yaml"
    path = Path(named).expanduser() if named else default
    from_file = _read_config_file(path, profile) if named or path.is_file() else {}
    if profile and profile != "default" and not from_file:
        raise _configuration(f"The Scaleway profile {profile!r} was requested, but the file does not exist: {path}.")
    from_env = {key: environ[f"SCW_{key.upper()}"] for key in _FILE_KEYS if environ.get(f"SCW_{key.upper()}")}
    values = from_env | from_file if settings.config_file else from_file | from_env
    explicit = {
        "api_url": settings.api_url,
        "default_project_id": settings.project_id,
        "default_zone": settings.zone,
    }
    values |= {key: value for key, value in explicit.items() if value}
    if "api_url" in values:
        values["api_url"] = values["api_url"].rstrip("/")

    source = f"{path} or the SCW_* variables" if from_file else f"the SCW_* variables ({path} does not exist)"
    checks: tuple[tuple[str, Callable[[str], bool], str], ...] = (
        ("access_key", is_access_key, "SCW and 17 capital letters or digits"),
        ("secret_key", is_secret_key, "a UUID"),
    )
    for key, is_valid, expected in checks:
        if not values.get(key):
            raise _configuration(
                f"No Scaleway {key} was found in {source}. Set SCW_ACCESS_KEY and SCW_SECRET_KEY, or run `scw init`."
            )
        if not is_valid(values[key]):
            raise _configuration(f"The Scaleway {key} in {source} is malformed: expected {expected}.")
    if "default_project_id" in values and not is_project_id(values["default_project_id"]):
        raise _configuration(f"The Scaleway project id {values['default_project_id']!r} is malformed: expected a UUID.")
    if "default_zone" in values and not is_zone(values["default_zone"]):
        raise _configuration(f"The Scaleway zone {values['default_zone']!r} is malformed: expected one like fr-par-1.")
    client = Client(**values, user_agent="plexburst")
    try:
        client.validate()
    except ValueError as error:
        raise _configuration(f"The Scaleway settings in {source} are malformed: {error}") from error
    return client


def _never_sent(error: requests.RequestException) -> bool:
    """True when the connection was never made, so that nothing can have happened at the other end."""
    if isinstance(error, requests.ConnectTimeout):
        return True
    inner = error.args[0] if error.args else None
    return isinstance(inner, MaxRetryError) and isinstance(inner.reason, NewConnectionError)


class Transport:
    """Sends requests with time limits and retries.

    REQUEST_TIMEOUT: seconds to wait for an answer; ATTEMPTS: tries of one request, the first included; BACKOFF: seconds
    before the second try, doubled each time. ``deadline`` may be set by the caller and then ends everything earlier.
    """

    def __init__(
        self,
        *,
        secret: str,
        request_timeout: float = 30.0,
        attempts: int = 6,
        backoff: float = 0.5,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.request_timeout = request_timeout
        self.attempts = attempts
        self.backoff = backoff
        self.sleep = sleep
        self.deadline: Deadline | None = None
        self._secret = secret
        self._session = requests.Session()

    def redact(self, text: str) -> str:
        """TEXT without the secret key, should a proxy ever echo our headers."""
        return text.replace(self._secret, "<secret key>")

    def send(
        self,
        method: str,
        url: str,
        *,
        params: list[tuple[str, Any]],
        headers: dict[str, str],
        data: bytes | str,
        verify: bool = True,
    ) -> requests.Response:
        """Return the answer, whatever its status, once it is neither 429 nor 5xx; ScalewayError without an answer."""
        pause = self.backoff
        problem = "was not queried, because no time was left"
        kind, status, ambiguous = "deadline", None, False
        tries = 0
        while tries < self.attempts:
            left = self.deadline.remaining() if self.deadline else self.request_timeout
            if left <= 0:
                break
            tries += 1
            wait = min(self.request_timeout, left)
            try:
                answer = self._session.request(
                    method,
                    url,
                    params=params,
                    headers=headers,
                    data=data,
                    verify=verify,
                    timeout=(min(CONNECT_SECONDS, wait), wait),
                )
            except requests.RequestException as error:
                kind, status = "network", None
                ambiguous = not _never_sent(error)
                problem = (
                    f"did not answer within {wait:.0f} s"
                    if isinstance(error, requests.Timeout)
                    else f"could not be reached ({type(error).__name__})"
                )
            else:
                if answer.status_code not in _RETRIED:
                    return answer
                kind, status = "rate_limited" if answer.status_code == 429 else "server_error", answer.status_code
                # 429 is answered before anything is done; a 5xx can come after the work was done.
                ambiguous = answer.status_code != 429
                problem = f"answered {answer.status_code}"
                pause = max(pause, _retry_after(answer))
            if ambiguous and method not in _SAFE_METHODS:
                break
            if tries < self.attempts:
                nap = min(pause, LONGEST_PAUSE) * random.uniform(0.8, 1.2)  # noqa: S311 - spreads retries, guards no secret
                if self.deadline and nap >= self.deadline.remaining():
                    break
                self.sleep(nap)
                pause *= 2
        tried = "once" if tries == 1 else f"{tries} times"
        raise ScalewayError(
            self.redact(
                f"Scaleway's API {problem} ({method} {url}, tried {tried}). "
                "Check the network and https://status.scaleway.com, then run again."
            ),
            kind=kind,
            status=status,
            ambiguous=ambiguous and method not in _SAFE_METHODS,
        )


def _retry_after(answer: requests.Response) -> float:
    text = answer.headers.get("retry-after", "")
    return float(text) if text.isdigit() else 0.0


_ADVICE = {
    "denied_authentication": "Check the access key and secret key, and that the key has not expired.",
    "permissions_denied": "Give the API key InstancesFullAccess and BlockStorageFullAccess in this project.",
    "quotas_exceeded": "Ask Scaleway for a higher quota, remove something (reap.yml), or choose smaller types.",
    "out_of_stock": "Choose other instance types or another zone.",
}


# A 404 without such a body is not "not_found", because a proxy's page does not prove that a resource is gone.
_KIND_OF_STATUS = {401: "denied_authentication", 403: "permissions_denied"}


def _listed(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in values.items() if value not in ("", None))


def error_from(answer: requests.Response, redact: Callable[[str], str] = str) -> ScalewayError:
    """Turn an answer of 400 or more into an error. Its body may be typed JSON, something else, or nothing at all."""
    where = f"{answer.request.method} {answer.request.path_url}" if answer.request is not None else "a request"
    try:
        body = answer.json()
    except ValueError:
        body = None
    if not isinstance(body, dict):
        body = {}
    kind = str(body.get("type") or _KIND_OF_STATUS.get(answer.status_code, "refused"))
    message = str(body.get("message") or answer.reason or "no explanation")
    if "quota exceeded" in message.lower():
        kind = "quotas_exceeded"
    details = body.get("details")
    particulars = (
        [_listed(detail) for detail in details if isinstance(detail, dict)] if isinstance(details, list) else []
    )
    about = {key: body.get(key) for key in ("resource", "resource_id", "current_state", "reason")}
    particulars = [text for text in [*particulars, _listed(about)] if text]
    text = f"Scaleway refused {where} with {answer.status_code}: {message}"
    if particulars:
        text += f" ({'; '.join(particulars)})"
    text = text.rstrip(".") + "."
    if kind in _ADVICE:
        text += " " + _ADVICE[kind]
    return ScalewayError(redact(text), kind=kind, status=answer.status_code)


class _OwnTransport:
    """Mixed into the SDK's API classes: same requests, sent by ``Transport``; same errors, told by ``error_from``."""

    client: Client
    transport: Transport

    def _request(
        self,
        method: str,
        path: str,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        body: Any = None,
    ) -> requests.Response:
        flat: list[tuple[str, Any]] = []
        for key, value in (params or {}).items():
            if isinstance(value, list):
                flat += [(key, item) for item in value]
            elif value is not None:
                flat.append((key, str(value).lower() if isinstance(value, bool) else value))
        sent = {"accept": "application/json", "user-agent": self.client.user_agent}
        if method.upper() in {"POST", "PUT", "PATCH"}:
            sent["Content-Type"] = "application/json; charset=utf-8"
        sent |= dict(headers or {})
        sent["x-auth-token"] = self.client.secret_key or ""
        answer = self.transport.send(
            method.upper(),
            f"{self.client.api_url}{path}",
            params=flat,
            headers=sent,
            data=body if isinstance(body, bytes) else json.dumps(body if body is not None else {}),
            verify=not self.client.api_allow_insecure,
        )
        if answer.status_code >= 400:
            raise error_from(answer, self.transport.redact)
        return self._with_total(answer, listing="page" in dict(flat))

    @staticmethod
    def _with_total(answer: requests.Response, *, listing: bool) -> requests.Response:
        """Copy the length of a list from the Instance API's header into the body, where the SDK's types read it.

        A page of a LISTING without its length is refused (ValueError): every real one has it, and the SDK would read
        any other JSON object as a list of nothing.
        """
        total = answer.headers.get("x-total-count")
        if total:
            body = answer.json()
            body["total_count"] = int(total)
            answer._content = json.dumps(body).encode()
        elif listing and "total_count" not in answer.json():
            raise ValueError("a page without total_count")
        return answer


class _InstanceApi(_OwnTransport, InstanceUtilsV1API):  # type: ignore[misc] # the SDK has no types for mypy
    pass


class _BlockApi(_OwnTransport, BlockV1API):  # type: ignore[misc]
    pass


class _MarketplaceApi(_OwnTransport, MarketplaceV2API):  # type: ignore[misc]
    pass


class Scaleway:
    """What plexburst asks of Scaleway, in one zone unless a method says otherwise. Methods raise ScalewayError.

    Listings are never filtered by tag at the server: the Instance API calls its filter "exact", the block API's means
    "any of", and a filter that quietly matches nothing would prove that nothing is left behind when everything is.
    """

    def __init__(self, client: Client, transport: Transport | None = None) -> None:
        self.client = client
        self.transport = transport or Transport(secret=client.secret_key or "")
        self._instance = self._made(_InstanceApi)
        self._block = self._made(_BlockApi)
        self._marketplace = self._made(_MarketplaceApi)

    def _made(self, kind: type[T]) -> T:
        api = kind(self.client)  # type: ignore[call-arg]
        api.transport = self.transport  # type: ignore[attr-defined]
        return api

    @property
    def zone(self) -> str:
        """The zone to work in; ScalewayError (configuration) when none was given anywhere."""
        if not self.client.default_zone:
            raise _configuration(
                "No Scaleway zone is known: set the zone, SCW_DEFAULT_ZONE, or default_zone in the file."
            )
        return str(self.client.default_zone)

    def check_project(self) -> None:
        """ScalewayError (configuration) unless it is known where new things belong: the API refuses them otherwise."""
        if not (self.client.default_project_id or self.client.default_organization_id):
            raise _configuration(
                "No Scaleway project is known: set project_id, SCW_DEFAULT_PROJECT_ID or default_project_id."
            )

    @contextmanager
    def attempts(self, number: int) -> Iterator[None]:
        """Limit the attempts of a request to NUMBER inside this context, for a caller that repeats itself."""
        before, self.transport.attempts = self.transport.attempts, number
        try:
            yield
        finally:
            self.transport.attempts = before

    def in_zone(self, zone: str) -> Scaleway:
        """The same account, transport and deadline in another zone."""
        client = Client.from_profile(self.client)
        client.default_zone = zone
        return Scaleway(client, self.transport)

    @staticmethod
    def _read(call: Callable[[], T], what: str) -> T:
        """Run CALL and turn an answer that is not what the SDK expects into a sentence (it raises bare built-ins)."""
        try:
            return call()
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            # requests' JSONDecodeError is a ValueError too: a 200 with an empty or HTML body ends here.
            raise ScalewayError(
                f"Scaleway's answer about {what} is invalid ({type(error).__name__}): a proxy in between, or "
                "an SDK that is older than the API. Update the Python package scaleway.",
                kind="unreadable",
            ) from error

    def _pages(self, fetch: Callable[[int], Any], key: str, what: str) -> list[Any]:
        """All items of a paged list; stops at the announced total or at an empty page, whichever comes first."""
        items: list[Any] = []
        for page in range(1, MAX_PAGES + 1):
            answer = self._read(partial(fetch, page), what)
            found = getattr(answer, key)
            items += list(found.items()) if isinstance(found, dict) else list(found)
            total = int(getattr(answer, "total_count", 0) or 0)
            if not found and len(items) < total:
                raise ScalewayError(
                    f"The list of {what} at Scaleway is incomplete: {len(items)} of {total} arrived.",
                    kind="unreadable",
                )
            if not found or len(items) >= total:
                return items
        raise ScalewayError(
            f"The list of {what} at Scaleway does not end. Run again; if it repeats, check https://status.scaleway.com.",
            kind="unreadable",
        )

    def _gone_is_none(self, call: Callable[[], T], what: str) -> T | None:
        """Return CALL's answer; None if the API itself reports that the resource does not exist."""
        try:
            return self._read(call, what)
        except ScalewayError as error:
            if error.status == 404 and error.kind == "not_found":
                return None
            raise

    @staticmethod
    def _named(thing: T | None, what: str) -> T:
        """Return THING; raises ScalewayError if an answer of 200 does not contain it."""
        if thing is None:
            raise ScalewayError(f"Scaleway's answer about {what} contains no resource.", kind="unreadable")
        return thing

    # --- reading

    def servers(self, zone: str | None = None) -> list[ServerRecord]:
        """All servers of the project in ZONE."""
        where = zone or self.zone
        found = self._pages(
            lambda page: self._instance.list_servers(zone=where, page=page, per_page=PAGE_SIZE), "servers", "servers"
        )
        return [ServerRecord.of(server, where) for server in found]

    def ips(self, zone: str | None = None) -> list[IpRecord]:
        """All flexible IPs of the project in ZONE."""
        where = zone or self.zone
        found = self._pages(
            lambda page: self._instance.list_ips(zone=where, page=page, per_page=PAGE_SIZE), "ips", "IPs"
        )
        return [IpRecord.of(ip, where) for ip in found]

    def volumes(self, zone: str | None = None) -> list[VolumeRecord]:
        """All volumes of the project in ZONE: block storage first, then local ones."""
        return [*self.block_volumes(zone), *self.local_volumes(zone)]

    def block_volumes(self, zone: str | None = None) -> list[VolumeRecord]:
        """Return the project's volumes in ZONE from Block Storage, which is a separate service."""
        where = zone or self.zone
        found = self._pages(
            lambda page: self._block.list_volumes(include_deleted=False, zone=where, page=page, page_size=PAGE_SIZE),
            "volumes",
            "block volumes",
        )
        return [VolumeRecord.of(volume, where) for volume in found]

    def local_volumes(self, zone: str | None = None) -> list[VolumeRecord]:
        """Return the project's volumes in ZONE from the Instance API."""
        where = zone or self.zone
        found = self._pages(
            lambda page: self._instance.list_volumes(zone=where, page=page, per_page=PAGE_SIZE),
            "volumes",
            "local volumes",
        )
        return [VolumeRecord.of_local(volume, where) for volume in found]

    def server(self, server_id: str) -> ServerRecord | None:
        """Return one server; None if it does not exist."""
        answer = self._gone_is_none(lambda: self._instance.get_server(server_id=server_id, zone=self.zone), "a server")
        return ServerRecord.of(self._named(answer.server, "a server"), self.zone) if answer else None

    def block_volume(self, volume_id: str) -> VolumeRecord | None:
        """Return one block volume; None if it does not exist."""
        answer = self._gone_is_none(lambda: self._block.get_volume(volume_id=volume_id, zone=self.zone), "a volume")
        return VolumeRecord.of(answer, self.zone) if answer else None

    def local_volume(self, volume_id: str) -> VolumeRecord | None:
        """Return one local volume; None if it does not exist."""
        answer = self._gone_is_none(
            lambda: self._instance.get_volume(volume_id=volume_id, zone=self.zone), "a local volume"
        )
        return VolumeRecord.of_local(self._named(answer.volume, "a local volume"), self.zone) if answer else None

    def ip(self, ip_id: str) -> IpRecord | None:
        """Return one flexible IP; None if it does not exist."""
        answer = self._gone_is_none(lambda: self._instance.get_ip(ip=ip_id, zone=self.zone), "an IP")
        return IpRecord.of(self._named(answer.ip, "an IP"), self.zone) if answer else None

    def user_data(self, server_id: str, key: str) -> bytes | None:
        """Return the content of a user data key; None if it is not set (the API answers 404 with an empty body)."""
        try:
            answer = self._instance.get_server_user_data(server_id=server_id, key=key, zone=self.zone)
        except ScalewayError as error:
            if error.status == 404:
                return None
            raise
        return bytes(answer.content)

    def offers(self, zone: str | None = None) -> dict[str, Offer]:
        """All instance types of ZONE with price and availability, by name."""
        where = zone or self.zone
        types = self._pages(
            lambda page: self._instance.list_servers_types(zone=where, page=page, per_page=PAGE_SIZE),
            "servers",
            "instance types",
        )
        stock = dict(
            self._pages(
                lambda page: self._instance.get_server_types_availability(zone=where, page=page, per_page=PAGE_SIZE),
                "servers",
                "availability",
            )
        )
        return {
            name: Offer.of(name, kind, str(stock[name].availability) if name in stock else "unknown")
            for name, kind in types
        }

    def image_id(self, label: str, *, arch: str, root_volume: str) -> str:
        """Id of the marketplace image LABEL in this zone for ARCH and the kind of root volume (sbs_volume or l_ssd)."""
        kind = LocalImageType.INSTANCE_SBS if root_volume == BLOCK_VOLUME else LocalImageType.INSTANCE_LOCAL
        try:
            images = self._pages(
                lambda page: self._marketplace.list_local_images(
                    image_label=label, zone=self.zone, arch=arch, type_=kind, page=page, page_size=PAGE_SIZE
                ),
                "local_images",
                "images",
            )
        except ScalewayError as error:
            if error.status != 404:
                raise
            images = []
        fitting = [image.id for image in images if str(image.arch) == arch and str(image.type_) == str(kind)]
        if not fitting:
            raise ScalewayError(
                f"Scaleway has no image {label!r} for {arch} with a root volume of type {root_volume} in {self.zone}. "
                "Choose a label that `scw marketplace image list` shows, like ubuntu_noble.",
                kind="no_image",
            )
        return str(fitting[0])

    # --- changing

    def create_ip(self, tags: Iterable[str]) -> IpRecord:
        """Make a flexible IPv4 that carries TAGS from the start."""
        answer = self._read(
            lambda: self._instance.create_ip(zone=self.zone, tags=list(tags), type_=IpType.ROUTED_IPV4), "a new IP"
        )
        if answer.ip is None:
            raise ScalewayError(
                "Scaleway's answer to the creation of an IP contains no address.", kind="unreadable", ambiguous=True
            )
        return IpRecord.of(answer.ip, self.zone)

    def create_server(
        self,
        *,
        name: str,
        commercial_type: str,
        image: str,
        root_volume: str,
        size_gb: int,
        tags: Iterable[str],
        ip_id: str | None,
    ) -> ServerRecord:
        """Make a stopped server with a root volume of SIZE_GB (10^9 bytes each), tagged from the start."""
        kind = VolumeVolumeType.SBS_VOLUME if root_volume == BLOCK_VOLUME else VolumeVolumeType.L_SSD
        # The SDK's defaults boot=False and size=0 would be sent; the recorded real requests hold size and type only.
        template = VolumeServerTemplate(volume_type=kind, size=size_gb * GIGABYTE, boot=None)
        answer = self._read(
            lambda: self._instance.create_server(
                zone=self.zone,
                name=name,
                commercial_type=commercial_type,
                image=image,
                volumes={"0": template},
                dynamic_ip_required=False,
                public_ips=[ip_id] if ip_id else None,
                tags=list(tags),
            ),
            "a new server",
        )
        if answer.server is None:
            raise ScalewayError(
                "Scaleway's answer to the creation of a server contains no server.", kind="unreadable", ambiguous=True
            )
        return ServerRecord.of(answer.server, self.zone)

    def set_user_data(self, server_id: str, key: str, content: bytes) -> None:
        """Store CONTENT under KEY; cloud-init reads it at the first boot, so it must be there before."""
        self._instance.set_server_user_data(server_id=server_id, key=key, content=content, zone=self.zone)

    def action(self, server_id: str, action: str) -> None:
        """Start an action (poweron, poweroff, terminate, …) and return at once."""
        self._instance.server_action(server_id=server_id, action=ServerAction(action), zone=self.zone)

    def delete_server(self, server_id: str) -> None:
        """Delete a stopped server; its volumes stay. A missing resource is not an error."""
        self._gone_is_none(lambda: self._instance.delete_server(server_id=server_id, zone=self.zone), "a server")

    def delete_ip(self, ip_id: str) -> None:
        """Release a flexible IP. A missing resource is not an error."""
        self._gone_is_none(lambda: self._instance.delete_ip(ip=ip_id, zone=self.zone), "an IP")

    def tag_volume(self, volume_id: str, kind: str, tags: Iterable[str]) -> None:
        """Put TAGS on a volume (all of them: the API replaces the list)."""
        if kind == BLOCK_VOLUME:
            self._block.update_volume(volume_id=volume_id, zone=self.zone, tags=list(tags))
        else:
            self._instance.update_volume(volume_id=volume_id, zone=self.zone, tags=list(tags))

    def delete_volume(self, volume_id: str, kind: str) -> None:
        """Delete a detached volume. A missing resource is not an error."""
        if kind == BLOCK_VOLUME:
            self._gone_is_none(lambda: self._block.delete_volume(volume_id=volume_id, zone=self.zone), "a volume")
        else:
            self._gone_is_none(lambda: self._instance.delete_volume(volume_id=volume_id, zone=self.zone), "a volume")


def connect(
    settings: Settings,
    *,
    environ: Mapping[str, str] = os.environ,
    request_timeout: float = 30.0,
    attempts: int = 6,
    backoff: float = 0.5,
) -> Scaleway:
    """Build the wrapper from SETTINGS (see ``load_client``); no request is made yet."""
    client = load_client(settings, environ)
    transport = Transport(
        secret=client.secret_key or "", request_timeout=request_timeout, attempts=attempts, backoff=backoff
    )
    return Scaleway(client, transport)


def settings_from(parameters: Mapping[str, Any]) -> Settings:
    """Settings from a module's parameters or a plugin's options of the same names; empty strings count as not given."""
    return Settings(**{item.name: parameters.get(item.name) or None for item in fields(Settings)})


__all__ = [
    "BLOCK_VOLUME",
    "LOCAL_VOLUME",
    "Deadline",
    "Scaleway",
    "ScalewayError",
    "Settings",
    "Transport",
    "connect",
    "error_from",
    "load_client",
    "settings_from",
]
