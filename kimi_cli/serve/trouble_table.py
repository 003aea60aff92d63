"""The table of what can go wrong with vLLM, the specific before the general."""

from __future__ import annotations

from kimi_cli.serve.trouble_case import Row
from kimi_cli.serve.trouble_machine import DEATHS, MACHINE
from kimi_cli.serve.trouble_memory import MEMORY
from kimi_cli.serve.trouble_model import MODEL
from kimi_cli.serve.trouble_options import OPTIONS

CAUSES: tuple[Row, ...] = (*OPTIONS, *MEMORY, *MACHINE, *MODEL)
"""What a log may name as the cause."""
ENDS: tuple[Row, ...] = DEATHS
"""What shows that a process is gone, where no cause is known."""
