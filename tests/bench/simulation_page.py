"""The page of the simulation: tables out of the figures, and what they mean for whoever decides. Measures nothing."""

__all__ = ["page"]

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any

from bench.loss import MONTH_S, false_per_advert

Figures = dict[str, Any]
LOSSES = (0.001, 0.01, 0.1, 0.3)
ORPHANS = 127
"""Groups of 255 that lose their master with half of the hosts."""

PAGE = """\
# A thousand segments, simulated

Segments share nothing: no packet, counter or lock leaves one. So 1000 segments are one segment a thousand times, and the question is
whether **one segment of 100 nodes and 255 groups** is safe. The engine that runs on hosts runs here in virtual time, 25,500 members at
once, with the ranks that the operator gives. `make bench-simulation` makes this page anew (seven minutes).

RESULT

## Half of 100 hosts lose power at once

Of the groups that lost their master, in ms: how long nobody was master, and how long two were. The worst of the seeds of each row.
Packets are multicast, on the whole segment; peaks are in windows of 10 ms. Probes are ARP and UDP, unicast, of all hosts together.
A row is looked at for 4.5 intervals and 0.3 s from the cut on.

CUT

TRAFFIC

RARE

## What a node handles while nothing happens

Adverts every 200 ms. Linear in the groups, the same for any number of members. The model charges 20 us for a packet.

LOAD

## One group starts from nothing

START

Below 16 members nothing is near a limit. 100 members that start in the same instant drown in their questions for a moment, and the ranks
overlap; spread over ten seconds, as hosts boot and agents get to know of a group, they do not. 255 such groups in one instant would be
255 times that row, a minute of a core on each node: restart a DaemonSet of 100 nodes in batches (`maxUnavailable`).

## Masters that are well and lose their addresses

Independent loss p of each copy, r = 1 - (1 - p)^2 for a question and its answer. For each advert and each backup:

- a protocol that counts to three, keepalived's 3 x interval among them, or `suspicion = false`: **p^3 (1 - p)**
- kubecarp: **p^3 (1 - p) (r^2 + r^4) + p (1 - p) r^8**: three adverts, and two questions for another or the four UDP probes before them;
  or one advert and eight probes, four by ARP and four by UDP

times members - 1, times the adverts of 30 days. For each group, kubecarp / counting to three:

MONTHS

Multiply by the groups: 1000 segments of 255 are 255,000. From about one an hour on the figures are upper bounds, since each backup that
would act is counted. The formula against the engine, where it happens often enough to be counted (3 members, 200 us):

CHECKED

**Bursts.** One host hears and says nothing, for 200 ms (mean of an exponential), each host every 30 s; 3 members. Takeovers for each burst.
The formula is for the first backup: (b/U)(e^(-(T-U)/b) - e^(-T/b)), b the mean, T the silence after which it acts. Suspicion off is
counting to three. The engine is within a quarter of it, and within a twelfth where it was counted more than 500 times.

BURSTS

The sooner a death is seen, the shorter the burst that looks like one. A protocol that counts to three pays the same at the interval at
which it is as quick.

**Jitter**, 3 members, takeovers an hour. Wi-Fi: 2 ms and an exponential 5 ms, 1 % loss. Busy VM: each host stops for 50 ms (mean,
exponential) every 10 s. That is a burst of the master, and the formula above holds: what it costs is that a host that stands still for
longer than an eighth of an interval and 40 ms looks dead, because for so long it is.

JITTER

## The model against the bench

*The host dies*, two members, [measured](outages.md) and simulated (400 runs). The simulation knows no kernel and no event loop: their time
is one constant, OFFSET ms, taken from the shortest interval and used for all. There the median agrees by construction, and only the
distribution is a test. In brackets: the fourth runs below and above the middle; of 20, the true median is between with 95 %.

BENCH

## What was found, and mended

Each of these has a test that failed before; the figures of before are of the same simulation.

- Getting acquainted at the start cost four packets for each pair of members, 17,700 with 64 that start at once: the bound counted
  answers, and none had come. It counts questions now: 4,600.
- Ranks of 100 members were evenly 1 ms apart, less than a busy loop is late. Now the best ten are 8 ms apart and the rest share what is
  left: after a cut of half, the successor is one of the best ten in all but a thousandth of the groups.
- A successor that few had on record was asked by everybody, up to five times, and everybody heard every answer. With 255 groups that is
  more than a host reads before the next member takes over: 33 takeovers for each group, a second with two masters. Now all members know
  the first eight, and nobody asks twice within 5 ms.
- A master of low rank advertised every U(1 + s/256) while a better backup waited 3 U: after the best member had rebooted, two lost
  adverts moved the address. Now it is U whatever the rank, and the dead time has U/8 on top.
- Three lost adverts moved the address of a master that was well. Whoever has missed two now asks for another.

## Limits of this page

- A packet or timer costs a host 20 us of one core, in the order of arrival, and no receive buffer overflows. A host that is slower under
  a flood has less room than the tables say.
- Who knows whom before the cut is set up as a start leaves it (the first eight and 16 others), not simulated for 25,500 members.
- When all of the first eight of a group are dead already, its successor is a stranger: two packets for each member in that group. A cut
  of three quarters does that to a tenth of the groups. Questions and answers by unicast would end it; they are multicast.
- Loss is independent for each receiver. A switch that drops multicast for everybody at once is a burst for all backups together.
- Switches and the kernel are not simulated: half of the addresses of a segment move in one instant.
"""


