"""The repeat guard."""

from kimi_cli.agent.repeats import REMINDERS, STOP_AT, RepeatGuard


def test_counts_only_the_same_call_with_the_same_result() -> None:
    guard = RepeatGuard()
    assert [guard.seen("shell", "{}", "x") for _ in range(3)] == [1, 2, 3]
    assert guard.seen("shell", "{}", "y") == 1
    assert guard.seen("read", "{}", "x") == 1
    assert guard.seen("shell", '{"a":1}', "x") == 1


def test_an_alternating_loop_is_seen() -> None:
    guard = RepeatGuard()
    counts = [guard.seen("shell", str(i % 3), "same") for i in range(18)]
    assert max(counts) == STOP_AT


def test_reminders_come_before_the_stop() -> None:
    assert sorted(REMINDERS) == list(range(min(REMINDERS), STOP_AT))


def test_old_calls_are_forgotten() -> None:
    guard = RepeatGuard()
    guard.seen("shell", "{}", "x")
    for number in range(40):
        guard.seen("read", str(number), "x")
    assert guard.seen("shell", "{}", "x") == 1
