"""A program in vLLM's place, for tests of its keeper that should not take a minute each.

    python fake_engine.py BEHAVIOUR PORT [OPTIONS]

It prints lines as vLLM does, has a worker with a session of its own and no environment, and answers
/health, /v1/models, /v1/chat/completions (with a call where a tool is offered) and /metrics.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

NO_ROOM = (
    "(EngineCore pid=7) ValueError: To serve at least one request with the models's max seq len "
    "(40000), (2.0 GiB KV cache is needed, which is larger than the available KV cache memory "
    "(1.0 GiB). Based on the available memory, the estimated maximum model length is 20000. Try "
    "increasing `gpu_memory_utilization` or decreasing `max_model_len`."
)
WORKER = "import signal, time; {deaf}; print('on', flush=True); time.sleep(600)"
DEAF = "signal.signal(signal.SIGTERM, signal.SIG_IGN)"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/v1/models":
            if self.headers["Authorization"] != f"Bearer {os.environ.get('VLLM_API_KEY')}":
                self._send({"message": "Unauthorized"}, 401)
                return
            self._send({"data": [{"id": "tiny", "owned_by": "vllm", "max_model_len": 4242}]})
        else:
            self._send({})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        usage = {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8}
        message: dict[str, Any] = {"role": "assistant", "content": "hello"}
        if body.get("tools"):
            function = body["tools"][0]["function"]
            needed = function["parameters"]["properties"]
            made = {"string": "a", "integer": 1, "number": 1, "boolean": True, "array": []}
            arguments = json.dumps({name: made[kind["type"]] for name, kind in needed.items()})
            call = {"name": function["name"], "arguments": arguments}
            one = {"id": "call-1", "type": "function", "function": call}
            message = {"role": "assistant", "content": None, "tool_calls": [one]}
        why = "tool_calls" if body.get("tools") else "stop"
        choice: dict[str, Any] = {"index": 0, "message": message, "finish_reason": why}
        answer = {"id": "x", "model": "tiny", "choices": [choice], "usage": usage}
        if not body.get("stream"):
            self._send(answer)
            return
        choice["delta"] = choice.pop("message")
        for number, call in enumerate(choice["delta"].get("tool_calls") or ()):
            call["index"] = number
        text = f"data: {json.dumps(answer)}\n\ndata: [DONE]\n\n"
        self._raw(text.encode(), 200, "text/event-stream")

    def _send(self, body: dict[str, Any], status: int = 200) -> None:
        self._raw(json.dumps(body).encode(), status, "application/json")

    def _raw(self, content: bytes, status: int, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *words: object) -> None:
        pass


def main() -> None:
    behaviour, port, options = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
    print("INFO 11-22 04:00:00 [api_server.py:1] vLLM API server version 0.32.0", flush=True)
    code = WORKER.format(deaf=DEAF if behaviour in ("slow to end", "loads") else "pass")
    worker = subprocess.Popen(
        [sys.executable, "-c", code], env={}, start_new_session=True, stdout=subprocess.PIPE
    )
    assert worker.stdout
    assert worker.stdout.readline() == b"on\n"
    if behaviour == "loads":
        time.sleep(600)
    if behaviour == "dies":
        raise RuntimeError("something that nobody has seen before")
    if behaviour == "no room" and "20000" not in options:
        print(NO_ROOM, flush=True)
        sys.exit(1)
    if behaviour == "other node":
        while True:
            time.sleep(1)
    if behaviour == "slow to end":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    else:
        signal.signal(signal.SIGTERM, lambda *_: (print("ended well", flush=True), os._exit(0)))
    print("INFO 11-22 04:00:00 [api_server.py:2] Application startup complete.", flush=True)
    ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()


if __name__ == "__main__":
    main()