def page(figures: Figures) -> str:
    """Every name in capitals on a line of its own is a table or a paragraph."""
    parts = {
        "RESULT": _result(figures), "CUT": _cut(figures["cut"]), "TRAFFIC": _traffic(figures["cut"]), "RARE": _rare(figures["cut"]),
        "LOAD": _load(figures["load"]), "START": _start(figures["start"]), "MONTHS": _months(),
        "CHECKED": _checked(figures["false"]["loss"]),
        "BURSTS": _bursts(figures["false"]["burst"]), "JITTER": _jitter(figures["false"]["jitter"]), "BENCH": _bench(figures["bench"]),
    }  # fmt: skip
    text = PAGE.replace("OFFSET", f"{figures['bench'][-1]['offset_ms']:.1f}")
    for name, part in parts.items():
        text = text.replace(f"\n{name}\n", f"\n{part}\n")
    return text


def _table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return "\n".join([f"| {' | '.join(titles)} |", "|" + "---|" * len(titles), *(f"| {' | '.join(row)} |" for row in rows)])


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:g} ms"


def _number(value: float) -> str:
    """Three digits, or a power of ten where that would hide it."""
    return "0" if value == 0 else f"{value:.1e}" if value < 0.001 else f"{value:.3g}" if value < 1000 else f"{value:,.0f}"


def _on(one: Figures) -> str:
    return "on" if one["suspicion"] else "off"


def _cells(cuts: list[Figures]) -> list[tuple[str, str, list[Figures]]]:
    """The seeds of each interval together."""
    grouped = groupby(cuts, lambda one: (one["interval_s"], one["groups"]))
    return [(_ms(interval_s), str(groups), list(runs)) for (interval_s, groups), runs in grouped]


def _result(figures: Figures) -> str:
    at = [one for one in figures["cut"] if one["interval_s"] == 0.2]
    orphans, takeovers = sum(one["orphans"] for one in at), sum(one["takeovers"] for one in at)
    year = 12 * 99 * 255 * MONTH_S / 0.2
    ours, theirs = (year * false_per_advert(0.001, suspicion=suspicion) for suspicion in (True, False))
    without, two = ([one[name] for one in at] for name in ("without_ms", "with_two_ms"))
    return (
        f"- **Power cut of half of the nodes**, adverts every 200 ms: {orphans} groups lost their master, {takeovers} takeovers; nobody\n"
        f"  was master for {max(one['median'] for one in without):.0f} ms (median), {max(one['p99'] for one in without):.0f} ms (99 %);"
        f" two were for at most {max(one['worst'] for one in two):.1f} ms. Every group had one master at the end.\n"
        f"- **Traffic** is groups / interval, whatever the number of members: {at[0]['steady_per_s']:.0f} packets a second.\n"
        f"- **False failovers** of such a segment at 0.1 % loss: {_number(ours)} a year, {_number(1000 * ours)} of 1000\n"
        f"  segments; counting to three adverts: {_number(theirs)} and {_number(1000 * theirs)}.\n"
        "- **Not safe**: a network that loses 10 % with 100 members; all 255 groups at 10 ms (25,500 adverts a second fill half a core of\n"
        "  each node); hosts that are cut off or stand still for a fifth of a second: at 200 ms and below that is taken for a death. An\n"
        "  interval of 1 s stands nine of ten. 10 ms on Wi-Fi. 100 members of a group that start within one millisecond have two\n"
        "  masters for a moment."
    )


def _cut(cuts: list[Figures]) -> str:
    rows = []
    for interval, groups, runs in _cells(cuts):
        without, two = ([one[name] for one in runs] for name in ("without_ms", "with_two_ms"))
        reasons = {reason for one in runs for reason in one["by_reason"]}
        why = {reason: sum(one["by_reason"].get(reason, 0) for one in runs) for reason in reasons}
        rows.append([
            interval, groups, str(sum(one["orphans"] for one in runs)), str(sum(one["takeovers"] for one in runs)),
            *(f"{max(one[part] for one in without):.0f}" for part in ("median", "p90", "p99", "worst")),
            *(f"{max(one[part] for one in two):.1f}" for part in ("p99", "worst")),
            ", ".join(f"{why[reason]} {reason}" for reason in sorted(why, key=lambda reason: -why[reason])),
            f"{sum(one['one_master'] for one in runs)} of {sum(one['groups'] for one in runs)}",
        ])  # fmt: skip
    titles = ["interval", "groups", "lost their master", "takeovers", "nobody: median", "90 %", "99 %", "worst", "two: 99 %", "worst",
              "why",
              "one master at the end"]  # fmt: skip
    return _table(titles, rows)


