"""A runtime whose programs take known times on a clock of their own: nothing in these tests depends on a machine."""

from collections.abc import Callable
from dataclasses import dataclass, field

from supernet.estimation.latency.timing import Stopwatch


@dataclass
class Clock:
    """Seconds that pass only when a program runs; `speed` may change as a machine's does."""

    now: float = 0.0
    speed: float = 1.0
    on_run: Callable[["Clock"], None] = lambda clock: None

    def __call__(self):
        return self.now

    def run(self, milliseconds):
        self.on_run(self)
        self.now += milliseconds / 1000 / self.speed


@dataclass
class Clockwork:
    """A runtime: each module takes `cost(name, module, shapes)` milliseconds."""

    clock: Clock
    cost: Callable
    threads: int = 1
    name: str = "clockwork"
    made: list = field(default_factory=list)

    def settings(self):
        return {"runtime": self.name, "threads": "1"}

    def programs(self, modules):
        for name, (module, shapes) in modules:
            self.made.append(name)
            taken = self.cost(name, module, shapes)
            yield name, lambda taken=taken: self.clock.run(taken)


def watch(clock, **settings):
    return Stopwatch(clock=clock, interruptions=lambda: 0, **settings)
