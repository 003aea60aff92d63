"""Print the figures: ``python -m tests.benchmarks [NAME ...]``.

Measured is the installed ``kimi`` beside the interpreter that runs this. Absolute times belong
here and in no test; compare them by the first lines, which say how fast the machine is.
"""

from __future__ import annotations

import argparse
import sys

from tests.benchmarks.figures import FIGURES, program
from tests.benchmarks.rig import place
from tests.benchmarks.sandbox_figures import sandbox
from tests.benchmarks.snapshot_figures import SNAPSHOT_FIGURES
from tests.benchmarks.terminal_figures import TERMINAL_FIGURES

ALL = {**FIGURES, "sandbox": sandbox, **SNAPSHOT_FIGURES, **TERMINAL_FIGURES}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[[], *ALL], help="default: all")
    names = parser.parse_args().names or list(ALL)
    print(f"{program()}, Python {sys.version.split()[0]}\n")
    print(f"| {'figure':42} | {'measured':42} | {'target':8} |")
    print(f"|{'-' * 44}|{'-' * 44}|{'-' * 10}|")
    folder, where = place()
    with folder:
        for name in names:
            for row in ALL[name](where):
                print(f"| {row.what:42} | {row.value:42} | {row.target:8} |", flush=True)


if __name__ == "__main__":
    main()
