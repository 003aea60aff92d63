"""What the sandbox can hold on this machine, for those who run no commands."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from kimi_cli.workspace.box import Probe, Weaker
from kimi_cli.workspace.helper_wire import Frames, pack
from kimi_cli.workspace.launch import launch_helper

_PATIENCE = 20.0


def probe_machine(folder: Path | None = None, *, best: Weaker = "") -> Probe:
    """Find out in a helper process of its own, which takes the time of a small program's start.
    ``folder`` is where files are made to try it, ``best`` the best way it may find, empty for any.
    Raises OSError when no helper can be started."""
    helper = launch_helper(best=best)
    try:
        helper.socket.settimeout(_PATIENCE)
        helper.socket.sendall(pack("probe", os.fsencode(folder) if folder else b""))
        frames = Frames()
        # An end of the socket, as well as a silence, is an answer.
        with contextlib.suppress(TimeoutError):
            while data := helper.socket.recv(65536):
                for _, facts in frames.feed(data):
                    return Probe(**facts)
        return Probe("none", why="trying it out took too long, or was ended")
    finally:
        helper.cut(1.0)
        helper.socket.close()
