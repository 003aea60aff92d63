"""Sizes as people write them."""

import re

FACTORS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9}


def parse_size(text: str) -> int:
    """Bytes for a size such as "1.5 MB". Raises ValueError for what is none."""
    found = re.fullmatch(r"([\d.]+) ?([A-Z]+)", text.strip())
    if not found or found[2] not in FACTORS:
        raise ValueError(f"no size: {text!r}")
    return round(float(found[1]) * FACTORS[found[2]])
