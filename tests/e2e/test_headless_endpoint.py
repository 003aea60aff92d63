"""How the endpoint is found and reached: environment, proxies, certificates."""

from __future__ import annotations

import json
import re
import shutil
import socket
import socketserver
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.program import Kimi
from tests.support.replies import text
from tests.support.server import ScriptedServer

Serve = Callable[..., ScriptedServer]
CLOSED = "http://127.0.0.1:9"
_ABSOLUTE = re.compile(rb"((?:GET|POST) )http://[^/ ]+")


def key_of(server: ScriptedServer) -> str | None:
    return server.requests[-1].headers.get("authorization")


@contextmanager
def forwarder(server: ScriptedServer, context: ssl.SSLContext | None = None) -> Iterator[Any]:
    """Listens on a loopback port, with TLS if asked, and passes every connection on to `server`;
    gives its port and the requests that were made as to a proxy."""
    openings: list[bytes] = []

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            try:
                near = context.wrap_socket(self.request, server_side=True) if context else None
            except OSError:
                return
            near = near or self.request
            with socket.create_connection(("127.0.0.1", server.port)) as far:
                back = threading.Thread(target=_pass, args=(far, near), daemon=True)
                back.start()
                _pass(near, far, openings)
                back.join(5)

    class Listener(socketserver.ThreadingTCPServer):
        daemon_threads = True
        allow_reuse_address = True

    with Listener(("127.0.0.1", 0), Handler) as listener:
        thread = threading.Thread(target=listener.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield listener.server_address[1], openings
        finally:
            listener.shutdown()
            thread.join()


def _pass(source: socket.socket, sink: socket.socket, openings: list[bytes] | None = None) -> None:
    """Copy to the end. Requests for a whole URL, as a proxy gets them, are noted in `openings` and
    passed on as a server wants them; each begins with a packet, as it waits for the last answer."""
    try:
        while data := source.recv(65536):
            if openings is not None and (found := _ABSOLUTE.match(data)):
                openings.append(data)
                data = found[1] + data[found.end() :]
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        return


def test_key_and_address_from_the_environment(kimi: Kimi, serve: Serve) -> None:
    server = serve([text("ok")] * 2, api_key=None)
    assert kimi("-p", "x", server=server, env={"KIMI_API_KEY": "sk-one"}).code == 0
    assert key_of(server) == "Bearer sk-one"
    assert kimi("-p", "x", server=server, env={"KIMI_API_KEY": None}).code == 0
    assert key_of(server) is None


def test_environment_wins_over_config_and_flags_over_both(kimi: Kimi, serve: Serve) -> None:
    server = serve([text("ok")] * 4, api_key=None)
    (kimi.home / "config.toml").write_text(
        'model = "kimi-k3"\nthinking = "low"\n'
        f'[endpoint]\nbase_url = "{server.base_url}"\napi_key = "sk-config"\n'
    )
    no_env: dict[str, str | None] = {"KIMI_API_KEY": None}

    def sent(*args: str, **env: str | None) -> tuple[str, str | None]:
        assert kimi("-p", "x", *args, env={**no_env, **env}).code == 0
        return server.requests[-1].body["model"], key_of(server)

    assert sent() == ("kimi-k3", "Bearer sk-config")
    assert server.requests[-1].body["reasoning_effort"] == "low"
    in_env = {"KIMI_MODEL": "kimi-k2.6", "KIMI_API_KEY": "sk-env", "KIMI_THINKING": "on"}
    assert sent(**in_env) == ("kimi-k2.6", "Bearer sk-env")
    assert sent("-m", "kimi-k2.5", **in_env) == ("kimi-k2.5", "Bearer sk-env")
    elsewhere = {**in_env, "KIMI_BASE_URL": f"{CLOSED}/v1"}
    assert sent("--base-url", server.base_url, **elsewhere)[0] == "kimi-k2.6"


def test_shared_key(kimi: Kimi, serve: Serve) -> None:
    """MOONSHOT_API_KEY stands in for ours, but for an endpoint that a project's settings name."""
    server = serve([text("ok")] * 3, api_key=None)
    shared = {"MOONSHOT_API_KEY": "sk-shared"}
    assert kimi("-p", "x", server=server, env=shared).code == 0
    assert key_of(server) == "Bearer sk-test-key"
    alone = {**shared, "KIMI_API_KEY": None}
    assert kimi("-p", "x", server=server, env=alone).code == 0
    assert key_of(server) == "Bearer sk-shared"
    (kimi.cwd / ".kimi").mkdir()
    (kimi.cwd / ".kimi" / "config.toml").write_text(f'endpoint.base_url = "{server.base_url}"\n')
    (kimi.home / "trusted-folders").write_text(json.dumps(str(kimi.cwd)) + "\n")
    run = kimi("-p", "x", env=alone)
    assert (run.code, key_of(server)) == (0, None)
    assert "MOONSHOT_API_KEY is not sent" in run.err


def test_untrusted_project_does_not_redirect(kimi: Kimi, serve: Serve) -> None:
    ours, theirs = serve([text("ours")]), serve()
    (kimi.cwd / ".kimi").mkdir()
    (kimi.cwd / ".kimi" / "config.toml").write_text(
        f'model = "kimi-k2.6"\n[endpoint]\nbase_url = "{theirs.base_url}"\n'
    )
    (kimi.home / "config.toml").write_text(f'endpoint.base_url = "{ours.base_url}"\n')
    run = kimi("-p", "x")
    assert (run.code, run.out) == (0, "ours\n")
    assert "line 3: endpoint.base_url ignored" in run.err
    assert ours.requests[0].body["model"] == "kimi-k2.6"
    assert not theirs.requests + theirs.other_requests


def test_kimi_home_is_where_everything_is_kept(kimi: Kimi, serve: Serve, tmp_path: Path) -> None:
    server = serve([text("ok")] * 2)
    other = tmp_path / "another home"
    assert kimi("-p", "x", server=server, env={"KIMI_HOME": str(other)}).code == 0
    assert list(other.glob("sessions/*/*/events.jsonl"))
    assert kimi("-p", "x", server=server, env={"KIMI_HOME": None}).code == 0
    assert list(kimi.user_home.glob(".kimi-cli/sessions/*/*/events.jsonl"))
    assert not kimi.sessions()


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
def test_proxy_of_the_environment(variable: str, kimi: Kimi, serve: Serve) -> None:
    """A name that nobody but the proxy resolves shows that it was asked."""
    server = serve([text("through")])
    with forwarder(server) as (port, openings):
        env = {"KIMI_BASE_URL": "http://model.invalid/v1", variable: f"http://127.0.0.1:{port}"}
        run = kimi("-p", "x", env=env)
    assert (run.code, run.out) == (0, "through\n"), run.err
    assert openings
    assert all(b" http://model.invalid/v1/" in opening for opening in openings)


def test_no_proxy_exempts(kimi: Kimi, serve: Serve) -> None:
    server = serve([text("direct")])
    env = {"HTTP_PROXY": CLOSED, "NO_PROXY": "127.0.0.1,localhost"}
    assert kimi("-p", "x", server=server, env=env).out == "direct\n"


@pytest.mark.skipif(not shutil.which("openssl"), reason="openssl makes the certificates")
def test_certificate_authority_of_the_environment(kimi: Kimi, serve: Serve, tmp_path: Path) -> None:
    def openssl(*args: str) -> None:
        subprocess.run(["openssl", *args], cwd=tmp_path, check=True, capture_output=True)

    key = ["-newkey", "rsa:2048", "-nodes"]
    openssl("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=Our CA",
            "-addext", "keyUsage=critical,keyCertSign")  # fmt: skip
    openssl("req", *key, "-keyout", "s.key", "-out", "s.csr", "-subj", "/CN=model")
    (tmp_path / "ext").write_text(
        "subjectAltName=IP:127.0.0.1\nauthorityKeyIdentifier=keyid\nsubjectKeyIdentifier=hash\n"
    )
    openssl("x509", "-req", "-in", "s.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
            "-out", "s.pem", "-extfile", "ext")  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "s.pem", tmp_path / "s.key")
    server = serve([text("encrypted")])
    with forwarder(server, context) as (port, _):
        env = {"KIMI_BASE_URL": f"https://127.0.0.1:{port}/v1"}
        unknown = kimi("-p", "x", env=env)
        assert unknown.code == 75
        assert "certificate" in unknown.err.lower()
        assert not server.requests
        known = kimi("-p", "x", env={**env, "SSL_CERT_FILE": str(tmp_path / "ca.pem")})
        assert (known.code, known.out) == (0, "encrypted\n"), known.err


def test_headers_of_the_settings_are_sent_and_masked(kimi: Kimi, serve: Serve) -> None:
    kimi.configure({"endpoint": {"headers": {"X-Team": "a-secret-header-value"}}})
    server = serve([text("ok")])
    assert kimi("-p", "x", "--debug", server=server).code == 0
    assert server.requests[0].headers["x-team"] == "a-secret-header-value"
    for path in [*(kimi.home / "logs").iterdir(), *kimi.home.glob("sessions/*/*/events.jsonl")]:
        assert "a-secret-header-value" not in path.read_text()
