"""Telling from a failed command's output whether the sandbox caused the failure.

A question to the user must not come from a failure that is the command's own. So a refused write
counts only when the output names a path that the box keeps from changing and that we could change
ourselves; a refused connection only without the network, and not for names that never exist. Lines
that look like found text (``file:12:``), a diff, source or an assertion are passed over. Without a
path, "Read-only file system" is a failure like any other. The last refusal in the output is the one
that counts.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from kimi_cli.protocol.sandbox import Denial, Grant
from kimi_cli.workspace.denial_grants import grant_folder
from kimi_cli.workspace.denial_words import (
    CREDENTIALS,
    HIDDEN,
    NETWORK,
    NOT_A_HOST,
    POWERS,
    REFUSED,
    SILENT,
    SOCKET,
    WEAK,
    WRITE,
)

_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(\x07|\x1b\\)")
_LAST_LINES = 400
# What people search, compare and test: words in it are no message.
_QUOTED_TEXT = re.compile(
    r"^[\w./+-]+[:-]\d+[:-](?!\d*:? (error|fatal))|^[+-](?![+-])|^\s*(>|#|//|\*|assert\b|raise\b)"
    r"|\bassert(ion)?\b|AssertionError|^\s*(PASS|ok \d|✓|\d+:|\|)|\bPASSED\b"
    r"|^\s*(return|if|def|with)\b"
)
_PATHS = (
    re.compile(r"""['"‘“`]((?:~?/|\.{1,2}/|\.?[\w@])[^'"’”`\n]*)['"’”`]"""),
    re.compile(r"(?<![\w:/.])((?:~|\.{1,2})?/[^\s'\"‘’“”`(),;:]+)"),
    # "tar: a: Cannot open", "error: could not write config file .git/config: Device ..."
    re.compile(r"(?:^|[\s:=])([^\s:'\"‘’`]+): (?=[A-Z])"),
)
_PROGRAM = re.compile(r"(/\S+): (?!Read-only|Permission denied)")
_PORT = re.compile(r"(?:127\.\d+\.\d+\.\d+|localhost|\[?::1\]?)\D{0,12}?(\d{2,5})\b")


@dataclass(frozen=True, slots=True)
class Scene:
    """What is known of a command that failed.

    ``code`` is its exit status, None when it was ended. ``network`` tells whether it had it.
    ``bases`` are folders that relative paths may mean. ``writable(path)``: the box lets it change
    the path. ``ours(path)``: we could ourselves. ``hidden(path)``: the hidden place it is in, ""
    for none; ``guarded(path)``: likewise what stays read-only inside writable folders.
    ``forbidden(path)``: nothing may give it away. ``listening(port)``: something on this machine
    does. ``proxies`` are the ports of proxies on this machine.
    """

    command: str
    code: int | None
    network: bool
    home: str
    bases: tuple[str, ...]
    hidden_places: tuple[str, ...]
    writable: Callable[[str], bool]
    ours: Callable[[str], bool]
    hidden: Callable[[str], str]
    guarded: Callable[[str], str]
    forbidden: Callable[[str], bool]
    listening: Callable[[int], bool]
    is_socket: Callable[[str], bool]
    proxies: frozenset[int] = frozenset()


def find_denial(output: str, scene: Scene) -> Denial | None:
    """What the sandbox refused, None when the failure is the command's own."""
    lines = [line[-2000:].rstrip() for line in _ESCAPES.sub("", output).splitlines()]
    lines = lines[-_LAST_LINES:]
    for number in range(len(lines) - 1, -1, -1):
        line = lines[number]
        # Rust and Node name the path on a line of its own, before or after.
        around = lines[max(0, number - 6) : number + 7]
        if not line or _QUOTED_TEXT.search(line):
            continue
        for judge in (_powers, _socket, _write, _network, _hidden):
            found = judge(line, around, scene)
            if found is not None:
                return _merged(found, lines[:number], scene) if judge is _write else found
    return _silent(lines, scene)


def _network(line: str, around: list[str], scene: Scene) -> Denial | None:
    if scene.network:
        return None
    denial = Denial("the network is off for commands", Grant(network=True))
    if NETWORK.search(line) and not NOT_A_HOST.search(line):
        return denial
    if REFUSED.search(line):
        ports = [int(port) for port in _PORT.findall(" ".join(around[:7]))]
        if any(port in scene.proxies for port in ports):
            return denial
        for port in ports:
            if scene.listening(port):
                reason = f"commands have a loopback of their own, without what listens on {port}"
                return Denial(reason, Grant(network=True))
    return None


