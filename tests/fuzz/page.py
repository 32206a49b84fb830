"""The page about fuzzing, from the result of its runs."""

__all__ = ["page"]

from typing import Any

from fuzz.targets import TARGETS

ABOUT = """\
# Fuzzing

Every door through which bytes of others come is fuzzed, coverage-guided by atheris (libFuzzer), and the same functions by hypothesis:
`tests/fuzz/targets.py`. A door may raise the one exception that it promises; anything else is a bug, and so is a broken promise.

`make fuzz` searches five minutes at each (`make fuzz ARGS="--target strict --minutes 60"`; `--list` names them, `--hypothesis` goes on for
hours with properties and schedules). What it finds is kept in `tests/fuzz/regressions`, which the tests run, and told with a command
that replays it. Inputs that reach something new are kept in `tests/fuzz/corpus`, the fewest that reach as much. `make test` runs all of
these and searches for a moment.
"""
FINDINGS = """\
## What was found

Each has inputs in `tests/fuzz/regressions` or a test beside the code, and is mended.

- A JSON configuration whose key, path or argument holds half a character (`"\\ud800"`) or, in lists, a NUL: `carp-sidecar` ended with a
  traceback, or a hook could not be started later. Now a problem with its place.
- A state file with a demotion of `1e999`: the sidecar did not start. Now it is corrupt, set aside, and the member starts.
- A control request `handover` with half a character in `to`: the connection ended without an answer. Now the refusal quotes it.
- `kubectl carp`: a CarpGroup whose status another version or hand wrote in another shape ended the command with a traceback. Now it is
  told in a sentence.
- (By `make soak`.) The guardian's memory had holes from reads of 64 KiB cut down to what came: +900 KB an hour. Now one room serves all.
- A program that asked the control socket and closed its side at once (`printf ... | nc -N -U`) lost up to 64 KB of the end of answers that
  it read late.
- `kubectl carp`: a condition whose reason is no text ended the command with a traceback.
- (By `make soak`.) What the kernel had said of network devices was remembered after they had gone: up to 2.7 MB (2048 links, and
  as many addresses) where pods come and go.
- (By `make soak`.) Python kept what it may need again: up to 2000 tuples of each length in the guardian (0.2 MB), and a larger table of
  names in the sidecar after a hundred reloads (0.5 MB). Neither is made any more.
- A CarpGroup or CarpNode with a number beyond all bounds: the operator raised OverflowError instead of refusing the object.
"""


def page(document: dict[str, Any]) -> str:
    """The results for people."""
    done = document["targets"]
    rows = ["| target | promise | runs | minutes | coverage | last |", "| --- | --- | --- | --- | --- | --- |"]
    for name, one in ((name, done[name]) for name in TARGETS if name in done):
        figures = f"{one['runs']:,} | {one['seconds'] / 60:.1f} | {one['coverage']} | {one['last']}"
        rows.append(f"| `{name}` | {TARGETS[name].promise} | {figures} |")
    runs, minutes = (sum(one[key] for one in done.values()) for key in ("runs", "seconds"))
    total = f"**{runs:,} runs in {minutes / 60:.0f} minutes.** Coverage: points in the code of the project that the last search reached."
    return "\n".join([ABOUT, FINDINGS, "## What was run", "", total, "", *rows, ""])
