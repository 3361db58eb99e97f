"""Handshake with a PLC, which requests the verdict on a part and gets the answer. No I/O, no clock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from edgead.plant.modbus_connection import float32_of, float32_registers
from edgead.types import DECISIONS, NO_PART, Decision, Part

NOT_JUDGED = len(DECISIONS)
"""Decision sent for a part that has no verdict."""
FLAGS = ("ready", "busy", "done", "fault")
"""Bits of a status's first register, lowest first."""
# A camera without a frame for so long shows no part either.
_BLIND_NS = 2 * 10**9


@dataclass(frozen=True, slots=True)
class Command:
    """Command of the PLC: registers that only the PLC writes.

    `sequence`: number of the requested part; 0 requests none.
    `heartbeat`: number that changes while the PLC's program runs.
    `recipe`: number of the recipe of the part; 0 names none.
    `reset`: number whose change resets the counters and the fault.
    `serial`, `batch`: serial number and batch of the part.
    """

    sequence: int = 0
    heartbeat: int = 0
    recipe: int = 0
    reset: int = 0
    serial: str = ""
    batch: str = ""


@dataclass(frozen=True, slots=True)
class Status:
    """Answer to the PLC: registers that only edgead writes, all of them in one request.

    `ready`, `busy`, `done`, `fault`: a part may be requested; a requested part waits; the last request is answered; a
        person must look.
    `heartbeat`: number of writes so far.
    `accepted`, `answered`: number of the part requested last, and of the part answered last.
    `decision`: decision on the answered part: 0 ok, 1 review, 2 reject, `NOT_JUDGED`.
    `score`: image score of the answered part.
    `recipe`, `reset`: numbers of the PLC's command that are in force.
    `judged`, `rejected`, `not_judged`: parts since the last reset, modulo 65,536.
    """

    ready: bool = False
    busy: bool = False
    done: bool = False
    fault: bool = False
    heartbeat: int = 0
    accepted: int = 0
    answered: int = 0
    decision: int = 0
    score: float = 0.0
    recipe: int = 0
    reset: int = 0
    judged: int = 0
    rejected: int = 0
    not_judged: int = 0

    def registers(self) -> tuple[int, ...]:
        flags = sum(getattr(self, name) << bit for bit, name in enumerate(FLAGS))
        asked = (flags, self.heartbeat, self.accepted, self.answered, self.decision, *float32_registers(self.score))
        return (*asked, self.recipe, self.reset, self.judged, self.rejected, self.not_judged)

    @classmethod
    def of(cls, registers: Sequence[int]) -> Status:
        """Make a status from its registers, in the order of `registers()`."""
        flags, heartbeat, accepted, answered, decision, high, low, *counts = registers
        ready, busy, done, fault = (bool(flags >> bit & 1) for bit in range(len(FLAGS)))
        recipe, reset, judged, rejected, not_judged = counts
        score = float32_of(high, low)
        asked = (ready, busy, done, fault, heartbeat, accepted, answered)
        return cls(*asked, decision, score, recipe, reset, judged, rejected, not_judged)


STATUS_REGISTERS = len(Status().registers())


@dataclass(slots=True)
class _Asked:
    sequence: int
    part: Part
    at_ns: int
    taken: bool = False