def _write(line: str, around: list[str], scene: Scene) -> Denial | None:
    strong = WRITE.search(line)
    if not strong and not WEAK.search(line):
        return None
    found = next(_refused(line, scene), "")
    if not found and strong:
        found = next((path for near in reversed(around) for path in _refused(near, scene)), "")
    if not found:
        return None
    if scene.forbidden(found):
        return Denial(f"nothing may change kimi's own folder ({found})", None)
    if scene.hidden(found) and not re.search("read-only", line, re.IGNORECASE):
        return None
    guarded = scene.guarded(found)
    if guarded:
        return Denial(f"{guarded} stays as it is", Grant(write=(guarded,)))
    itself = bool(WEAK.search(line)) and os.path.isdir(found)
    grant = grant_folder(found, scene.home, itself=itself)
    return Denial(f"{found} is outside of what commands may change", grant)


def _refused(line: str, scene: Scene) -> Iterator[str]:
    """The paths in a line that only the box keeps from being changed, last ones first. A missing
    folder on the way to a path is a reason of its own, unless folders were to be made."""
    program = _PROGRAM.match(line)
    if program and os.access(program[1], os.X_OK) and os.path.isfile(program[1]):
        line = line[program.end() :]
    for path in reversed(list(_paths(line, scene))):
        if scene.writable(path) or not (scene.forbidden(path) or scene.ours(path)):
            continue
        if "director" in line or os.path.isdir(os.path.dirname(path)):
            yield path


def _paths(line: str, scene: Scene) -> Iterator[str]:
    seen = set()
    for pattern in _PATHS:
        for text in pattern.findall(line):
            text = text.removeprefix("unix://").rstrip(".")
            if text.startswith("~/"):
                text = os.path.join(scene.home, text[2:])
            for base in scene.bases if not os.path.isabs(text) else ("/",):
                path = os.path.normpath(os.path.join(base, text))
                if path not in seen and len(path) < 4096:
                    seen.add(path)
                    yield path


def _merged(last: Denial, before: list[str], scene: Scene) -> Denial:
    """One command often says the same of several files: allow it all at once."""
    if last.grant is None:
        return last
    grant = last.grant
    for line in reversed(before[-20:]):
        if _QUOTED_TEXT.search(line):
            continue
        more = _write(line, [line], scene)
        if more is not None and more.grant is not None and len((grant | more.grant).write) <= 4:
            grant |= more.grant
    return Denial(last.reason, _least(grant))


def _least(grant: Grant) -> Grant:
    """Without what a folder in it holds already."""
    kept = tuple(
        path
        for path in grant.write
        if not any(path.startswith(other.rstrip("/") + "/") for other in grant.write)
    )
    return Grant(grant.network, kept, grant.read, grant.unconfined)


def _socket(line: str, around: list[str], scene: Scene) -> Denial | None:
    if not SOCKET.search(line):
        return None
    for path in _paths(line.replace("unix://", " "), scene):
        real = os.path.realpath(path)
        if scene.is_socket(real) and not scene.forbidden(real):
            return Denial(f"commands can't reach the socket {path}", Grant(write=(real,)))
    return None


def _hidden(line: str, around: list[str], scene: Scene) -> Denial | None:
    if HIDDEN.search(line):
        for path in _paths(line, scene):
            place = scene.hidden(path)
            if scene.forbidden(path):
                return Denial(f"kimi's own folder is hidden from commands ({path})", None)
            if place and os.path.lexists(path):
                return Denial(f"{place} is hidden from commands", Grant(read=(path,)))
    for pattern, places in CREDENTIALS:
        if pattern.search(line):
            wanted = [os.path.join(scene.home, place) for place in places]
            found = tuple(path for path in wanted if path in scene.hidden_places)
            if found:
                return Denial(f"{', '.join(found)} is hidden from commands", Grant(read=found))
    return None


def _powers(line: str, around: list[str], scene: Scene) -> Denial | None:
    for pattern, reason in POWERS:
        if pattern.search(line):
            return Denial(reason, Grant(unconfined=True))
    return None


def _silent(lines: list[str], scene: Scene) -> Denial | None:
    """Programs told to be quiet fail without a word; their exit status speaks."""
    if scene.network or any(lines) or NOT_A_HOST.search(scene.command):
        return None
    for program, codes in SILENT:
        if program.search(scene.command) and scene.code in codes:
            return Denial("the network is off for commands", Grant(network=True))
    return None
