"""What can be taken back and brought back, read off the events alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kimi_cli.agent.branch import branch, taken_back
from kimi_cli.agent.undo import CannotUndo, Goal, History, again, history, redo, rewind, undo
from kimi_cli.protocol.event import Event
from kimi_cli.protocol.events import (
    Checkpoint,
    CheckpointMoment,
    Notice,
    Rewind,
    RewindStarted,
    SessionStarted,
    TurnEnded,
    TurnStarted,
    UserMessage,
)
from kimi_cli.protocol.messages import TextPart
from kimi_cli.protocol.stops import StopReason

Tree = dict[str, int]


@dataclass
class Play:
    """A session played on files that are numbers: its events, its snapshots, and, beside them,
    what a user would expect of both."""

    events: list[Event] = field(default_factory=list)
    files: Tree = field(default_factory=dict)
    shots: dict[str, Tree] = field(default_factory=dict)
    turn: int = 0
    line: list[int] = field(default_factory=list)
    count: int = 0

    def __post_init__(self) -> None:
        self.add(
            SessionStarted(
                program="t", cwd="/w", model="m", thinking="", system_prompt="s", tools=[]
            )
        )

    def add(self, event: Event) -> Event:
        event.seq, event.turn = len(self.events) + 1, self.turn
        self.events.append(event)
        return event

    @property
    def known(self) -> History:
        return history(self.events)

    def take(self, moment: CheckpointMoment) -> str:
        name = f"s{len(self.shots)}"
        self.shots[name] = dict(self.files)
        self.add(Checkpoint(snapshot=name, moment=moment))
        return name

    def edit(self, *paths: str) -> None:
        """A hand, or a turn, changes these files."""
        for path in paths:
            self.count += 1
            self.files[path] = self.count

    def run(self, *paths: str, ends: bool = True) -> None:
        """A turn that changes these files."""
        self.turn += 1
        self.line.append(self.turn)
        self.add(TurnStarted())
        self.add(UserMessage(parts=[TextPart(text=f"message {self.turn}")]))
        if paths:
            self.take("turn_start")
            self.edit(*paths)
            if ends:
                self.take("turn_end")
        if ends:
            self.add(TurnEnded(reason=StopReason.DONE))

    def changed(self, one: str, other: str | None) -> set[str]:
        a, b = self.shots[one], self.shots[other] if other else self.files
        return {path for path in a.keys() | b.keys() if a.get(path) != b.get(path)}

    def plan(self, goal: Goal) -> tuple[set[str], set[str]]:
        """The files that a goal restores, and those of them that somebody else changed since."""
        assert goal.mark
        wanted = {path for pair in goal.own for path in self.changed(*pair)}
        wanted &= self.changed(goal.mark.snapshot, None)
        return wanted, wanted & {p for pair in goal.hands for p in self.changed(*pair)}

    def carry_out(self, goal: Goal, upto: str = "end") -> None:
        files = False
        if goal.mark and (wanted := self.plan(goal)[0]):
            before = self.take("before_undo")
            self.add(
                RewindStarted(
                    what=goal.what,
                    target=goal.target,
                    to=goal.to,
                    conversation=goal.conversation,
                    checkpoint=goal.mark.seq,
                    undoes=goal.undoes,
                    before=before,
                )
            )
            if upto == "begun":
                return
            target = self.shots[goal.mark.snapshot]
            for path in wanted:
                self.files.pop(path, None)
                if path in target:
                    self.files[path] = target[path]
            self.take("after_undo")
            files = True
        self.add(
            Rewind(
                to=goal.to if goal.conversation else self.events[-1].seq,
                what=goal.what,
                target=goal.target,
                conversation=goal.conversation,
                files=files,
                checkpoint=goal.mark.seq if goal.mark and files else 0,
                undoes=goal.undoes,
            )
        )


def numbers(known: History) -> list[int]:
    return [turn.number for turn in known.turns]


def test_the_last_turn_goes_and_comes_back() -> None:
    play = Play()
    play.run("a")
    first = dict(play.files)
    play.run("a", "b")
    second = dict(play.files)
    play.carry_out(undo(play.known))
    assert (numbers(play.known), play.files) == ([1], first)
    play.carry_out(undo(play.known))
    assert (numbers(play.known), play.files) == ([], {})
    with pytest.raises(CannotUndo, match="no turn"):
        undo(play.known)
    play.carry_out(redo(play.known))
    assert (numbers(play.known), play.files) == ([1], first)
    play.carry_out(redo(play.known))
    assert (numbers(play.known), play.files) == ([1, 2], second)
    with pytest.raises(CannotUndo, match="nothing to redo"):
        redo(play.known)


def test_a_new_message_ends_redo() -> None:
    play = Play()
    play.run("a")
    play.carry_out(undo(play.known))
    play.run()
    with pytest.raises(CannotUndo, match="nothing to redo"):
        redo(play.known)
    assert numbers(play.known) == [2]


def test_a_branch_is_the_events_up_to_where_it_goes_on() -> None:
    play = Play()
    play.run()
    play.run()
    before = [event for event in play.events if event.seq < undo(play.known).to + 1]
    play.carry_out(undo(play.known))
    rewound = play.events[-1]
    assert branch(play.events) == [*before, rewound]
    play.carry_out(redo(play.known))
    assert [e for e in branch(play.events) if isinstance(e, UserMessage)] == [
        e for e in play.events if isinstance(e, UserMessage)
    ]
    assert [play.events[index] for index in taken_back(play.events)] == [rewound]


def test_hand_edits_between_turns_stay_and_those_in_the_way_are_named() -> None:
    play = Play()
    play.run("a")
    play.edit("mine")
    play.run("b")
    play.edit("b", "other")
    goal = undo(play.known)
    assert play.plan(goal) == ({"b"}, {"b"})
    goal = rewind(play.known, 1)
    assert play.plan(goal) == ({"a", "b"}, {"b"})
    kept = {name: play.files[name] for name in ("mine", "other")}
    play.carry_out(goal)
    assert play.files == kept


def test_a_file_that_a_hand_changed_before_the_turn_goes_back_to_that() -> None:
    play = Play()
    play.run("a")
    play.edit("a")
    edited = play.files["a"]
    play.run("a")
    goal = undo(play.known)
    assert play.plan(goal) == ({"a"}, set())
    play.carry_out(goal)
    assert play.files == {"a": edited}
    # Now the edit is in the way of the first turn's undo, the second turn is not.
    assert play.plan(undo(play.known)) == ({"a"}, {"a"})


def test_hand_edits_after_an_undo_are_in_the_way_of_redo_only_where_it_works() -> None:
    play = Play()
    play.run("a", "b")
    play.carry_out(undo(play.known))
    play.edit("c")
    assert play.plan(redo(play.known)) == ({"a", "b"}, set())
    play.edit("a")
    assert play.plan(redo(play.known)) == ({"a", "b"}, {"a"})


def test_a_killed_turn_s_changes_are_its_own() -> None:
    play = Play()
    play.run("a", ends=False)
    assert play.plan(undo(play.known)) == ({"a"}, set())
    play.carry_out(undo(play.known))
    assert play.files == {}
    play.run("b", ends=False)
    play.run("c")
    assert play.plan(rewind(play.known, 2)) == ({"b", "c"}, set())


def test_files_or_conversation_alone() -> None:
    play = Play()
    play.run("a")
    play.run("b")
    play.carry_out(rewind(play.known, 2, files=False))
    assert numbers(play.known) == [1] and play.files.keys() == {"a", "b"}
    play.carry_out(redo(play.known))
    play.carry_out(rewind(play.known, 2, conversation=False))
    assert numbers(play.known) == [1, 2] and play.files.keys() == {"a"}
    assert play.known.reverted == {2}
    # Its files are gone already: what is left of it is the conversation.
    assert undo(play.known).mark is None
    play.carry_out(redo(play.known))
    assert play.files.keys() == {"a", "b"} and not play.known.reverted


def test_turns_that_are_not_there() -> None:
    play = Play()
    for _ in range(4):
        play.run()
    play.carry_out(rewind(play.known, 3))
    play.run()
    with pytest.raises(CannotUndo, match=r"no turn 4 .* 1 to 2, 5"):
        rewind(play.known, 4)


def test_what_was_begun_is_pending_until_something_follows() -> None:
    play = Play()
    play.run("a")
    goal = undo(play.known)
    play.carry_out(goal, upto="begun")
    begun = play.known.pending
    assert begun and again(play.events, begun).mark is not None
    same = again(play.events, begun)
    assert (same.to, same.target, same.what) == (goal.to, goal.target, goal.what)
    play.add(Notice(text="hello"))
    assert play.known.pending is begun
    play.run()
    assert play.known.pending is None


def test_no_snapshot_of_a_turn_is_told() -> None:
    play = Play()
    play.run()
    play.turn += 1
    play.add(TurnStarted())
    play.add(Checkpoint(snapshot="", failure="the disk is full"))
    (turn,) = undo(play.known).turns
    assert turn.failure == "the disk is full" and undo(play.known).mark is None


paths = st.lists(st.sampled_from("abcd"), max_size=3, unique=True)
acts = st.lists(
    st.one_of(
        st.tuples(st.just("run"), paths),
        st.tuples(st.just("hand"), paths),
        st.tuples(st.sampled_from(["undo", "redo"]), st.just([])),
        st.tuples(st.just("rewind"), st.lists(st.integers(0, 5), min_size=1, max_size=1)),
    ),
    max_size=25,
)


@given(acts)
def test_any_course_goes_back_and_forth(
    course: Sequence[tuple[str, list[str] | list[int]]],
) -> None:
    play = Play()
    lines: list[list[int]] = []
    hands: set[str] = set()
    states: list[Tree] = []
    for act, with_what in course:
        match act:
            case "run":
                play.run(*map(str, with_what))
                lines.clear()
                states.clear()
                hands.clear()
            case "hand":
                play.edit(*map(str, with_what))
                hands.update(map(str, with_what))
            case "redo" if lines:
                goal = redo(play.known)
                wanted, edited = play.plan(goal) if goal.mark else (set(), set())
                assert edited <= hands
                play.line, state = lines.pop(), states.pop()
                play.carry_out(goal)
                # Whatever the undo took away is as it was, unless a hand had a part in it.
                for path in (wanted | play.files.keys() | state.keys()) - hands:
                    assert play.files.get(path) == state.get(path)
            case "undo" | "rewind" if play.line:
                at = len(play.line) - 1
                if act == "rewind":
                    at = int(with_what[0]) % len(play.line)
                goal = rewind(play.known, play.line[at])
                others = {p: n for p, n in play.files.items() if p in hands}
                wanted, _ = play.plan(goal) if goal.mark else (set(), set())
                lines.append(list(play.line))
                states.append(dict(play.files))
                del play.line[at:]
                play.carry_out(goal)
                for path, number in others.items():
                    assert path in wanted or play.files[path] == number
                if goal.mark:
                    target = play.shots[goal.mark.snapshot]
                    assert all(play.files.get(path) == target.get(path) for path in wanted)
        known = play.known
        assert numbers(known) == play.line
        assert len(known.undone) == len(lines)
        assert [t.text for t in known.turns] == [f"message {n}" for n in play.line]


@given(st.lists(st.tuples(st.booleans(), st.integers(-1, 30)), max_size=25))
def test_any_log_has_a_branch_with_its_end(shape: list[tuple[bool, int]]) -> None:
    events: list[Event] = [
        Rewind(to=to, seq=number) if back else Notice(text="n", seq=number)
        for number, (back, to) in enumerate(shape, 1)
    ]
    left = branch(events)
    assert left[-1:] == events[-1:]
    assert [event.seq for event in left] == sorted({event.seq for event in left})
    assert len(left) + len(taken_back(events)) == len(events)
