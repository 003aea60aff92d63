"""Entry point: answers ``--version`` before anything costly is imported."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Run the command line and leave at once: no finaliser may hold up an exit that was asked for.

    Threads that hang in a slow file system, or a TLS context being built, are not waited for.
    """
    if sys.argv[1:] in (["--version"], ["-v"]):
        from kimi_cli.version import VERSION

        print(f"kimi {VERSION}")
        return
    from kimi_cli.cli.app import run

    code = run(sys.argv[1:])
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            code = code or 74
    os._exit(code)


if __name__ == "__main__":
    main()
