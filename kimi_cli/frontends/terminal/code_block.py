"""Code in colours of the terminal's palette."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.text import Text

    from kimi_cli.frontends.terminal.look import Look

MOST = 100_000
"""Characters that are highlighted at once; more at once stays plain."""
BEFORE = 40
"""Lines before new ones that are looked at again to get into the lexer's state."""
PROOF = 12
"""Lines that must come out as they did before: that shows that the state is the right one."""
ODD = 2
"""Of these, how many may differ: the end of what there was then may have hidden what they are."""


class Highlighter:
    """Makes lines of highlighted text; pygments is loaded with the first code that needs it."""

    def __init__(self, look: Look) -> None:
        self._theme = look.code_theme
        self._lexers: dict[str, Any] = {}

    def lines(self, code: Sequence[str], language: str, known: Sequence[Text] = ()) -> list[Text]:
        """A text for each line. An unknown language, or no colour, leaves it plain.

        ``known`` are the texts of the first lines, made before: so code that grows is not
        highlighted from its start each time, only from as far back as it takes for the newest
        of ``known`` to come out the same."""
        lexer = self._lexer(language) if self._theme and language else None
        back = BEFORE
        while back < len(known):
            start = _outermost(code, len(known) - back, len(known) - PROOF)
            lines = self._highlight(code[start:], lexer)
            new = len(known) - start
            pairs = zip(lines[new - PROOF : new], known[-PROOF:], strict=True)
            if sum(now != before for now, before in pairs) <= ODD:
                return [*known, *lines[new:]]
            back *= 2
        return [*known, *self._highlight(code, lexer)[len(known) :]]

    def _highlight(self, code: Sequence[str], lexer: Any) -> list[Text]:
        from rich.text import Text

        source = "\n".join(code)
        if lexer is None or len(source) > MOST:
            return [Text(line) for line in code]
        from rich.syntax import Syntax

        style_of = Syntax.get_theme(self._theme).get_style_for_token
        # By line, pieces of a style; how the lexer cut them does not matter.
        lines: list[list[tuple[str, Any]]] = [[]]
        for kind, token in lexer.get_tokens(source):
            style = style_of(kind)
            for number, piece in enumerate(token.split("\n")):
                if number:
                    lines.append([])
                line = lines[-1]
                if line and line[-1][1] == style:
                    line[-1] = (line[-1][0] + piece, line[-1][1])
                elif piece:
                    line.append((piece, None if piece.isspace() else style))
        lines += [[] for _ in range(len(code) - len(lines))]
        return [Text.assemble(*line) for line in lines[: len(code)]]

    def _lexer(self, language: str) -> Any:
        if language not in self._lexers:
            from rich.syntax import Syntax

            # None for a language that pygments does not know.
            self._lexers[language] = Syntax("", language).lexer
        return self._lexers[language]


def _outermost(code: Sequence[str], first: int, end: int) -> int:
    """The last line that is indented least: outside of anything, if one is."""
    indents = {
        at: len(code[at]) - len(code[at].lstrip()) for at in range(first, end) if code[at].strip()
    }
    return min(indents, key=lambda at: (indents[at], -at), default=first)


def language_of(info: str) -> str:
    """The language that stands after an opening fence: ``python`` in ``python title="x"`` and
    ``{.python}``."""
    word = info.strip().strip("{}").lstrip(".").replace(",", " ").split()
    return word[0].partition(":")[0].lower() if word else ""
