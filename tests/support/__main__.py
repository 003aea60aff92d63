"""The scripted server as a process of its own, for benchmarks.

Prints one JSON line with its address, then serves until SIGTERM, SIGINT or, with --watch-stdin,
the end of stdin. --log gets one JSON line for each finished request; it is complete when the
process has ended. Times in it are time.monotonic_ns(), the same clock in every process.
"""

import argparse
import hashlib
import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import TextIO

from tests.support import recorded, scripts
from tests.support.recorded import Recorded
from tests.support.server import ScriptedServer


def main() -> None:
    options = _options()
    fragments = options.fragments
    made = {
        "hi": lambda: scripts.hi(fragments),
        "prose": lambda: scripts.prose(fragments),
        "shell-steps": lambda: scripts.shell_steps(
            options.steps, fragments, options.tool, options.arguments
        ),
    }
    script = made[options.script]()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    if options.watch_stdin:
        threading.Thread(target=_until_eof, args=(stop,), daemon=True).start()
    log = open(options.log, "a", encoding="utf-8") if options.log else None  # noqa: SIM115
    server = ScriptedServer(
        script,
        flavour=options.flavour,
        strict=options.strict,
        api_key=options.key,
        models=options.model,
        port=options.port,
        keep=False,
        on_end=_logger(log, options.prefix, options.log_bodies) if log else None,
    )
    with server:
        address = {"base_url": server.base_url, "port": server.port, "pid": os.getpid()}
        print(json.dumps(address), flush=True)
        stop.wait()
    if log:
        log.close()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.support", description=__doc__)
    add = parser.add_argument
    add("--port", type=int, default=0)
    add("--script", choices=("hi", "prose", "shell-steps"), default="hi")
    add("--steps", type=int, default=20)
    add(
        "--fragments",
        type=int,
        default=0,
        help="deltas in each answer: of reasoning, or of prose",
    )
    add("--tool", default="shell", help="the tool that shell-steps calls")
    add("--arguments", default='{"command": "echo step-STEP"}', help="its arguments, with STEP")
    add("--flavour", choices=("hosted", "vllm", "openai"), default="hosted")
    add("--model", action="append", help="an id for GET /v1/models; may be repeated")
    add("--strict", action="store_true", help="refuse what the API refuses (parses each body)")
    add("--key", default="sk-test-key")
    add("--log", help="file for one JSON line a request")
    add("--log-bodies", action="store_true")
    add("--prefix", type=int, default=4096, help="bytes of the body that prefix_sha covers")
    add("--watch-stdin", action="store_true", help="end when stdin ends")
    return parser.parse_args()


def _logger(log: TextIO, prefix: int, bodies: bool) -> Callable[[Recorded], None]:
    lock = threading.Lock()

    def write(record: Recorded) -> None:
        line = {
            "index": record.index,
            "method": record.method,
            "path": record.path,
            "arrived_ns": record.arrived_ns,
            "received_ns": record.received_ns,
            "answered_ns": record.answered_ns,
            "status": record.status,
            "outcome": record.outcome,
            "body_bytes": len(record.raw),
            "conversation_bytes": recorded.conversation_bytes(record.raw),
            "prefix_sha": hashlib.sha256(record.raw[:prefix]).hexdigest(),
            "shared_prefix": record.shared_prefix,
            "problems": record.problems,
        }
        if bodies:
            line["body"] = record.raw.decode("utf-8", "replace")
        with lock:
            log.write(json.dumps(line) + "\n")
            log.flush()

    return write


def _until_eof(stop: threading.Event) -> None:
    while sys.stdin.buffer.read(1 << 16):
        pass
    stop.set()


if __name__ == "__main__":
    main()
