"""Asking a server: its figures as vLLM writes them, and answers that are none."""

from __future__ import annotations

import http.server
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kimi_cli.serve import client

TEXT = """\
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="tiny"} 2.0
vllm:num_requests_running{engine="1",model_name="tiny"} 1.0
# HELP vllm:kv_cache_usage_perc KV-cache usage. 1 means 100 percent usage.
vllm:kv_cache_usage_perc{engine="0",model_name="tiny"} 0.25
vllm:kv_cache_usage_perc{engine="1",model_name="tiny"} 0.9
vllm:generation_tokens_total{engine="0",model_name="tiny"} 1.5e+06
vllm:generation_tokens_created{engine="0",model_name="tiny"} 1.7e+09
python_gc_objects_collected_total{generation="0"} 12.0
vllm:odd nothing
"""


def test_engines_are_added_up_and_shares_are_not() -> None:
    found = client.read_metrics(TEXT)
    assert found["vllm:num_requests_running"] == 3.0
    assert found["vllm:kv_cache_usage_perc"] == 0.9
    assert found["vllm:generation_tokens_total"] == 1.5e6
    assert "vllm:odd" not in found
    assert all(name.startswith("vllm:") for name in found)


@given(st.text())
def test_any_text_is_read(text: str) -> None:
    client.read_metrics(text + TEXT + text)


@contextmanager
def answering(status: int, body: bytes) -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.do_GET()

        def log_message(self, *words: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/v1"
        server.shutdown()


def test_what_a_server_complains_of_is_told() -> None:
    with answering(500, b'{"error": {"message": "EngineCore\\nencountered an issue"}}') as url:
        assert client.one_token(url, "k", "m") == "HTTP 500: EngineCore encountered an issue"
        assert not client.healthy(url)
        with pytest.raises(client.NoAnswer, match="answers 500"):
            client.metrics(url)
    with answering(404, b"<html>") as url:
        assert client.one_token(url, "k", "m") == "HTTP 404: <html>"


def test_something_else_that_answers_is_no_server() -> None:
    with answering(200, b"[1]") as url, pytest.raises(client.NoAnswer, match="can be read"):
        client.model_entry(url, "k", "m")


def test_nobody_there() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
        assert not client.healthy(url)
        assert "refused" in client.one_token(url, "k", "m")


def test_one_that_hangs_is_left() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/v1"
        assert client.one_token(url, "k", "m", 0.2) == "no answer within 0.2 s"
