"""Finds wgmma instructions whose registers are used before they have finished, in the output of ``nvdisasm -c``.

A wgmma (HGMMA in SASS) runs asynchronously. Until WARPGROUP.DEPBAR has waited for it, its operand A, if that is in
registers, must not be overwritten, and its accumulators must neither be read nor written, except by the next wgmma.
ptxas before 13.3 may break this rule for A (release notes of CUDA 13.3).
"""

from collections.abc import Iterator
from dataclasses import dataclass

from kernels.benchmark.sass import Instruction, parse_sass

MAX_GROUPS = 8
"""WARPGROUP.DEPBAR waits for all but at most 7 groups of wgmmas. Older groups are not followed."""


@dataclass(frozen=True)
class Hazard:
    """An instruction that uses registers of a wgmma that may still be running.

    Attributes:
        instruction: the instruction, beginning with its address.
        wgmma: the wgmma, beginning with its address.
        operand: "A" or "accumulators".
        registers: the numbers of the registers.
    """

    instruction: str
    wgmma: str
    operand: str
    registers: tuple[int, ...]

    def __str__(self) -> str:
        registers = ", ".join(f"R{number}" for number in self.registers)
        return f"{self.instruction} uses {registers}, {self.operand} of {self.wgmma}, before it has finished"


_Groups = tuple[frozenset[int], ...]
"""Unfinished wgmmas by index, oldest group first. The last group is not complete yet."""


def find_hazards(sass: str) -> list[Hazard]:
    """All hazards in the output of ``nvdisasm -c``, on any path through each function."""
    found: dict[Hazard, None] = {}
    for function in parse_sass(sass):
        instructions = function.instructions
        visited: set[tuple[int, _Groups]] = set()
        pending: list[tuple[int, _Groups]] = [(0, (frozenset(),))] if instructions else []
        while pending:
            state = pending.pop()
            index, groups = state
            if state in visited:
                continue
            visited.add(state)
            for i in sorted(frozenset().union(*groups)):
                found.update(dict.fromkeys(_compare(instructions[index], instructions[i])))
            groups = _advance(instructions[index], index, groups)
            pending += [(following, groups) for following in function.successors(index)]
    return list(found)


def _compare(instruction: Instruction, wgmma: Instruction) -> Iterator[Hazard]:
    """Hazards between an instruction and a wgmma that may still be running."""
    overwritten = instruction.written & wgmma.a
    if overwritten:
        yield Hazard(str(instruction), str(wgmma), "A", tuple(sorted(overwritten)))
    used = instruction.used
    if instruction.is_wgmma and instruction.accumulators == wgmma.accumulators:
        used = instruction.a  # wgmmas of the same shape add to the same accumulators in order
    early = used & wgmma.accumulators
    if early:
        yield Hazard(str(instruction), str(wgmma), "accumulators", tuple(sorted(early)))


def _advance(instruction: Instruction, index: int, groups: _Groups) -> _Groups:
    """Unfinished wgmmas after an instruction."""
    if instruction.is_wgmma:
        groups = (*groups[:-1], groups[-1] | {index})
        if "gsb0" in instruction.operands:
            groups = (*groups, frozenset())
    elif instruction.name.startswith("WARPGROUP.DEPBAR") and not instruction.predicated:
        *complete, last = groups
        remaining = int(instruction.operands[-1], 0)
        groups = (*complete[max(len(complete) - remaining, 0) :], last)
    return groups[-MAX_GROUPS:]
