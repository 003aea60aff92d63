"""Telling somebody who looks elsewhere that the turn is over, or that an answer is needed."""

from __future__ import annotations

from collections.abc import Mapping

from kimi_cli.frontends.plain import clean

BELL = "\a"
LONG_SECONDS = 20.0
"""A turn that took longer is worth a notification."""
_OSC_9 = ("iTerm.app", "WezTerm", "ghostty", "WarpTerminal")


def notification(text: str, env: Mapping[str, str]) -> str:
    """What to send to the terminal: OSC 9 where it is known to be understood, OSC 99 for kitty,
    OSC 777 for those of the VTE family and foot, else the bell. Inside tmux it is passed through,
    with a bell that tmux marks the window for."""
    text = clean(text)[:200].replace(";", ",")
    program = env.get("TERM_PROGRAM", "")
    if env.get("TERM") == "dumb":
        return ""
    if env.get("KITTY_WINDOW_ID"):
        sequence = f"\x1b]99;;kimi: {text}\x1b\\"
    elif program in _OSC_9 or env.get("LC_TERMINAL") in _OSC_9:
        sequence = f"\x1b]9;kimi: {text}\a"
    elif env.get("VTE_VERSION") or env.get("TERM", "").startswith(("foot", "rxvt")):
        sequence = f"\x1b]777;notify;kimi;{text}\a"
    else:
        return BELL
    if env.get("TMUX"):
        return "\x1bPtmux;" + sequence.replace("\x1b", "\x1b\x1b") + "\x1b\\" + BELL
    return sequence
