// A model of the AMX tile instructions in plain C++, for tests on machines without them. It computes what Intel's manual
// says of TDPBF16PS: sums of even and of odd elements apart, in fp32 with fused products, denormal numbers taken as zero
// and rounded to zero, to nearest even; the two are added, and then the accumulator. The kernels set the same treatment
// of denormal numbers for vector instructions, which compute the model.
#pragma once
#include <immintrin.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>

namespace tile_model {

struct Tile {
    alignas(64) uint8_t rows[16][64];
};

inline thread_local Tile tiles[8];
inline thread_local bool configured = false;

// The kernels use whole tiles only.
inline void load_config(const void* address) {
    const uint8_t* config = static_cast<const uint8_t*>(address);
    for (int t = 0; t < 8; t++) {
        uint16_t bytes;
        memcpy(&bytes, config + 16 + 2 * t, 2);
        if (config[0] != 1 || config[1] != 0 || bytes != 64 || config[48 + t] != 16) abort();
    }
    memset(tiles, 0, sizeof tiles);
    configured = true;
}

inline void release() { configured = false; }

inline void load(int t, const void* base, long stride) {
    if (!configured) abort();
    for (int r = 0; r < 16; r++) memcpy(tiles[t].rows[r], static_cast<const uint8_t*>(base) + r * stride, 64);
}

inline void store(int t, void* base, long stride) {
    if (!configured) abort();
    for (int r = 0; r < 16; r++) memcpy(static_cast<uint8_t*>(base) + r * stride, tiles[t].rows[r], 64);
}

inline float from_bf16(uint16_t x) {
    const uint32_t bits = static_cast<uint32_t>(x) << 16;
    float result;
    memcpy(&result, &bits, 4);
    return result;
}

inline void multiply_add(int c, int a, int b) {
    if (!configured) abort();
    for (int m = 0; m < 16; m++) {
        uint16_t left[32];
        memcpy(left, tiles[a].rows[m], 64);
        float even[16] = {}, odd[16] = {}, sum[16];
        for (int k = 0; k < 16; k++) {
            uint16_t right[32];
            memcpy(right, tiles[b].rows[k], 64);
            const float x = from_bf16(left[2 * k]), y = from_bf16(left[2 * k + 1]);
            for (int n = 0; n < 16; n++) {
                even[n] = __builtin_fmaf(x, from_bf16(right[2 * n]), even[n]);
                odd[n] = __builtin_fmaf(y, from_bf16(right[2 * n + 1]), odd[n]);
            }
        }
        memcpy(sum, tiles[c].rows[m], 64);
        for (int n = 0; n < 16; n++) {
            const float both = even[n] + odd[n];
            sum[n] = sum[n] + both;
        }
        memcpy(tiles[c].rows[m], sum, 64);
    }
}

}  // namespace tile_model

#undef _tile_loadconfig
#undef _tile_release
#undef _tile_loadd
#undef _tile_stored
#undef _tile_dpbf16ps
#define _tile_loadconfig(config) tile_model::load_config(config)
#define _tile_release() tile_model::release()
#define _tile_loadd(tile, base, stride) tile_model::load(tile, base, stride)
#define _tile_stored(tile, base, stride) tile_model::store(tile, base, stride)
#define _tile_dpbf16ps(c, a, b) tile_model::multiply_add(c, a, b)