class Handshake:
    """Handshake state: the part that a PLC requests and its answer, each number once, even if the connection is lost.

    The PLC writes the part, then a new number in `sequence`. The same number in `accepted` shows that edgead has read
    it, and in `answered` that the verdict can be read. The PLC keeps the number until the answer; 0 withdraws the
    request. An answered number counts as a new request only after another number.

    `recipes`: names of recipes by number; if it is empty, a recipe's name is its number.
    `within_ns`: time after which a part without a verdict is answered as not judged.
    `part`: part that the last accepted frame shows.
    `unknown_recipe`: requested number of a recipe that `recipes` does not have; None if it has it.
    """

    def __init__(self, recipes: Mapping[int, str], within_ns: int):
        self.part = NO_PART
        self.unknown_recipe: int | None = None
        self._recipes = recipes
        self._within_ns = within_ns
        self._status = Status()
        self._asked: _Asked | None = None
        self._frame_ns: int | None = None
        self._confirmed: tuple[int, ...] | None = None
        self._under_way: tuple[int, ...] | None = None

    # The connection

    def meet(self, registers: Sequence[int]) -> None:
        """Take the status registers that the PLC holds after a new connection.

        If they are the registers written last, the handshake continues. Otherwise the PLC or this program has
        restarted: the registers say what was answered, and any request counts as new. Requests are read only after the
        PLC has taken a first write, by which later connections recognise this PLC.
        """
        if tuple(registers) in (self._confirmed, self._under_way):
            self._confirmed = tuple(registers)  # the next write may be lost too
            return
        self._asked = self._confirmed = None
        found = Status.of(registers)
        self._status = replace(found, busy=False, accepted=found.answered)

    def shown(self, now_ns: int, *, beat: bool) -> tuple[int, ...] | None:
        """Return the registers to write; None if the PLC has them already and needs no heartbeat."""
        self._give_up(now_ns)
        blind = self._frame_ns is None or now_ns - self._frame_ns > _BLIND_NS
        status = replace(
            self._status,
            ready=not blind and self._asked is None and self.unknown_recipe is None,
            fault=blind or self._status.fault or self.unknown_recipe is not None,
        )
        if not beat and self._confirmed == status.registers():
            return None
        self._status = replace(self._status, heartbeat=(self._status.heartbeat + 1) % 2**16)
        self._under_way = replace(status, heartbeat=self._status.heartbeat).registers()
        return self._under_way

    def confirm(self) -> None:
        """Record that the PLC has taken the registers written last."""
        self._confirmed = self._under_way

    # The PLC

    def read(self, command: Command, now_ns: int) -> None:
        """Take the PLC's current command; do nothing until the PLC has taken a first write."""
        if self._confirmed is None:
            return
        if command.reset != self._status.reset:
            self._status = replace(self._status, reset=command.reset, fault=False, judged=0, rejected=0, not_judged=0)
        known = not self._recipes or command.recipe in self._recipes or command.recipe == 0
        self.unknown_recipe = None if known else command.recipe
        if known:
            self._status = replace(self._status, recipe=command.recipe)
        if command.sequence == 0:
            self._asked = None
            self._status = replace(self._status, busy=False, done=False, accepted=0, answered=0)
        elif command.sequence != (self._asked.sequence if self._asked else self._status.answered):
            self._ask(command, now_ns)

    def _ask(self, command: Command, now_ns: int) -> None:
        if self._asked is not None:
            if self._asked.taken:
                return  # the verdict on that one comes first
            self._answer(NOT_JUDGED, 0.0)
        self._asked = _Asked(command.sequence, self._named(command), now_ns)
        self._status = replace(self._status, busy=True, done=False, accepted=command.sequence)
        if self.unknown_recipe is not None:
            self._answer(NOT_JUDGED, 0.0)

    def _named(self, command: Command) -> Part:
        recipe = self._recipes.get(command.recipe, str(command.recipe)) if command.recipe else ""
        return Part(command.serial, command.batch, recipe)

    # The pipeline

    def accepts(self, captured_ns: int) -> bool:
        """Return whether a frame is the requested one: the first captured after the PLC's request."""
        self._frame_ns = captured_ns
        asked = self._asked
        if asked is None or asked.taken or captured_ns < asked.at_ns:
            return False
        asked.taken = True
        self.part = asked.part
        return True

    def answer(self, decision: Decision | None, score: float = 0.0) -> None:
        """Take the decision on the last accepted frame, None without a verdict; drop it if the PLC no longer waits."""
        if self._asked is not None and self._asked.taken:
            self._answer(NOT_JUDGED if decision is None else DECISIONS.index(decision), score)

    def leave(self) -> None:
        """Answer "not judged" for a part that still waits, since the trigger is being closed."""
        if self._asked is not None:
            self._answer(NOT_JUDGED, 0.0)
        self._frame_ns = None

    def _give_up(self, now_ns: int) -> None:
        if self._asked is not None and now_ns - self._asked.at_ns > self._within_ns:
            self._answer(NOT_JUDGED, 0.0)

    def _answer(self, decision: int, score: float) -> None:
        asked, self._asked = self._asked, None
        assert asked is not None
        status, judged = self._status, decision != NOT_JUDGED
        self._status = replace(
            status,
            busy=False,
            done=True,
            fault=not judged,
            answered=asked.sequence,
            decision=decision,
            score=score,
            judged=(status.judged + judged) % 2**16,
            rejected=(status.rejected + (decision == DECISIONS.index("reject"))) % 2**16,
            not_judged=(status.not_judged + (not judged)) % 2**16,
        )
