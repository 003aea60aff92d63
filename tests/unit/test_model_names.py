"""What a model means by the name of a tool."""

import pytest

from kimi_cli.model.names import normalise_tool_name

KNOWN = {"shell", "read", "functions_x", "step_1"}


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("shell", "shell"),
        ("functions.shell:3", "shell"),
        ("functions.shell", "shell"),
        ("functions_shell", "shell"),
        ("functions_shell_3", "shell"),
        ("shell:12", "shell"),
        ("Shell", "shell"),
        ("functions.Shell:0", "shell"),
        ("shell<|tool_call_argument_begin|>", "shell"),
        (" shell ", "shell"),
        ("functions_x", "functions_x"),
        ("step_1", "step_1"),
        ("functions.step_1:4", "step_1"),
        ("functions.unheard:2", "unheard"),
        ("unheard_2", "unheard_2"),
        ("", ""),
    ],
)
def test_names(written: str, meant: str) -> None:
    assert normalise_tool_name(written, KNOWN) == meant
