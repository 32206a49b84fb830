"""One timer for all groups: on time, in order, once, and only the newest deadline of each."""

import asyncio

from carp_sidecar.alarms import Alarms


class Sleeper:
    """An owner that writes down when it was woken, and may sleep again."""

    def __init__(self, alarms: Alarms, woken: list[tuple[str, float]], name: str) -> None:
        self.armed_for: float | None = None
        self._alarms = alarms
        self._woken = woken
        self._name = name
        self.again: list[float] = []

    def on_alarm(self, due: float) -> None:
        self._woken.append((self._name, due))
        if self.again:
            self._alarms.set(self, self.again.pop(0))


class FakeLoop:
    """A loop whose clock jumps from timer to timer."""

    def __init__(self) -> None:
        self.now = 0.0
        self.timers: list[asyncio.TimerHandle] = []
        self._real = asyncio.new_event_loop()

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: object, *args: object) -> asyncio.TimerHandle:
        timer = asyncio.TimerHandle(when, callback, args, self._real)  # type: ignore[arg-type]
        self.timers.append(timer)
        return timer

    def run(self, until: float, late: float = 0.0) -> None:
        while waiting := [timer for timer in self.timers if not timer.cancelled() and timer.when() <= until]:
            timer = min(waiting, key=lambda one: one.when())
            self.timers.remove(timer)
            self.now = max(self.now, timer.when() + late)
            timer._run()
        self._real.close()


def test_alarms_come_in_order_and_only_the_newest_of_each() -> None:
    loop, woken = FakeLoop(), list[tuple[str, float]]()
    alarms = Alarms(loop)  # type: ignore[arg-type]
    a, b, c = (Sleeper(alarms, woken, name) for name in "abc")
    alarms.set(a, 3.0)
    alarms.set(b, 1.0)
    alarms.set(c, 2.0)
    alarms.set(a, 0.5)
    alarms.set(c, None)
    a.again = [4.0]
    loop.run(10)
    assert woken == [("a", 0.5), ("b", 1.0), ("a", 4.0)]


def test_a_deadline_that_returns_to_an_earlier_value_fires_once() -> None:
    loop, woken = FakeLoop(), list[tuple[str, float]]()
    alarms = Alarms(loop)  # type: ignore[arg-type]
    a = Sleeper(alarms, woken, "a")
    for due in (1.0, 2.0, 1.0):
        alarms.set(a, due)
    loop.run(5)
    assert woken == [("a", 1.0)]


def test_many_late_alarms_take_several_turns_of_the_loop() -> None:
    loop, woken = FakeLoop(), list[tuple[str, float]]()
    alarms = Alarms(loop)  # type: ignore[arg-type]
    sleepers = [Sleeper(alarms, woken, str(number)) for number in range(200)]
    for number, sleeper in enumerate(sleepers):
        alarms.set(sleeper, 1.0 + number / 1000)
    turns = 0
    call_at = loop.call_at

    def counted(when: float, callback: object, *args: object) -> asyncio.TimerHandle:
        nonlocal turns
        turns += 1
        return call_at(when, callback, *args)

    loop.call_at = counted  # type: ignore[method-assign]
    loop.run(5, late=1.0)
    assert [name for name, _ in woken] == [str(number) for number in range(200)]
    assert 3 <= turns <= 5


def test_one_that_raises_does_not_silence_the_others() -> None:
    loop, woken = FakeLoop(), list[tuple[str, float]]()
    alarms = Alarms(loop)  # type: ignore[arg-type]

    class Broken:
        armed_for: float | None = None

        def on_alarm(self, due: float) -> None:
            raise RuntimeError(due)

    alarms.set(Broken(), 1.0)
    alarms.set(Sleeper(alarms, woken, "a"), 2.0)
    loop._real.set_exception_handler(lambda *_: None)
    loop.run(5)
    assert woken == [("a", 2.0)]
