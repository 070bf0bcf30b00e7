"""Compiles kernels for GPUs that need not be there: `python -m tests.kernels.compiled`.

Prints the kernel, the compute capability and the bytes of shared memory. Triton's interpreter must be off.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from omnidrop_cli.kernels import cosine_distances, many_rows, picks, row_attention, row_products
from omnidrop_cli.kernels.row_products import GATED, LONG, SHORT

HALF, FLOAT, INT, ROW, CONSTANT = "*bf16", "*fp32", "i32", "*i64", "constexpr"
MATRIX = ("*i32", "*u8", FLOAT, FLOAT, HALF)


def aligned(types: dict[str, Any]) -> dict[tuple[int, ...], Any]:
    """Every pointer at a multiple of 16 bytes and every size a multiple of 16, as in a model; the row to write is anywhere."""
    return {path: [["tt.divisibility", 16]] for path in paths(tuple(types.values()), ())}


def paths(types: tuple[Any, ...], above: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Places of all pointers and sizes among arguments, tuples inside tuples."""
    for place, one in enumerate(types):
        if isinstance(one, tuple):
            yield from paths(one, (*above, place))
        elif one not in (ROW, "fp32"):
            yield (*above, place)


def compiled(kernel: Any, types: dict[str, Any], constants: dict[str, Any], capability: int, warps: int) -> None:
    source = ASTSource(kernel, types | dict.fromkeys(constants, CONSTANT), constexprs=constants, attrs=aligned(types))
    made = triton.compile(source, target=GPUTarget("cuda", capability, 32), options={"num_warps": warps, "enable_fp_fusion": True})
    print(kernel.fn.__name__, capability, made.metadata.shared)


def main(capability: int) -> None:
    given = {"x": FLOAT, "y": HALF, "residual": HALF, "codes": (FLOAT, FLOAT)}
    for tiling, k, count in ((SHORT, 3584, 3), (LONG, 18944, 1)):
        constants = {"k": k, "rows": tiling.rows, "width": tiling.blocks, "shuffle": True, "nested": True, "biased": count > 1}
        types = given | {"matrices": (MATRIX,) * count, "sizes": (INT,) * count}
        compiled(row_products._products, types, constants, capability, tiling.warps)
    types = {"x": FLOAT, "y": FLOAT, "codes": (FLOAT, FLOAT), "gate": MATRIX, "up": MATRIX, "size": INT}
    constants = {"k": 3584, "rows": GATED.rows, "width": GATED.blocks, "shuffle": True, "nested": True, "dtype": tl.bfloat16}
    compiled(row_products._gated, types, constants, capability, GATED.warps)
    types = {"codes": (FLOAT, FLOAT), "matrix": MATRIX, "out": HALF, "count": INT}
    constants = {"nested": True, "blocks": many_rows.BLOCKS, "shuffle": True, "dtype": tl.bfloat16}
    compiled(many_rows._unpack, types, constants, capability, 4)
    types = dict.fromkeys(("queries", "keys", "values"), HALF) | {"row": ROW} | dict.fromkeys(("sums", "peaks", "totals"), FLOAT)
    types |= {"capacity": INT, "split": INT, "scale": "fp32"}
    constants = {"each": 7, "size": 128, "parts": row_attention.PARTS, "block": row_attention.BLOCK, "padded": 16}
    compiled(row_attention._attend, types, constants, capability, 4)
    types = {"heads": HALF, "cos": HALF, "sin": HALF, "count": INT, "stride": INT}
    compiled(many_rows._rotate, types, {"size": 128, "rows": many_rows.ROWS}, capability, 4)
    compiled(many_rows._activate, {"gate": HALF, "up": HALF, "count": INT}, {"numbers": many_rows.NUMBERS}, capability, 8)
    types = {"matrix": FLOAT, "nearest": FLOAT, "picks": ROW, "values": FLOAT, "count": INT, "size": INT}
    compiled(picks._pick, types, {"block": 1 << 14}, capability, 16)
    types = dict.fromkeys(("products", "of_rows", "of_columns"), FLOAT) | {"count": INT, "counts": INT}
    constants = {"timed": True, "rows": cosine_distances.ROWS, "columns": cosine_distances.COLUMNS}
    compiled(cosine_distances._finish, types, constants, capability, 4)


if __name__ == "__main__":
    for capability in (86, 120):
        main(capability)
