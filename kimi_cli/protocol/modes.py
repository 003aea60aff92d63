"""How freely a session works."""

from __future__ import annotations

from typing import Literal, get_args

Mode = Literal["ask", "auto", "plan", "yolo"]
"""``ask``: every change is asked for. ``auto``: what the sandbox holds is free, what wants out of
it is asked for. ``plan``: nothing is changed. ``yolo``: nothing is asked. Deny rules win in each.
"""
MODES: tuple[Mode, ...] = get_args(Mode)
