"""HTTP client for all sources: retries, time-outs, certificates."""

from __future__ import annotations

import json as jsonlib
import os
import re
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import requests
import tenacity
import urllib3
from requests.adapters import HTTPAdapter

from slide2rna.core.errors import DownloadError
from slide2rna.core.log import log

CHUNK_BYTES = 1 << 18
SLOWEST_BYTES_S = 1024
LONGEST_WAIT_S = 600.0
PASSING = {408, 425, 429, 500, 502, 503, 504}
LOOPBACK = ("localhost", "127.0.0.1", "::1")
TRUST = "name your site's CA bundle in REQUESTS_CA_BUNDLE, or fix this machine's clock"
T = TypeVar("T")


class Transient(Exception):
    """A temporary fault, worth a retry after `after_s` seconds if the server sets them."""

    def __init__(self, cause: str, after_s: float = 0.0) -> None:
        super().__init__(cause)
        self.after_s = after_s


class _Adapter(HTTPAdapter):
    def __init__(self, settings: ServerSettings) -> None:
        super().__init__(pool_connections=4, pool_maxsize=4)
        self.settings = settings

    def add_headers(self, request: requests.PreparedRequest, **kwargs: Any) -> None:
        """Add the token to a request to `api` only, also after a redirect."""
        request.headers.pop("X-Auth-Token", None)
        if self.settings.token and _origin(request.url) == _origin(self.settings.api):
            request.headers["X-Auth-Token"] = self.settings.token


class Client(requests.Session):
    """A session with its settings."""

    def __init__(self, settings: ServerSettings) -> None:
        super().__init__()
        self.settings = settings
        self.bundle = (
            settings.ca or os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE")
        )
        if self.bundle and not Path(self.bundle).exists():
            raise DownloadError(self.bundle, "this CA bundle is missing", "fix its path")
        # Checksums are of the bytes as stored, so the transfer must not compress them.
        self.headers.update({"User-Agent": "slide2rna", "Accept-Encoding": "identity"})
        for scheme in ("https://", "http://"):
            self.mount(scheme, _Adapter(settings))


def session(settings: ServerSettings) -> Client:
    """Open a new session; use one per thread."""
    return Client(settings)


def retry(
    work: Callable[[], T],
    where: object,
    settings: ServerSettings,
    enough: Callable[[tenacity.RetryCallState], bool] | None = None,
) -> T:
    """Run `work` until it ends without `Transient`, with exponential backoff and jitter.

    Raises
    ------
    DownloadError
        After `settings.tries` tries, or when `enough` returns true.
    """
    backoff = tenacity.wait_exponential(settings.backoff_s, max=60) + tenacity.wait_random(
        0, settings.backoff_s
    )

    def wait(state: tenacity.RetryCallState) -> float:
        return max(backoff(state), getattr(_error(state), "after_s", 0.0))

    def log_retry(state: tenacity.RetryCallState) -> None:
        log.info("%s: %s; retrying in %.0f s", where, _error(state), state.upcoming_sleep)

    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(Transient),
        stop=enough or tenacity.stop_after_attempt(settings.tries),
        wait=wait,
        before_sleep=log_retry,
        reraise=True,
    )
    try:
        return retrying(work)
    except Transient as error:
        cause = f"{error}, {settings.tries} times"
        raise DownloadError(
            where, cause, "rerun the same command later: the download continues"
        ) from None


