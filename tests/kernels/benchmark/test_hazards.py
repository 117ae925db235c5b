"""Hazards of wgmma are found in recorded machine code, and in what ptxas makes of a loop with and without them."""

from pathlib import Path

import pytest
from triton import knobs

from kernels.benchmark.compile import run_tool
from kernels.benchmark.hazards import find_hazards

LOOP = """
.section .text.kernel,"ax",@progbits
        /*0100*/                   MOV R4, 0x1 ;
.L_x_1:
        /*0110*/                   HGMMA.64x16x16.F32 R24, R4, gdesc[UR4], R24 ;
        /*0120*/                   HGMMA.64x16x16.F32 R24, R8, gdesc[UR8], R24, gsb0 ;
        /*0130*/                   {between} ;
        /*0140*/                   WARPGROUP.DEPBAR.LE gsb0, {left} ;
        /*0150*/              @!P0 BRA `(.L_x_1) ;
        /*0160*/                   WARPGROUP.DEPBAR.LE gsb0, 0x0 ;
        /*0170*/                   MOV R8, R24 ;
        /*0180*/                   EXIT ;
.L_x_2:
        /*0190*/                   BRA `(.L_x_2);
"""
"""Machine code with two wgmmas of A in registers R4 to R11 and accumulators R24 to R31."""

PTX = """
.version 8.0
.target sm_90a
.address_size 64
.visible .entry kernel(.param .u64 input, .param .u64 output, .param .u64 b, .param .u32 count) .reqntid 128 {
    .reg .b64 %p, %o, %b;
    .reg .b32 %a<4>, %i, %n;
    .reg .f32 %d<4>;
    .reg .pred %more;
    ld.param.u64 %p, [input];
    ld.param.u64 %o, [output];
    ld.param.u64 %b, [b];
    ld.param.u32 %n, [count];
    mov.u32 %i, 0;
    setp.ne.u32 %more, %n, 0;
    mov.f32 %d0, 0f00000000; mov.f32 %d1, 0f00000000; mov.f32 %d2, 0f00000000; mov.f32 %d3, 0f00000000;
loop: .pragma "nounroll";
    ld.global.v4.b32 {%a0, %a1, %a2, %a3}, [%p];
    add.u64 %p, %p, 16;
    wgmma.fence.sync.aligned;
    wgmma.mma_async.sync.aligned.m64n8k16.f32.f16.f16 {%d0, %d1, %d2, %d3}, {%a0, %a1, %a2, %a3}, %b, %more, 1, 1, 0;
    wgmma.commit_group.sync.aligned;
    wgmma.wait_group.sync.aligned PENDING;
    add.u32 %i, %i, 1;
    setp.lt.u32 %more, %i, %n;
    @%more bra loop;
    wgmma.wait_group.sync.aligned 0;
    st.global.v4.f32 [%o], {%d0, %d1, %d2, %d3};
    ret;
}
"""


@pytest.mark.parametrize(
    ("between", "operand", "registers"),
    [
        ("FADD R6, R40, R41", "A", (6,)),
        ("@P1 LDG.E.128 R8, desc[UR4][R88.64]", "A", (8, 9, 10, 11)),
        ("LDG.E.64 R10, desc[UR4][R10.64]", "A", (10, 11)),
        ("SHFL.IDX PT, R5, R50, R51, 0x1f", "A", (5,)),
        ("IMAD.WIDE R10, R40, 0x4, R42", "A", (10, 11)),
        ("FADD R40, R31, R41", "accumulators", (31,)),
        ("STG.E.128 desc[UR4][R50.64], R28", "accumulators", (28, 29, 30, 31)),
        ("IMAD.WIDE.U32 R40, R42, R43, R30", "accumulators", (30, 31)),
        ("DADD R40, R26, R42", "accumulators", (26, 27)),
        ("MOV R24, RZ", "accumulators", (24,)),
        ("HGMMA.64x8x16.F32 R40, R24, gdesc[UR4], R40, gsb0", "accumulators", (24, 25, 26, 27)),
        ("HGMMA.64x16x16.F16 R8, gdesc[UR4], R8, gsb0", "A", (8, 9, 10, 11)),
    ],
)
def test_registers_that_are_used_too_early(between: str, operand: str, registers: tuple[int, ...]) -> None:
    found = find_hazards(LOOP.format(between=between, left="0x0"))
    assert (operand, registers) in {(hazard.operand, hazard.registers) for hazard in found}
    assert all(hazard.instruction.startswith("0130 ") for hazard in found)


@pytest.mark.parametrize(
    "between",
    [
        "FADD R40, R4, R11",  # reads A
        "LDG.E.128 R12, desc[UR4][R4.64]",
        "STG.E desc[UR4][R8.64], R4",
        "STS.128 [R4], R8",
        "LDGSTS.E.BYPASS.128 [R4], desc[UR4][R8.64]",
        "R2UR UR4, R8",
        "ISETP.GE.AND P0, PT, R4, R8, PT",
        "WARPSYNC R8",
        "IMAD.WIDE.U32 R18, R2, R23, R18",
        "HGMMA.64x16x16.F32 R24, R12, gdesc[UR4], R24, gsb0",  # adds to the same accumulators
    ],
)
def test_registers_that_may_be_used(between: str) -> None:
    assert find_hazards(LOOP.format(between=between, left="0x0")) == []


def test_wgmmas_of_the_previous_iteration_are_followed() -> None:
    """A new operand A is loaded while the wgmma of the last iteration may still read the old one."""
    code = LOOP.replace(".L_x_1:", ".L_x_1:\n        /*0108*/    LDG.E R4, desc[UR4][R88.64] ;")
    assert find_hazards(code.format(between="NOP", left="0x0")) == []
    (hazard,) = find_hazards(code.format(between="NOP", left="0x1"))
    assert str(hazard) == (
        "0108 LDG.E R4, desc[UR4][R88.64] uses R4, A of 0110 HGMMA.64x16x16.F32 R24, R4, gdesc[UR4], R24, "
        "before it has finished"
    )


@pytest.mark.parametrize("pending", [0, 1])
def test_machine_code_of_ptxas(pending: int, tmp_path: Path) -> None:
    cubin = tmp_path / "kernel.cubin"
    ptx = PTX.replace("PENDING", str(pending)).encode()
    run_tool(knobs.nvidia.ptxas.path, ptx, "-arch=sm_90a", "-o", str(cubin))
    found = find_hazards(run_tool(knobs.nvidia.nvdisasm.path, cubin.read_bytes(), "-c"))
    assert {hazard.operand for hazard in found} == ({"A"} if pending else set())
