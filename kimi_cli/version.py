"""The program's version; kept apart so that `kimi --version` imports nothing else."""

VERSION = "0.1.0"
