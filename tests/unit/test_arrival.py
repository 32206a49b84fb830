"""The first moments of a master: attach, announce, speak, in this order and none of it twice."""

import asyncio

from carp_sidecar.arrival import Arrival, Awaited
from carp_sidecar.measurements import Measurements

ADVERT = b"advert"
PLACES = [(5, "fd77::64"), (5, "fd77::65")]
LONG_S, SHORT_S = 60.0, 0.01


class Scene:
    """What is sent and announced, in order."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.awaited: Awaited = {}
        loop = asyncio.get_running_loop()
        self.arrival = Arrival("web", loop, Measurements(), self.send, lambda: self.done.append("announce"), self.awaited)

    def send(self, packets: list[bytes]) -> None:
        self.done += [one.decode() for one in packets]

    def kernel_answers(self, place: tuple[int, str]) -> None:
        self.awaited.pop(place)(place)

    def decide(self, *places: tuple[int, str], limit_s: float = LONG_S) -> Arrival:
        self.arrival.decided()
        self.arrival.hold_back(places, limit_s)
        assert self.arrival.keep([ADVERT])
        return self.arrival


async def test_the_advert_that_sends_a_predecessor_away_is_the_last() -> None:
    scene = Scene()
    arrival = scene.decide()
    assert (arrival.pending, arrival.silent, scene.done) == (True, True, [])
    arrival.attached()
    assert (arrival.pending, arrival.silent, scene.done) == (False, False, ["announce", "advert"])
    assert arrival.took_s is not None
    assert not arrival.keep([ADVERT]), "from now on it is said at once"


async def test_ipv6_addresses_answer_a_moment_after_the_kernel_took_them() -> None:
    scene = Scene()
    arrival = scene.decide(*PLACES)
    arrival.attached()
    scene.kernel_answers(PLACES[1])
    assert (arrival.silent, scene.done) == (True, [])
    scene.kernel_answers(PLACES[0])
    assert (arrival.silent, scene.done) == (False, ["announce", "advert"])


async def test_they_may_answer_before_the_kernels_word_that_it_took_them() -> None:
    scene = Scene()
    arrival = scene.decide(PLACES[0])
    scene.kernel_answers(PLACES[0])
    assert scene.done == []
    arrival.attached()
    assert scene.done == ["announce", "advert"]


async def test_patience_ends() -> None:
    scene = Scene()
    arrival = scene.decide(*PLACES, limit_s=SHORT_S)
    arrival.attached()
    await asyncio.sleep(3 * SHORT_S)
    assert (scene.done, scene.awaited, arrival.silent) == (["announce", "advert"], {}, False)


async def test_where_the_addresses_are_is_not_told_before_they_are_there() -> None:
    scene = Scene()
    arrival = scene.decide(limit_s=SHORT_S)
    await asyncio.sleep(3 * SHORT_S)
    assert (scene.done, arrival.pending) == (["advert"], True)
    arrival.attached()
    assert scene.done == ["advert", "announce"]


async def test_what_is_not_true_any_more_is_not_said() -> None:
    scene = Scene()
    arrival = scene.decide(*PLACES, limit_s=SHORT_S)
    arrival.abandon()
    await asyncio.sleep(3 * SHORT_S)
    assert (scene.done, scene.awaited, arrival.silent, arrival.pending, arrival.took_s) == ([], {}, False, False, None)


async def test_what_waits_is_not_lost_when_the_addresses_are_taken_once_more() -> None:
    scene = Scene()
    arrival = scene.decide()
    arrival.hold_back((), LONG_S)
    arrival.attached()
    assert scene.done == ["announce", "advert"]


async def test_an_old_limit_does_not_end_a_new_wait() -> None:
    scene = Scene()
    scene.decide(limit_s=SHORT_S).abandon()
    scene.decide(limit_s=LONG_S)
    await asyncio.sleep(3 * SHORT_S)
    assert scene.done == []


async def test_what_is_put_back_is_announced_and_is_no_takeover() -> None:
    scene = Scene()
    scene.arrival.attached()
    assert (scene.done, scene.arrival.took_s) == (["announce"], None)
