"""Confining a command: runs in the command's process, between fork and exec.

The parts are in an order that matters: a process under Landlock can't mount, and one without
capabilities can't either. Whatever fails raises OSError, and the command is not started.
"""

from __future__ import annotations

import errno
import os
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from kimi_cli.workspace import helper_bubblewrap as bubblewrap
    from kimi_cli.workspace import helper_kernel as kernel
    from kimi_cli.workspace import helper_landlock as landlock
    from kimi_cli.workspace import helper_mounts as mounts
    from kimi_cli.workspace import helper_namespaces as namespaces
    from kimi_cli.workspace import helper_seccomp as seccomp
    from kimi_cli.workspace.helper_sockets import foreign
else:
    import helper_bubblewrap as bubblewrap
    import helper_kernel as kernel
    import helper_landlock as landlock
    import helper_mounts as mounts
    import helper_namespaces as namespaces
    import helper_seccomp as seccomp
    from helper_sockets import foreign

# CHOWN, DAC_OVERRIDE, FOWNER, FSETID, SETGID, SETUID, NET_BIND_SERVICE: what a privileged user's
# build or unpacking needs; the rest would be power over the machine.
KEPT = sum(1 << number for number in (0, 1, 3, 4, 6, 7, 10))
# What may be written of the machine's own /dev, where it is not replaced.
_DEVICES = (b"null", b"zero", b"full", b"random", b"urandom", b"tty", b"ptmx", b"pts", b"shm")


def confine(box: dict[str, Any], argv: list[bytes]) -> list[bytes]:
    """Put this single-threaded process and all that it will start under the limits of ``box``, for
    good. ``box`` is ``Box.as_dict``, for "namespaces" with ``spaces``, the paths of the session's.
    Returns what to execute for the command ``argv``; the working folder must be entered again
    before. Raises OSError."""
    kept = KEPT & kernel.capabilities()
    version = landlock.abi()
    if box["way"] == "namespaces":
        # Looked up from outside: those of the session's own commands are no strangers.
        sockets, ways = foreign(box)
        namespaces.enter(box["spaces"], network=box["network"])
        mounts.build(box, sockets, ways)
        kernel.limit_capabilities(kept)
        # The first version forbids every rename between folders: a high price for a second lock.
        if version > 1:
            landlock.restrict(version, landlock.changes(version), _opened(_writable(box)))
        inet = True
    elif box["way"] == "landlock":
        if not version:
            raise OSError(errno.ENOSYS, "the sandbox can't be set up: the kernel has no Landlock")
        kernel.limit_capabilities(kept)
        handled = landlock.changes(version) | landlock.READ_FILE
        landlock.restrict(version, handled, _opened(_alone(box)))
        inet = box["network"]
    elif box["way"] == "bubblewrap":
        return bubblewrap.wrap(box, *foreign(box), argv, kept)
    else:
        raise OSError(errno.ENOSYS, f"the sandbox can't be set up: no such way: {box['way']}")
    if seccomp.supported():
        seccomp.install(inet=inet)
    elif not inet:
        raise OSError(errno.ENOSYS, "the sandbox can't be set up: no way to refuse the network")
    kernel.close_at_exec()
    return argv


def _writable(box: dict[str, Any]) -> Iterator[tuple[bytes, int]]:
    every = ~0
    for path in (*box["write"], *(target for target, _, _ in box["overlays"]), b"/dev"):
        yield path, every


def _alone(box: dict[str, Any]) -> Iterator[tuple[bytes, int]]:
    """The rules where Landlock is all there is: what is hidden is nowhere granted, so that what
    lies around it must be, one by one."""
    every, reading = ~0, landlock.READ_FILE
    # Devices could be read by a privileged user past all files.
    secret = (*box["hidden"], b"/dev")
    for path in landlock.around(b"/", secret):
        yield path, reading
    for path in box["shown"]:
        yield path, reading
    for folder in box["write"]:
        if not landlock.inside(folder, b"/dev"):
            for path in landlock.around(folder, box["hidden"]):
                yield path, every
    gpus = [n for n in os.listdir(b"/dev") if n in (b"kfd", b"dri") or n.startswith(b"nvidia")]
    for name in (*_DEVICES, *gpus):
        yield b"/dev/" + name, every
    for folder in box["write"]:
        if folder.startswith(b"/dev/"):
            yield folder, every


def _opened(rules: Iterator[tuple[bytes, int]]) -> Iterator[tuple[int, int]]:
    """The rules' paths as handles; what does not exist, or can't be seen, is left out."""
    # The output's own file, for programs that open it by the name /dev/stdout.
    for fd in (1, 2):
        if stat.S_ISREG(os.fstat(fd).st_mode):
            yield fd, ~0
    for path, rights in rules:
        try:
            fd = kernel.open_path(path)
        except OSError:
            continue
        yield fd, rights
        os.close(fd)
