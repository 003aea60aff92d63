"""A box as a profile for macOS's sandbox-exec(1).

The language is Apple's own (sandboxd(8)); in it the last rule that matches decides. A process gets
no services of the system beyond those that programs need to start: what it could ask another
process to do is not confined.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence

from kimi_cli.workspace.box import Box

PROGRAM = "/usr/bin/sandbox-exec"

_START = """\
(version 1)
(deny default)
(allow process-exec)
(allow process-fork)
(allow process-info* (target same-sandbox))
(allow signal (target same-sandbox))
(allow sysctl-read)
(allow sysctl-write (sysctl-name "kern.grade_cputype"))
(allow user-preference-read)
(allow ipc-posix-sem)
(allow ipc-posix-shm)
(allow iokit-open (iokit-registry-entry-class "RootDomainUserClient"))
(allow pseudo-tty)
(allow system-socket (socket-domain AF_UNIX))
(allow file-read*)
(allow file-ioctl (literal "/dev/ptmx") (regex #"^/dev/ttys[0-9]+$"))
"""
_DEVICES = ("null", "zero", "random", "urandom", "tty", "ptmx", "dtracehelper", "stdout", "stderr")
_TERMINALS = '(regex #"^/dev/ttys[0-9]+$")\n  (regex #"^/dev/fd/[0-9]+$")'
_SERVICES = (
    "com.apple.system.opendirectoryd.libinfo",
    "com.apple.system.opendirectoryd.membership",
    "com.apple.system.logger",
    "com.apple.system.notification_center",
    "com.apple.logd",
    "com.apple.bsd.dirhelper",
    "com.apple.PowerManagement.control",
)
# Names of machines are asked for here.
_NAMES = "/private/var/run/mDNSResponder"
_NETWORK_SERVICES = (
    "com.apple.SystemConfiguration.configd",
    "com.apple.SystemConfiguration.DNSConfiguration",
    "com.apple.SecurityServer",
    "com.apple.networkd",
    "com.apple.ocspd",
    "com.apple.trustd.agent",
    "com.apple.dnssd.service",
)


def profile(box: Box) -> str:
    """The profile's text. What macOS has no means for is left out: ``overlays`` and ``session``
    (the loopback is that of the machine)."""
    services = _SERVICES + (_NETWORK_SERVICES if box.network else ())
    rules = [
        _START.rstrip(),
        _rule("allow mach-lookup", [f"(global-name {quote(name)})" for name in services]),
        _rule("allow file-write*", [_literal(f"/dev/{name}") for name in _DEVICES] + [_TERMINALS]),
        # Of the paths that hold for a file the deepest decides, so that must be the last.
        *(rule for _, _, rule in sorted(_layered(box), key=lambda row: row[:2])),
        *(_keep_in_place(path) for path in _text((*box.pinned, *box.read_only, *box.hidden))),
        *_network(box),
    ]
    return "\n".join(rules) + "\n"


def quote(text: str) -> str:
    """A string of the language."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _layered(box: Box) -> Iterator[tuple[int, int, str]]:
    """How deep a path lies, which of several rules for it comes first, and the rule."""
    for path in _text(box.write):
        yield _depth(path), 1, _rule("allow file-read* file-write*", [_subpath(path)])
    for path in _text(box.read_only):
        yield _depth(path), 2, _rule("deny file-write*", [_subpath(path)])
    for path in _text(box.hidden):
        # What leads to a shown path inside can still be told to be there.
        yield _depth(path), 3, _rule("deny file-read* file-write*", [_subpath(path)])
        yield _depth(path), 4, _rule("allow file-read-metadata", [_literal(path)])
    for path in _text(box.shown):
        yield _depth(path), 5, _rule("allow file-read*", [_subpath(path)])


def _keep_in_place(path: str) -> str:
    """A path that can't be removed or renamed, nor a folder on the way to it."""
    steps = [path]
    while os.path.dirname(steps[-1]) != steps[-1]:
        steps.append(os.path.dirname(steps[-1]))
    return _rule("deny file-write-unlink", [_literal(step) for step in steps[:-1]])


def _network(box: Box) -> Iterator[str]:
    if box.network:
        yield "(allow network-outbound)\n(allow network-inbound)\n(allow network-bind)"
        yield "(allow system-socket)"
    else:
        # The one name for this machine that the language knows.
        yield _rule("allow network-outbound", ['(remote ip "localhost:*")'])
        yield _rule("allow network-inbound network-bind", ['(local ip "localhost:*")'])
    yield "(deny network-outbound (remote unix-socket))"
    if box.network:
        yield _rule("allow network-outbound", [f"(remote unix-socket {_path_literal(_NAMES)})"])
    own = [path for path in box.write if path not in box.temp]
    if own:
        places = [f"(subpath {quote(path)})" for path in _text(own)]
        yield _rule("allow network-outbound", [f"(remote unix-socket {place})" for place in places])
    places = [f"(subpath {quote(path)})" for path in _text(box.write)]
    if places:
        yield _rule("allow network-bind", [f"(local unix-socket {place})" for place in places])


def _rule(what: str, filters: Sequence[str]) -> str:
    return "\n  ".join([f"({what}", *filters]) + ")"


def _subpath(path: str) -> str:
    return f"(subpath {quote(path)})"


def _literal(path: str) -> str:
    return f"(literal {quote(path)})"


def _path_literal(path: str) -> str:
    return f"(path-literal {quote(path)})"


def _depth(path: str) -> int:
    return 0 if path == "/" else path.count("/")


def _text(paths: Iterable[bytes]) -> list[str]:
    return [os.fsdecode(path) for path in dict.fromkeys(paths)]