def _traffic(cuts: list[Figures]) -> str:
    names = ("steady_peak", "cut_peak", "probe_peak", "received_by_a_node", "longest_queue")
    rows = []
    for interval, groups, runs in _cells(cuts):
        worst = (str(max(one[name] for one in runs)) for name in names)
        rows.append([interval, groups, f"{runs[0]['steady_per_s']:.0f}", *worst, f"{max(one['busy_share'] for one in runs):.1%}"])
    titles = ["interval", "groups", "packets a second, quiet", "peak, quiet", "peak, cut", "peak of probes",
              "received by a node from then on", "longest queue of a node", "of a core, busiest node"]  # fmt: skip
    return _table(titles, rows)


def _rare(cuts: list[Figures]) -> str:
    cuts = [one for one in cuts if one["interval_s"] >= 0.1]
    orphans = sum(one["orphans"] for one in cuts)
    extra = sum(one["takeovers"] for one in cuts) - orphans
    takeovers = 1000 * ORPHANS
    second = f"about {extra / orphans * takeovers:,.0f}" if extra else f"fewer than {3 / orphans * takeovers:,.0f} (95 %)"
    return (
        f"At 100 ms and above {orphans} groups lost their master, and {extra} takeovers were more than one for a group. Seeds are\n"
        f"independent, and so are segments: of the {takeovers:,} takeovers when each of 1000 segments loses half of its nodes,\n"
        f"{second} have a second.\n"
        "At 10 ms the ranks are 0.6 ms apart, a delay of the LAN: two may act, and the worse leaves when it hears the better."
    )


def _load(loads: list[Figures]) -> str:
    titles = ["nodes", "groups", "packets a second", "for each group", "of a core"]
    return _table(titles, [[str(one["nodes"]), str(one["groups"]), f"{one['received_per_s']:.0f}",
                            f"{one['received_per_s'] / one['groups']:.2f}", f"{one['busy_share']:.2%}"] for one in loads])  # fmt: skip


def _start(starts: list[Figures]) -> str:
    titles = ["members", "all within", "packets", "for each member", "peak in 10 ms", "first master after", "two masters for", "takeovers"]
    return _table(titles, [[str(one["nodes"]), f"{one['within_s']:g} s", str(one["packets"]), f"{one['packets'] / one['nodes']:.0f}",
                            str(one["peak"]), f"{one['first_ms']:.0f} ms", f"{one['two_ms']:.1f} ms", str(one["takeovers"])]
                           for one in starts])  # fmt: skip


def _months() -> str:
    rows = []
    for interval_s in (1.0, 0.2, 0.1, 0.01):
        for members in (3, 100):
            chances = (members - 1) * MONTH_S / interval_s
            both = ((false_per_advert(loss, suspicion=True), false_per_advert(loss, suspicion=False)) for loss in LOSSES)
            rows.append(
                [_ms(interval_s), str(members), *(f"{_number(chances * ours)} / {_number(chances * theirs)}" for ours, theirs in both)]
            )
    return _table(["interval", "members", *(f"{loss:.1%} loss" for loss in LOSSES)], rows)


def _checked(runs: list[Figures]) -> str:
    titles = ["loss", "interval", "suspicion", "takeovers", "for each advert and backup", "formula", "seen / formula"]
    return _table(titles, [[f"{one['loss']:.0%}", _ms(one["interval_s"]), _on(one), str(one["takeovers"]), _number(one["per_advert"]),
                            _number(one["formula"]), f"{one['per_advert'] / one['formula']:.2f}"] for one in runs])  # fmt: skip


def _bursts(runs: list[Figures]) -> str:
    rows = [[_ms(one["interval_s"]), _on(one), str(one["takeovers"]), _number(one["per_burst"]), _number(one["formula"])] for one in runs]
    return _table(["interval", "suspicion", "takeovers", "for each burst", "formula"], rows)


def _jitter(runs: list[Figures]) -> str:
    rows = [[one["network"], _ms(one["interval_s"]), _on(one), _number(one["per_hour"]), f"{one['two_share']:.1e}"] for one in runs]
    return _table(["network", "interval", "suspicion", "takeovers an hour", "share of time with two masters"], rows)


def _bench(rows: list[Figures]) -> str:
    titles = ["interval", "runs", "measured median, ms", "model", "error", "distance of distributions", "what chance explains (95 %)"]
    return _table(titles, [[_ms(one["interval_s"]), str(len(one["measured"])),
                            f"{one['measured_median']:.0f} ({one['low']:.0f} to {one['high']:.0f})",
                            f"{one['model_median']:.0f}", f"{one['model_median'] / one['measured_median'] - 1:+.0%}",
                            f"{one['distance']:.2f}",
                            f"{1.36 / len(one['measured']) ** 0.5:.2f}"] for one in rows])  # fmt: skip
