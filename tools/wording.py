"""Numbers in sentences."""


def counted(number: int, noun: str) -> str:
    """Such as "1 line", "2 lines" or "3 matches"."""
    ending = "" if number == 1 else "es" if noun.endswith(("ch", "s", "x")) else "s"
    return f"{number} {noun}{ending}"
