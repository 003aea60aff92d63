"""Entry point: answers ``--version`` before anything costly is imported."""

from __future__ import annotations

import gc
import os
import sys


def main() -> None:
    """Run the command line and leave at once: no finaliser may hold up an exit that was asked for.

    Threads that hang in a slow file system, or a TLS context being built, are not waited for.
    """
    _keep_standard_descriptors()
    os._exit(_flushed(_run()))


def _run() -> int:
    if sys.argv[1:] in (["--version"], ["-v"]):
        from kimi_cli.version import VERSION

        print(f"kimi {VERSION}")
        return 0
    _obey_signals()
    # Start-up makes hundreds of thousands of objects that stay, and hardly a cycle: looking for
    # cycles as often as Python does by default would take a tenth of it.
    gc.set_threshold(20_000)
    from kimi_cli.cli.app import run

    return run(sys.argv[1:])


def _flushed(code: int) -> int:
    """Write out what was printed; the exit code that follows."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            code = code or 143
        except (OSError, ValueError) as error:
            if not code:
                print(f"kimi: the output cannot be written: {error}", file=sys.stderr)
            code = code or 74
    return code


def _obey_signals() -> None:
    """End with the right code while there is no event loop yet that would obey: during imports, and
    while stdin or the endpoint is waited for."""
    import signal

    def end(number: int, frame: object) -> None:
        raise SystemExit(143 if number == signal.SIGHUP else 128 + number)

    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        number = getattr(signal, name)
        # Under nohup a hang-up is to be ignored, and so is SIGINT in a script's background.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, end)


def _keep_standard_descriptors() -> None:
    """Put something on descriptors 0 to 2 where the caller closed them: the next socket would take
    the number, and be read as stdin or written to as stdout. Writing to stdout fails as on a
    closed one; what goes to a closed stderr is lost, and does not turn up on stdout."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_WRONLY if number == 2 else os.O_RDONLY)
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)


if __name__ == "__main__":
    main()
