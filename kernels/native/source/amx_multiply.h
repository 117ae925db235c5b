// Layers on AMX: 32 rows x 32 outputs at a time, near fp32 by three products of bf16.
//
// A *chunk* is 32 rows of activations: pixels, or positions at one thickness. Its activations are A tiles of 16 rows x 32
// channels, [channels / 32][hi, lo][2][16][32] in bf16, where hi + lo is the number. Weights are B tiles (amx_pack.cpp).
// x w is about hi Hi + hi Lo + lo Hi. The matrix unit leaves fp32 sums in memory; the vector units make the next
// activations of them. Each row of a tile is its own sum, so the bytes of a row do not depend on its place.
//
// Within 32 channels, channel 16 e + i is element 2 i + e of a row: two vectors are packed by a shift and an or.
#pragma once
#include <cstring>

#ifdef CREPS_TILE_MODEL  // the tests compile the kernels with a model of the tile instructions
#include "tile_model.h"
#else
#include <immintrin.h>
#endif

#include "layers.h"

static_assert(LANES == 16, "rows of tiles are vectors of 16");

constexpr int ROWS = 32;                    // of a chunk
constexpr int TILE = 1024;                  // bytes
constexpr int TILES = 4 * TILE;             // of 32 channels of a chunk, or of 32 x 32 weights: two, hi and lo
constexpr int NARROW_TILES = 2 * TILE;      // of 32 x 16 weights
constexpr int LO = 2 * TILE;                // from hi to lo of 32 channels of a chunk
constexpr int SUMS = ROWS * 32;             // of 32 outputs: [2][32 rows][16]
constexpr int SECOND = ROWS * 16;           // from outputs 0 to 15 to outputs 16 to 31 of a row

// The intrinsics do not tell the compiler that they read and write memory.
#define FENCE() __asm__ volatile("" ::: "memory")

struct alignas(64) TileConfig {
    uint8_t palette = 1, start = 0, reserved[14] = {};
    uint16_t bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};  // of a row of each tile
    uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

// Configures the tiles of this thread, and lets the vector units treat denormal numbers as zero, as the matrix unit does.
class Tiles {
public:
    Tiles() : status(__builtin_ia32_stmxcsr()) {
        static const TileConfig config;
        _tile_loadconfig(&config);
        __builtin_ia32_ldmxcsr(status | 0x8040);
    }
    ~Tiles() {
        __builtin_ia32_ldmxcsr(status);
        _tile_release();
    }
    Tiles(const Tiles&) = delete;

private:
    const unsigned status;
};

// Sums of 32 rows x 32 outputs over k_tiles x 32 channels, added to a bias or, without one, to what is in `sums`.
//
// `work` is called 3 k_tiles times between groups of four products: tile loads are so many micro-operations that the
// processor would not find the vector work of another chunk behind them by itself.
template <class Work>
INLINE void multiply(const uint8_t* a, const uint8_t* b, const float* bias, int k_tiles, float* sums, Work work) {
    FENCE();
    if (bias) {  // a stride of 0 gives every row the same bias
        _tile_loadd(0, bias, 0);
        _tile_loadd(1, bias + 16, 0);
        _tile_loadd(2, bias, 0);
        _tile_loadd(3, bias + 16, 0);
    } else {
        _tile_loadd(0, sums, 64);
        _tile_loadd(1, sums + SECOND, 64);
        _tile_loadd(2, sums + 256, 64);
        _tile_loadd(3, sums + SECOND + 256, 64);
    }
    for (int k = 0; k < k_tiles; k++, a += TILES, b += TILES) {
        // hi Lo, hi Hi, lo Hi: in this order eight loads are enough for twelve products.
        _tile_loadd(4, a, 64);
        _tile_loadd(5, a + TILE, 64);
        _tile_loadd(6, b + 2 * TILE, 64);
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(2, 5, 6);
        _tile_loadd(7, b + 3 * TILE, 64);
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(3, 5, 7);
        work();
        _tile_loadd(6, b, 64);
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(2, 5, 6);
        _tile_loadd(7, b + TILE, 64);
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(3, 5, 7);
        work();
        _tile_loadd(4, a + LO, 64);
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        _tile_loadd(5, a + LO + TILE, 64);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
        work();
    }
    _tile_stored(0, sums, 64);
    _tile_stored(2, sums + 256, 64);
    _tile_stored(1, sums + SECOND, 64);
    _tile_stored(3, sums + SECOND + 256, 64);
    FENCE();
}

// The same for at most 16 outputs.
template <class Work>
INLINE void multiply_narrow(const uint8_t* a, const uint8_t* b, const float* bias, int k_tiles, float* sums, Work work) {
    FENCE();
    _tile_loadd(0, bias, 0);
    _tile_loadd(2, bias, 0);
    for (int k = 0; k < k_tiles; k++, a += TILES, b += NARROW_TILES) {
        _tile_loadd(6, b, 64);
        _tile_loadd(4, a, 64);
        _tile_dpbf16ps(0, 4, 6);
        _tile_loadd(5, a + TILE, 64);
        _tile_dpbf16ps(2, 5, 6);
        work();
        _tile_loadd(7, b + TILE, 64);
        _tile_dpbf16ps(0, 4, 7);
        _tile_dpbf16ps(2, 5, 7);
        work();
        _tile_loadd(4, a + LO, 64);
        _tile_dpbf16ps(0, 4, 6);
        _tile_loadd(5, a + LO + TILE, 64);
        _tile_dpbf16ps(2, 5, 6);
        work();
    }
    _tile_stored(0, sums, 64);
    _tile_stored(2, sums + 256, 64);
    FENCE();
}

typedef uint32_t Bits __attribute__((vector_size(64), may_alias));

// Writes 32 channels of one row of a chunk, hi and lo. Both are rounded to nearest: truncation would cost 12 to 22 dB.
INLINE void store_row(Vector first, Vector second, uint8_t* row) {
    const uint32_t half = 0x8000, mask = 0xffff0000;
    const Bits hi0 = ((Bits)first + half) & mask, hi1 = ((Bits)second + half) & mask;
    const Bits lo0 = (Bits)(first - (Vector)hi0) + half, lo1 = (Bits)(second - (Vector)hi1) + half;
    *reinterpret_cast<Bits*>(row) = hi1 | hi0 >> 16;
    *reinterpret_cast<Bits*>(row + LO) = (lo1 & mask) | lo0 >> 16;
}
