"""The program behind ``make chaos``: plays rounds of random faults until the time is over, and says what was wrong and how to repeat it."""

__all__ = ["main", "play"]

import argparse
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.bar import Bar
from chaos import report
from chaos.plan import FAULTS, ROUNDS_OF_A_SCENE, Options, make_round, make_scenery
from chaos.scene import Scene
from lab.namespace import LabError, become_root

OUTPUT = Path("build/chaos")


def main() -> int:
    """0 without a violation, 1 with one, 130 after Ctrl-C; a report in any case."""
    asked = _parser().parse_args()
    become_root()
    seed, _, only = (asked.replay or str(asked.seed)).partition(":")
    low, _, high = asked.hosts.partition("..")
    options = Options(
        seed=int(seed),
        hosts=(int(low), int(high or low)),
        macs=("virtual", "physical") if asked.mac == "both" else (asked.mac,),
        modes=tuple(asked.mode.split(",")),
        words=tuple(asked.faults.split(",")),
    )
    if unknown := [word for word in options.words if word not in FAULTS]:
        sys.exit(f"no such fault: {', '.join(unknown)}; there are {', '.join(FAULTS)}")
    asked.output.mkdir(parents=True, exist_ok=True)
    settings = f"--hosts {asked.hosts} --mac {asked.mac} --mode {asked.mode} --faults {asked.faults}"
    print(f"seed {options.seed}; again: make chaos ARGS='--seed {options.seed} --minutes {asked.minutes:g} {settings}'", flush=True)
    started_s = time.monotonic()
    rounds: list[dict[str, Any]] = []
    ends: list[str] = []
    code = 0
    try:
        with Bar(asked.minutes * 60) as bar:
            play(options, asked.minutes * 60, asked.output, (rounds, ends), bar.show, bar.advance, int(only) if only else None)
    except KeyboardInterrupt:
        code = 130
    except LabError as error:
        ends.append(f"the lab: {error}")
    finally:  # what was seen so far is told, whatever ends the run
        minutes = (time.monotonic() - started_s) / 60
        report.write(asked.output, "make chaos", options.seed, minutes, rounds, ends)
    wrong = report.failures(rounds, ends)
    for sentence in wrong:
        print(sentence)
    for broken in sorted({one["round"] for one in rounds if one["violations"] or one["troubles"]}):
        print(f"again, this round alone: make chaos ARGS='--replay {options.seed}:{broken} {settings}'")
    print(f"{len(rounds)} rounds, {len(wrong)} violations; {asked.output}/chaos.md")
    return code or (1 if wrong else 0)


def play(
    options: Options,
    for_s: float,
    keep: Path,
    found: tuple[list[dict[str, Any]], list[str]],
    show: Callable[[str], None] = lambda _: None,
    advance: Callable[[float], None] = lambda _: None,
    only: int | None = None,
    bug: str = "none",
) -> None:
    """Rounds until the time is over (at least one), or the one ``only``; adds to what was ``found``: rounds, and ends of scenes."""
    rounds, ends = found
    started_s = time.monotonic()
    number = only or 0
    while True:
        scenery = make_scenery(options, number // ROUNDS_OF_A_SCENE)
        with Scene(scenery, keep, bug) as scene:
            title = f"{scenery.hosts} hosts, {'virtual' if scenery.virtual_mac else 'physical'} MAC, {scenery.mode}"
            while True:
                began_s = time.monotonic()
                where = f"round {number}, {title}, {len(report.failures(rounds, ends))} violations"
                result = scene.play(make_round(options, scenery.hosts, number), where, show)
                rounds.append(report.record(result))
                report.keep(result, keep)
                advance(time.monotonic() - began_s)
                number += 1
                over = only is not None or time.monotonic() - started_s >= for_s
                if over or number % ROUNDS_OF_A_SCENE == 0:
                    break
            ends += [f"scene {scenery.number}: {sentence}" for sentence in scene.end()]
        if over:
            return


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument(
        "--seed", type=int, default=random.SystemRandom().randrange(1_000_000), help="what the plan is made of; default: drawn"
    )
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--hosts", default="3..5", help="a number or a range")
    parser.add_argument("--mac", choices=("virtual", "physical", "both"), default="both")
    parser.add_argument("--mode", default="Strict", help="Strict, Compatible, or both with a comma")
    parser.add_argument("--faults", default=",".join(FAULTS), metavar="WORDS", help="only these, with commas")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="folder of the report, and of pcap and timeline of a violation")
    parser.add_argument("--replay", metavar="SEED[:ROUND]", help="a run again, or one of its rounds")
    return parser


if __name__ == "__main__":
    sys.exit(main())
