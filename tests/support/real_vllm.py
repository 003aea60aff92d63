"""`kimi serve` with the real vLLM: started, watched, hurt, and never left behind."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tests.support.program import Kimi, Running
from tests.support.server import ScriptedServer

START_SECONDS = 900.0
"""A start takes half a minute, on a busy machine several times that; only a hang takes this."""
END_SECONDS = 90.0
UP = ("ready", "limited")


class Process(NamedTuple):
    """One process for good: its number and its start in clock ticks since the boot."""

    pid: int
    started: int


class Serving(Kimi):
    """The installed `kimi` with the vLLM of `vllm`, an environment's folder, first on its PATH."""

    def __init__(self, cwd: Path, home: Path, user_home: Path, vllm: Path) -> None:
        super().__init__(cwd, home, user_home)
        self._vllm = vllm

    def environment(
        self,
        server: ScriptedServer | None = None,
        changes: Mapping[str, str | None] | None = None,
    ) -> dict[str, str]:
        env = super().environment(server, changes)
        env["PATH"] = f"{self._vllm / 'bin'}:{env['PATH']}"
        return {"HF_HUB_OFFLINE": "1", "COLUMNS": "100", **env}

    def servers(self) -> list[dict[str, Any]]:
        """What `kimi serve ps` tells of all servers, the newest first."""
        run = self("serve", "ps", "--all", "--json")
        assert run.code == 0, run.err
        return list(run.json())

    def server(self, name: str) -> dict[str, Any]:
        (found,) = (server for server in self.servers() if server["name"] == name)
        return dict(found)

    def state(self, name: str) -> dict[str, Any]:
        """What a server's keeper wrote down; {} before there is any. It costs nothing, unlike a
        run of `ps`."""
        try:
            found = json.loads((self.home / "servers" / name / "state.json").read_text())
        except OSError:
            return {}
        return dict(found)

    def stage(self, name: str) -> str:
        """The stage of a server by its keeper's word; "" before there is any."""
        found = self.state(name)
        return str(found["progress"]["stage"]) if found else ""

    def key(self, name: str) -> str:
        return (self.home / "servers" / name / "key").read_text().strip()

    def until_up(self, running: Running, name: str) -> None:
        """Wait until the server that a run in the foreground started can be used."""
        running.until(lambda: self.stage(name) in UP, "server", START_SECONDS)

    def engine(self) -> list[Process]:
        """The processes that compute, as vLLM names them."""
        return [process for process in self.processes() if _title(process).startswith("VLLM::")]

    def processes(self) -> list[Process]:
        """Those of kimi, the keepers and vLLM that these runs have started. An engine process
        writes its title over the environment with the mark, but works in the server's folder and
        has its log open."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            process = process_of(int(folder.name))
            if process and process.pid != os.getpid() and self._is_ours(folder):
                found.append(process)
        return found

    def _is_ours(self, folder: Path) -> bool:
        with contextlib.suppress(OSError):
            if self.mark.encode() in (folder / "environ").read_bytes():
                return True
        links = [folder / "cwd"]
        with contextlib.suppress(OSError):
            links += (folder / "fd").iterdir()
        for link in links:
            with contextlib.suppress(OSError):
                if os.readlink(link).startswith(f"{self.home}/"):
                    return True
        return False

    def remains(self, patience: float = 10.0) -> list[str]:
        """The names of those processes that are still there after `patience` seconds."""
        deadline = time.monotonic() + patience
        while (left := self.processes()) and time.monotonic() < deadline:
            time.sleep(0.1)
        return [f"{process.pid} {_title(process)}" for process in left]

    def clear(self) -> None:
        """Stop all servers, then kill what is left, so that the next test finds a free machine."""
        if self.processes():
            self("serve", "stop", "--all", "--now", deadline=END_SECONDS)
        for process in self.processes():
            if process_of(process.pid) == process:
                os.kill(process.pid, signal.SIGKILL)


def until(condition: Callable[[], object], what: str, timeout: float = END_SECONDS) -> None:
    """Wait for a condition; AssertionError when it does not come."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"no {what}"
        time.sleep(0.05)


def process_of(pid: int) -> Process | None:
    """The process that has this number; None when there is none that runs."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = text[text.rindex(")") + 2 :].split()
    return None if fields[0] in "ZX" else Process(pid, int(fields[19]))


def get(port: int, path: str) -> tuple[int, str]:
    """The status and the body of a page of this computer; 0 where nobody answers."""
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    with contextlib.closing(client):
        try:
            client.request("GET", path)
            response = client.getresponse()
            return response.status, response.read().decode()
        except OSError:
            return 0, ""


def stream(port: int, key: str, **body: object) -> Iterator[dict[str, Any]]:
    """The chunks of a streamed chat answer, the usage included. AssertionError where it is broken
    off."""
    document = {"stream": True, "stream_options": {"include_usage": True}, **body}
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=END_SECONDS)
    with contextlib.closing(client):
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        client.request("POST", "/v1/chat/completions", json.dumps(document), headers)
        response = client.getresponse()
        assert response.status == 200, response.read()
        for line in response:
            text = line.decode().strip().removeprefix("data: ")
            if text == "[DONE]":
                return
            if text:
                yield json.loads(text)
    raise AssertionError("the answer was broken off")


def free_port() -> int:
    """A port that nobody has at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _title(process: Process) -> str:
    try:
        text = Path(f"/proc/{process.pid}/cmdline").read_bytes()
    except OSError:
        return ""
    return text.replace(b"\0", b" ").decode("utf-8", "replace").strip()