def _error(state: tenacity.RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome else None


@contextmanager
def request(
    client: Client, where: object, method: str, url: str, **arguments: Any
) -> Iterator[requests.Response]:
    """Send one request and yield its streamed response; only status 200, 206 and 416 pass.

    Raises
    ------
    Transient
        The fault may be temporary.
    DownloadError
        The fault is permanent: withdrawn, forbidden, a wrong address, an untrusted certificate.
    """
    timeout_s = client.settings.timeout_s
    try:
        with client.request(
            method, url, stream=True, timeout=timeout_s, verify=client.bundle, **arguments
        ) as response:
            _check(response, where, client.settings.token)
            yield response
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        # Report only the error's type: its text may hold a signed address.
        chain = list(_chain(error))
        if any(isinstance(link, ssl.SSLCertVerificationError) for link in chain):
            cause = f"the certificate of {urlsplit(url).hostname} isn't trusted"
            raise DownloadError(where, cause, TRUST) from None
        if isinstance(error, (requests.Timeout, urllib3.exceptions.TimeoutError)):
            raise Transient(f"no answer for {timeout_s:g} s") from None
        if isinstance(error, requests.exceptions.InvalidSchema) and _socks_proxy(url):
            cause = "the proxy is a SOCKS proxy, which needs the package PySocks"
            raise DownloadError(where, cause, "pip install pysocks, or set an http proxy") from None
        if isinstance(error, (ValueError, requests.TooManyRedirects)):
            cause = f"the address can't be used ({type(error).__name__})"
            raise DownloadError(where, cause, "fix the address") from None
        raise Transient(f"the connection broke ({type(chain[-1]).__name__})") from None


def body(response: requests.Response, timeout_s: float, unpack: bool = False) -> Iterator[bytes]:
    """Yield the bytes as they arrive; raise `Transient` if they stall (see `ServerSettings`)."""
    since, received = time.monotonic(), 0
    while chunk := response.raw.read1(CHUNK_BYTES, decode_content=unpack):
        yield chunk
        received += len(chunk)
        if (elapsed := time.monotonic() - since) > timeout_s:
            if received < SLOWEST_BYTES_S * elapsed:
                raise Transient(f"only {received} bytes arrived in {elapsed:.1f} s")
            since, received = time.monotonic(), 0


def get_json(
    session: Client, url: str, params: dict[str, Any] | None = None, json: Any = None
) -> Any:
    """Request JSON with GET, or with POST if `json` is set; retry temporary faults.

    Raises
    ------
    DownloadError
        Not available: refused, withdrawn, not JSON, an HTML page instead, or no answer at all.
    """
    where = url.split("?")[0]

    def fetch() -> Any:
        method = "GET" if json is None else "POST"
        with request(session, where, method, url, params=params, json=json) as response:
            text = b"".join(body(response, session.settings.timeout_s, unpack=True))
            refuse_page(response)
        try:
            return jsonlib.loads(text)
        except ValueError:
            raise Transient("the answer isn't JSON") from None

    return retry(fetch, where, session.settings)


def refuse_page(response: requests.Response) -> None:
    """Raise `Transient` for an HTML page: portals and proxies report outages with status 200."""
    if response.headers.get("Content-Type", "").lower().startswith("text/html"):
        raise Transient("the answer is an HTML page (is a portal or proxy down?)")


def _check(response: requests.Response, where: object, token: str | None) -> None:
    status = response.status_code
    if status in (200, 206, 416):
        return
    if status in PASSING:
        raise Transient(f"HTTP status {status}", _retry_after_s(response))
    if status in (404, 410):
        remedy = "it was withdrawn: remove it from the manifest, or create the manifest again"
        raise DownloadError(where, f"the server doesn't have it (HTTP status {status})", remedy)
    if status in (401, 403, 407):
        remedy = "it may be controlled: give a valid token (GDC_TOKEN or token_file)"
        raise DownloadError(where, f"access is refused (HTTP status {status})", remedy)
    kind = response.headers.get("Content-Type", "")
    detail = f": {response.raw.read(200).decode('utf-8', 'replace')}" if "json" in kind else ""
    if token:  # a server may repeat it
        detail = detail.replace(token, "(token)")
    raise DownloadError(where, f"the request is refused (HTTP status {status}{detail})", "fix it")


def _retry_after_s(response: requests.Response) -> float:
    try:
        after_s = urllib3.Retry().parse_retry_after(response.headers.get("Retry-After", "0"))
    except urllib3.exceptions.InvalidHeader:
        return 0.0
    return min(after_s, LONGEST_WAIT_S)


def _chain(error: BaseException) -> Iterator[BaseException]:
    link: BaseException | None = error
    while link is not None:
        yield link
        reason = getattr(link, "reason", None)
        link = reason if isinstance(reason, BaseException) else link.__cause__ or link.__context__


def _socks_proxy(url: str) -> bool:
    proxy = requests.utils.select_proxy(url, requests.utils.get_environ_proxies(url))
    return (proxy or "").lower().startswith("socks")


def _origin(url: str | None) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url or "")
    return parts.scheme, parts.hostname, parts.port or {"https": 443, "http": 80}.get(parts.scheme)


GDC = "https://api.gdc.cancer.gov"


@dataclass(frozen=True)
class ServerSettings:
    """Settings of all requests.

    `token` goes only to the scheme, host and port of `api`, in X-Auth-Token
    (https://docs.gdc.cancer.gov/API/Users_Guide/Getting_Started/#authentication), also after a
    redirect. `timeout_s` bounds the wait for a connection and for the next bytes; a body slower
    than 1 kB/s over that time counts as stalled. `ca` is a PEM file of trusted roots.
    """

    token: str | None = field(default=None, repr=False)
    parallel: int = 4
    timeout_s: float = 60.0
    tries: int = 8
    backoff_s: float = 1.0
    ca: str | None = None
    api: str = GDC

    def __post_init__(self) -> None:
        # Checked here, since http.client quotes a malformed header in its error.
        if self.token is not None and not re.fullmatch(r"[\x21-\x7e]+", self.token):
            raise DownloadError("the token", "it isn't a single line of text", "download a new one")
        scheme, host, _ = _origin(self.api)
        if self.token is not None and scheme != "https" and host not in LOOPBACK:
            cause = "a token is sent over https only"
            raise DownloadError(self.api, cause, "fix the key api, or remove the token")


def read_token(token_file: str | Path | None = None) -> str | None:
    """Read the token from the file, else from the environment's GDC_TOKEN, else return None.

    Raises
    ------
    DownloadError
        The file can't be read.
    """
    if token_file is None:
        return os.environ.get("GDC_TOKEN", "").strip() or None
    try:
        if Path(token_file).stat().st_mode & 0o077:
            log.warning("warning: %s: other users can read this token: chmod 600", token_file)
        return Path(token_file).read_text(encoding="ascii").strip() or None
    except (OSError, ValueError) as error:
        cause = f"the token can't be read ({type(error).__name__})"
        raise DownloadError(token_file, cause, "fix token_file or its permissions") from None
