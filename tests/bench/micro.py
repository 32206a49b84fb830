"""Micro-benchmarks of the packet path and the engine, with pytest-benchmark; ``make bench-micro`` runs them and writes docs/bench.

No socket and no kernel: what the program itself costs. Run as a program it writes the page, as a test file it only measures.
"""

import json
import platform
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.report import machine
from bench.traffic import Stream, Watch, forged

BATCH = 1000
ROUNDS = 50
GROUPS = (1, 50, 255)
FOLDER = Path(__file__).resolve().parents[2] / "docs" / "bench"
WANTED_PER_S = 100_000
"""Adverts decoded and verified on one core."""


def run(benchmark: BenchmarkFixture, work: Callable[[Any], object], make: Callable[[], Any], count: int) -> None:
    """``work`` on what ``make`` gives, which is not measured; ``count`` things are done in each round."""
    benchmark.extra_info["count"] = count
    pedantic: Callable[..., object] = benchmark.pedantic
    pedantic(work, setup=lambda: ((make(),), {}), rounds=ROUNDS, warmup_rounds=2)


@pytest.mark.benchmark(group="adverts")
def test_decode_and_verify(benchmark: BenchmarkFixture) -> None:
    stream = Stream()
    run(benchmark, stream.believe, lambda: stream.frames(BATCH), BATCH)
    assert stream.believe(stream.frames(3)) == 3


@pytest.mark.benchmark(group="adverts")
def test_refuse_a_forged_one(benchmark: BenchmarkFixture) -> None:
    stream = Stream()
    run(benchmark, stream.refuse, lambda: forged(stream.frames(BATCH)), BATCH)
    assert stream.refuse(forged(stream.frames(3))) == 3


@pytest.mark.benchmark(group="adverts")
def test_encode_and_sign(benchmark: BenchmarkFixture) -> None:
    stream = Stream()
    run(benchmark, stream.frames, lambda: BATCH, BATCH)
    assert stream.believe(stream.frames(3)) == 3


@pytest.mark.benchmark(group="engine: master")
@pytest.mark.parametrize("count", GROUPS)
def test_masters_advertise(benchmark: BenchmarkFixture, count: int) -> None:
    watch = Watch(count)
    run(benchmark, lambda _: watch.tick(), lambda: None, count)
    assert watch.steady()


@pytest.mark.benchmark(group="engine: backup")
@pytest.mark.parametrize("count", GROUPS)
def test_backups_hear(benchmark: BenchmarkFixture, count: int) -> None:
    watch = Watch(count)
    run(benchmark, watch.hear, watch.tick, count)
    assert watch.steady()


TITLES = {
    "test_decode_and_verify": "adverts decoded and verified: frame to fresh packet",
    "test_refuse_a_forged_one": "forged adverts refused",
    "test_encode_and_sign": "adverts encoded and signed, to the whole frame",
    **{f"test_masters_advertise[{count}]": f"engine ticks as master, {count} groups in turn" for count in GROUPS},
    **{f"test_backups_hear[{count}]": f"adverts heard by an engine as backup, {count} groups in turn" for count in GROUPS},
}


def page(document: dict[str, Any]) -> str:
    """The results for people."""
    rows = ["| what | per second, median | slowest round | us each, median |", "| --- | --- | --- | --- |"]
    rows += [f"| {one['what']} | {one['per_s']:,} | {one['slowest_per_s']:,} | {one['each_us']:.2f} |" for one in document["results"]]
    facts = [f"| {name} | {f'`{value}`' if name == 'command' else value} |" for name, value in document["machine"].items()]
    return "\n".join([
        "# Packet path and engine, measured alone",
        "",
        f"Processor time of one thread, no socket: {ROUNDS} rounds of {BATCH} adverts, or of every group once. A frame goes from Ethernet",
        "to the judgement of the Strict codec: IP header, checksum, HMAC-SHA-256, counter. Forged ones are right but for the digest. The",
        "engine's rows hold the codec's work and the next deadline; with 255 groups the processor's caches hold less of each.",
        f"Wanted of the first row: {WANTED_PER_S:,} in a second.",
        "",
        *rows,
        "",
        "| | |",
        "| --- | --- |",
        *facts,
        "",
    ])  # fmt: skip


def main() -> int:
    """0 when all were measured."""
    with tempfile.TemporaryDirectory(prefix="kubecarp-bench-") as folder:
        raw = Path(folder) / "raw.json"
        code = pytest.main([__file__, "--quiet", "--benchmark-quiet", "--benchmark-timer=time.process_time", f"--benchmark-json={raw}"])
        if code:
            return int(code)
        measured = json.loads(raw.read_text())["benchmarks"]
    facts = {name: value for name, value in machine("make bench-micro").items() if name not in ("keepalived", "ucarp")}
    document: dict[str, Any] = {"machine": facts | {"implementation": platform.python_implementation()}, "results": []}
    for one in measured:
        count, seconds = one["extra_info"]["count"], one["stats"]["data"]
        middle = statistics.median(seconds)
        document["results"].append({
            "what": TITLES[one["name"]],
            "per_s": round(count / middle),
            "slowest_per_s": round(count / max(seconds)),
            "each_us": middle / count * 1e6,
        })  # fmt: skip
    (FOLDER / "micro.json").write_text(json.dumps(document, indent=1) + "\n")
    (FOLDER / "micro.md").write_text(page(document))
    print(page(document))
    return 0


if __name__ == "__main__":
    sys.exit(main())
