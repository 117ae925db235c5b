"""Reads machine code of NVIDIA GPUs (SASS) from the output of ``nvdisasm -c``."""

import re
from dataclasses import dataclass
from functools import cached_property

_FUNCTION = re.compile(r"^\s*\.section\s+\.text\.", re.MULTILINE)
_LABEL = re.compile(r"^(\.L\w+):")
_INSTRUCTION = re.compile(r"^\s+/\*([0-9a-f]{4,})\*/\s+(?:@(!?)(U?P\w+)\s+)?([A-Z][A-Z0-9_.a-z]*)\s*(.*?)\s*;")
_REGISTER = re.compile(r"\bR(\d+)(\.64)?\b")

_NO_RESULT = {"BRX", "CALL", "JMX", "NANOSLEEP", "R2P", "RET", "WARPSYNC"}
"""Instructions whose first operand can be a register that they read. Stores begin with an address instead."""

_PREDICATE_FIRST = {"ATOM", "ATOMG", "ATOMS", "MATCH", "SHFL"}
"""Instructions whose result follows a predicate that is also a result."""

_DOUBLE = ("DADD", "DFMA", "DMUL")
"""Instructions whose operands are two registers each."""

_WIDE_RESULT = (*_DOUBLE, "CS2R", "IMAD.WIDE", "F2F.F64", "I2F.F64")
"""Instructions with a result of two registers that have no suffix .64."""


@dataclass(frozen=True)
class Instruction:
    """An instruction.

    Attributes:
        address: hexadecimal, as printed.
        predicated: executed only if a predicate is true.
        name: with suffixes, such as LDG.E.128.
        operands: as printed.
    """

    address: str
    predicated: bool
    name: str
    operands: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.address} {self.name} {', '.join(self.operands)}"

    @property
    def operation(self) -> str:
        """Name without suffixes."""
        return self.name.split(".")[0]

    @cached_property
    def is_wgmma(self) -> bool:
        return re.match("[HQIB]GMMA", self.name) is not None

    @cached_property
    def a(self) -> frozenset[int]:
        """Registers of a wgmma's operand A, empty if that is in shared memory."""
        return _registers(self.operands[1], 4)

    @cached_property
    def accumulators(self) -> frozenset[int]:
        """Registers of a wgmma's result: 64·N values in 128 threads."""
        shape = re.fullmatch(r"[HQIB]GMMA\.64x(\d+)x\d+\.(F16)?.*", self.name)
        if shape is None:
            raise ValueError(f"unknown wgmma: {self}")
        return _registers(self.operands[0], int(shape[1]) // (4 if shape[2] else 2))

    @cached_property
    def written(self) -> frozenset[int]:
        """Registers of the result."""
        if self.is_wgmma:
            return self.accumulators
        result = self.operands[self.operation in _PREDICATE_FIRST :][:1]
        if self.operation in _NO_RESULT or not result or not re.fullmatch(r"R\d+(\.\w+)*", result[0]):
            return frozenset()
        return _registers(result[0], self._width)

    @cached_property
    def used(self) -> frozenset[int]:
        """All registers that are read or written."""
        if self.is_wgmma:
            return self.a | self.accumulators
        sources = [1] * len(self.operands)
        if self.operation.startswith(("ST", "RED", "ATOM", *_DOUBLE)):
            sources = [self._width] * len(self.operands)
        elif self.name.startswith("IMAD.WIDE"):
            sources[-1] = 2  # the addend
        return self.written.union(*map(_registers, self.operands, sources))

    @cached_property
    def _width(self) -> int:
        """Registers of the result or of what is stored. Addresses have a suffix of their own."""
        if ".128" in self.name:
            return 4
        return 2 if ".64" in self.name or self.name.startswith(_WIDE_RESULT) else 1


@dataclass(frozen=True)
class Function:
    """Machine code of one function.

    Attributes:
        instructions: in the order of their addresses.
        labels: for each label, the index of the instruction after it.
    """

    instructions: list[Instruction]
    labels: dict[str, int]

    def successors(self, index: int) -> list[int]:
        """Indices of the instructions that may be executed after instruction ``index``."""
        instruction = self.instructions[index]
        ends = not instruction.predicated and instruction.operation in ("BRA", "EXIT", "RET")
        following = set() if ends else {index + 1}
        if instruction.operation == "BRA":
            target = re.search(r"\.L\w+", instruction.operands[-1])
            if target is None:
                raise ValueError(f"the target of a branch is not a label: {instruction}")
            following.add(self.labels[target[0]])
            if len(instruction.operands) > 1:  # its condition is an operand
                following.add(index + 1)
        return sorted(i for i in following if i < len(self.instructions))

    @cached_property
    def in_loops(self) -> list[Instruction]:
        """The instructions between a backward branch and its target."""
        inside: set[int] = set()
        for index in range(len(self.instructions)):
            for target in self.successors(index):
                inside.update(range(target, index + 1))
        return [self.instructions[index] for index in sorted(inside)]


def parse_sass(sass: str) -> list[Function]:
    """The functions in the output of ``nvdisasm -c``."""
    functions = []
    for text in _FUNCTION.split(sass)[1:]:
        instructions: list[Instruction] = []
        labels = {}
        for line in text.splitlines():
            if label := _LABEL.match(line):
                labels[label[1]] = len(instructions)
            elif match := _INSTRUCTION.match(line):
                address, negated, predicate, name, operands = match.groups()
                predicated = predicate is not None and (predicate not in ("PT", "UPT") or negated == "!")
                split = tuple(operand.strip() for operand in operands.split(",") if operand.strip())
                instructions.append(Instruction(address, predicated, name, split))
        functions.append(Function(instructions, labels))
    return functions


def _registers(operand: str, width: int) -> frozenset[int]:
    """Registers that an operand names: ``width`` of them, or one or two for an address in brackets."""
    numbers: set[int] = set()
    for match in _REGISTER.finditer(operand):
        first = int(match[1])
        count = (2 if match[2] else 1) if "[" in operand else width
        numbers.update(range(first, first + count))
    return frozenset(numbers)
