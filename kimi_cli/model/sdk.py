"""The only importer of ``openai``: brings it in quickly, and makes its clients.

``import openai`` loads 520 modules, 468 of them types of every API there is. Standing in for the
packages that only collect those names leaves 41; the rest of the SDK loads when it is asked for.
"""

from __future__ import annotations

import os
import re
import ssl
import sys
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from importlib.machinery import PathFinder
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from kimi_cli.model.lazy_packages import lazy_packages

if TYPE_CHECKING:
    import httpx2
    from openai import AsyncOpenAI

_TESTED = ((3, 50), (3, 54))
_LOADING = threading.Lock()
_VERSION = re.compile(r'__version__ = "(\d+)\.(\d+)')


def load() -> type[AsyncOpenAI]:
    """Import the SDK and return its client class. Quick for the tested versions, and the plain
    import for others, for an SDK that is loaded already and when anything goes wrong."""
    # Two sessions of one process begin at the same time: half a module is no client.
    with _LOADING:
        return _load()


def _load() -> type[AsyncOpenAI]:
    if (loaded := sys.modules.get("openai._client")) is not None:
        # Asked of the package itself, the name would load all that the stand-ins kept out.
        return cast("type[AsyncOpenAI]", loaded.AsyncOpenAI)
    if "openai" not in sys.modules and _tested():
        before = set(sys.modules)
        try:
            with lazy_packages(_collects_names):
                from openai._client import AsyncOpenAI
            return AsyncOpenAI
        except Exception:
            # Half an SDK must not stay; modules of other packages are whole and may.
            for name in set(sys.modules) - before:
                if name == "openai" or name.startswith("openai."):
                    del sys.modules[name]
    from openai import AsyncOpenAI as Client

    return Client


def _collects_names(name: str) -> bool:
    return name in ("openai", "openai.lib", "openai.types") or name.startswith("openai.types.")


def _tested() -> bool:
    """Whether the installed version is one that the stand-ins were tested with."""
    try:
        spec = PathFinder.find_spec("openai")
        assert spec is not None and spec.origin is not None
        found = _VERSION.search(Path(spec.origin).with_name("_version.py").read_text())
        assert found is not None
    except Exception:
        return False
    return _TESTED[0] <= (int(found[1]), int(found[2])) <= _TESTED[1]


class Connection:
    """A client of one endpoint, prepared in a thread: imports and TLS certificates take longer
    than anything else before the first request.

    ``client`` is what a request is sent with. Nothing is connected before that.
    """

    def __init__(
        self, base_url: str, api_key: str, headers: Mapping[str, str], connect_timeout: float
    ) -> None:
        self._base_url = base_url
        self._api_key = api_key
        self._headers = dict(headers)
        self._connect_timeout = connect_timeout
        self._ready: Future[AsyncOpenAI] | None = None

    def warm(self) -> None:
        """Start preparing; returns at once and does nothing the second time."""
        if self._ready is None:
            self._ready = Future()
            # A cancelled request must not take the client from the next one.
            self._ready.set_running_or_notify_cancel()
            threading.Thread(
                target=self._prepare, args=(self._ready,), name="kimi-sdk", daemon=True
            ).start()

    async def client(self) -> AsyncOpenAI:
        """The client, as soon as it is prepared. Raises what preparing it raised."""
        import asyncio

        self.warm()
        assert self._ready is not None
        if self._ready.done():
            return self._ready.result()
        return await asyncio.wrap_future(self._ready)

    async def close(self) -> None:
        """Close the connections, if there are any."""
        if self._ready is not None and self._ready.done() and not self._ready.exception():
            await self._ready.result().close()
        self._ready = None

    def _prepare(self, ready: Future[AsyncOpenAI]) -> None:
        try:
            ready.set_result(self._make())
        except BaseException as error:
            ready.set_exception(error)

    def _make(self) -> AsyncOpenAI:
        client_class = load()
        import httpx2

        http = httpx2.AsyncClient(
            verify=tls_context(self._base_url, os.environ),
            # Nobody else reaches our loopback: a proxy would only get to see what is said there.
            trust_env=not _is_loopback(urlsplit(self._base_url).hostname or ""),
            timeout=httpx2.Timeout(None, connect=self._connect_timeout, write=60.0),
            # A redirect could carry the conversation to another host; the user is told instead.
            follow_redirects=False,
            event_hooks={"request": [] if self._api_key else [_without_key]},
        )
        client = client_class(
            api_key=self._api_key or "none",
            base_url=self._base_url,
            max_retries=0,
            http_client=http,
        )
        # Set here, because the constructor adds OPENAI_CUSTOM_HEADERS, OPENAI_ORG_ID and the like
        # of the environment, which are not meant for this endpoint.
        client._custom_headers = cast(Mapping[str, str], self._all_headers())
        # Found out by the SDK it would cost a run of `uname`, whichever PATH has first: perhaps one
        # that lies in the workspace.
        client._platform = "MacOS" if sys.platform == "darwin" else "Linux"
        return client

    def _all_headers(self) -> dict[str, Any]:
        from openai._types import Omit

        omitted = {"OpenAI-Organization": Omit(), "OpenAI-Project": Omit()}
        return {**omitted, **self._headers}


def _is_loopback(host: str) -> bool:
    import ipaddress

    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


async def _without_key(request: httpx2.Request) -> None:
    """The SDK can't be without a key; a request can."""
    request.headers.pop("Authorization", None)


def tls_context(base_url: str, env: Mapping[str, str]) -> ssl.SSLContext:
    """The TLS context for an endpoint. For ``http://`` an empty one, since loading the
    certificates costs tens of milliseconds; else the system's certificates, or those that
    SSL_CERT_FILE, SSL_CERT_DIR, REQUESTS_CA_BUNDLE or CURL_CA_BUNDLE name."""
    if urlsplit(base_url).scheme == "http":
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if not (env.get("SSL_CERT_FILE") or env.get("SSL_CERT_DIR")):
        bundle = env.get("REQUESTS_CA_BUNDLE") or env.get("CURL_CA_BUNDLE")
        if bundle:
            folder = os.path.isdir(bundle)
            return ssl.create_default_context(
                cafile=None if folder else bundle, capath=bundle if folder else None
            )
    import httpx2

    return httpx2.create_ssl_context()
