"""The demo's picture, and the table at its end: lines of styled text out of a story. Pure, except that a running story knows the time."""

__all__ = ["COLUMNS", "ROWS", "paint", "picture"]

from collections.abc import Iterator

from lab.demo_story import LOST, NARRATOR, SOME_LOST, Outcome, Story

COLUMNS, ROWS = 80, 24
"""What every terminal has."""
EVENTS = 5
"""Events that fit below the steps."""
SPINNER = "|/-\\"

Span = tuple[str, str]
"""Text, and a style of STYLES; an empty style is plain."""
Line = list[Span]

STYLES = {
    "bold": "1",
    "dim": "2",
    "good": "32",
    "bad": "1;31",
    "warn": "33",
    # Hosts: light letters on a ground of their own, told apart without colour by the letter.
    "a": "97;44",
    "b": "97;45",
    "c": "97;46",
    LOST: "1;31",
    SOME_LOST: "33",
}
MARKS = {"MASTER": ("●", "good"), "HANDOVER": ("◐", "warn"), "BACKUP": ("○", ""), "INIT": ("○", "dim")}


def paint(line: Line, columns: int, *, colour: bool) -> str:
    """A line as a terminal wants it, cut to its width."""
    parts = []
    for text, style in line:
        shown = text[:columns]
        columns -= len(shown)
        parts.append(f"\x1b[{STYLES[style]}m{shown}\x1b[0m" if colour and style and shown else shown)
    return "".join(parts)


def picture(story: Story, columns: int = COLUMNS) -> list[Line]:
    """The whole picture, ROWS lines or fewer."""
    lines = [_title(story, columns), [], *_hosts(story), [], *_client(story, columns), []]
    lines += [*_steps(story), [], *_events(story)]
    return [[(" ", ""), *line] for line in lines]


def _title(story: Story, columns: int) -> Line:
    progress = f"step {story.step} of {len(story.titles)}" if story.step else "starting"
    seconds = int(story.now_s)
    clock = f"{progress}   {seconds // 60}:{seconds % 60:02}"
    title = "kubecarp demo"
    subtitle = "   one address, three hosts, 1 s adverts"
    room = max(0, columns - 2 - len(title) - len(subtitle) - len(clock))
    return [(title, "bold"), (subtitle, ""), (" " * room, ""), (clock, "dim")]


def _hosts(story: Story) -> Iterator[Line]:
    for host in story.hosts.values():
        mark, style = MARKS.get(host.state, ("✕", "bad"))
        line = [(f" {host.name} ", host.name), (f"  {host.address}   ", ""), (f"{mark} {host.state or 'not running':<14}", style)]
        if host.name == story.answering:
            line.append((f"answers for {story.target}   ", "bold"))
        yield [*line, (host.trouble, "warn")]


def _client(story: Story, columns: int) -> Iterator[Line]:
    answer: Span = (f"answered by {story.answering}", "good") if story.answering else ("no answer", "bad" if story.strip else "dim")
    yield [(f"client: a ping to {story.target} every millisecond, ", ""), answer]
    yield [(cell, cell) for cell in list(story.strip)[-(columns - 2) :]]
    yield [(f"a letter is 0.1 s and names who answered; {SOME_LOST} some lost, {LOST} all lost", "dim")]


def _steps(story: Story) -> Iterator[Line]:
    for number, title in enumerate(story.titles, 1):
        if number <= len(story.outcomes):
            outcome = story.outcomes[number - 1]
            mark: Span = ("✕", "bad") if outcome.remark else ("✓", "good")
            yield [(f"{number} ", "dim"), mark, (f" {title:<56}", ""), (_cost(outcome), "bad" if outcome.remark else "bold")]
        elif number == story.step:
            yield [(f"{number} ", "dim"), (SPINNER[int(story.now_s * 5) % len(SPINNER)], "warn"), (f" {title}", "bold")]
        else:
            yield [(f"{number}   {title}", "dim")]


def _cost(outcome: Outcome) -> str:
    if not outcome.measured:
        return "          failed"
    return f"{outcome.outage_ms:6.0f} ms out" if outcome.lost else "    nothing lost"


def _events(story: Story) -> Iterator[Line]:
    events = [event for event in story.events if event.who != NARRATOR]  # the steps say what the narrator says
    for event in events[-EVENTS:]:
        yield [(f"{event.at_s:5.1f} s  ", "dim"), (f"{event.who:<6}  ", "bold"), (event.what, "")]
