"""Starting the helper process; light, so that it can be the first thing a program does."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys

# Not ``python helper.py``: a script is compiled anew at each start, a module is cached. Its folder
# comes last on the path, so that no file beside it can stand in for a module of Python's.
_BOOT = "import sys; sys.path.append(sys.argv.pop(1)); from helper import main; main()"


KEYS = frozenset({"KIMI_API_KEY", "MOONSHOT_API_KEY"})
"""Variables that no command may see."""


class Helper:
    """A running helper process and our end of its socket."""

    # Not a dataclass: that module would be half of the imports here.
    def __init__(
        self, process: subprocess.Popen[bytes], link: socket.socket, groups: bool, best: str
    ) -> None:
        self.process = process
        self.socket = link
        self.groups = groups
        self.best = best

    def cut(self, patience: float) -> bool:
        """Close the socket, upon which the helper ends every command and itself; wait at most
        ``patience`` seconds for that. True when it has ended."""
        # Fails when it was closed before, or the helper is gone.
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        try:
            self.process.wait(patience)
        except subprocess.TimeoutExpired:
            return False
        return True


def has_subreaper() -> bool:
    """Whether this system lets the helper catch every descendant of a command."""
    return sys.platform == "linux"


def launch_helper(*, groups: bool | None = None, best: str = "") -> Helper:
    """Start the helper and return at once, without an event loop; commands given before it is up
    wait in the socket. ``groups`` forces (or forbids) the way of systems without subreapers;
    ``best`` is the best ``Weaker`` way to confine a command that a probe may find, empty for any.
    Raises OSError when no process can be started."""
    if groups is None:
        groups = not has_subreaper()
    ours, theirs = socket.socketpair()
    folder = os.path.dirname(os.path.abspath(__file__))
    number = str(theirs.fileno())
    options = ["groups"] * groups + [f"best={best}"] * bool(best)
    try:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _BOOT, folder, number, *options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(theirs.fileno(),),
            # A command can read its ancestors' environment in /proc.
            env={name: value for name, value in os.environ.items() if name not in KEYS},
            start_new_session=True,
        )
    except OSError:
        ours.close()
        raise
    finally:
        theirs.close()
    return Helper(process, ours, groups, best)
