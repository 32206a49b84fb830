"""A guardian lives as long as its sidecar: wills that come and go for years leave no holes in its memory."""

import random
import socket
import subprocess
import sys
from pathlib import Path

from carp_sidecar.kernel.guardian import Will, encode_clear, encode_set

FOLDER = Path(__file__).resolve().parents[2] / "sidecar" / "carp_sidecar" / "kernel"
READER = """
import itertools
import sys
sys.path.insert(0, sys.argv[1])
import guardian

def held():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS:")), sys.getallocatedblocks()

numbers, obey = itertools.count(1), guardian._obey

def counted(*arguments):
    obey(*arguments)
    if next(numbers) == 1000:
        print(*held())

guardian._obey = counted
estate = guardian._read_until_the_end(sys.stdin.fileno())
print(*held())
"""
WRITES = 2500
GROWTH_LIMIT_KB = 1024
"""When each read had a buffer of its own it was twice this and more, and no end."""
GROWTH_LIMIT_BLOCKS = 500
"""With tuples that were made out of generators it was 3000: Python keeps up to 2000 of each length that it may need again."""


def message(dice: random.Random) -> bytes:
    """A will that is left or taken back, of the sizes that there are."""
    name = f"g{dice.randrange(24)}"
    if dice.random() < 0.3:
        return encode_clear(name)
    frames = ((2, dice.randbytes(126)), (2, dice.randbytes(146)))[: dice.randint(1, 2)]
    return encode_set(name, Will(frames, 200, dice.randbytes(dice.choice([60, 120, 700])), dice.randbytes(dice.choice([0, 40]))))


def test_wills_that_come_and_go_cost_no_memory() -> None:
    """Each message is a read of its own, as when takeovers lie apart: the socket keeps them apart."""
    dice = random.Random(1)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with (
        ours,
        subprocess.Popen([sys.executable, "-IS", "-c", READER, str(FOLDER)], stdin=theirs.fileno(), stdout=subprocess.PIPE) as reader,
    ):
        theirs.close()
        assert reader.stdout is not None
        for _ in range(WRITES):
            ours.send(b"".join(message(dice) for _ in range(dice.randint(1, 16))))
        ours.close()
        first_kb, first_blocks, last_kb, last_blocks = map(int, reader.stdout.read().split())
    assert last_kb - first_kb <= GROWTH_LIMIT_KB
    assert last_blocks - first_blocks <= GROWTH_LIMIT_BLOCKS
