// Weights as B tiles, and the permission to use them.
#include <sys/syscall.h>
#include <unistd.h>

#include <cstring>

#include "layers.h"

namespace {

// The nearest bf16 number; ties go to the even one.
uint16_t to_bf16(float x) {
    uint32_t bits;
    memcpy(&bits, &x, 4);
    if (x != x) return 0x7fc0;  // rounding would make a number of some NaNs
    return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

float from_bf16(uint16_t x) {
    const uint32_t bits = static_cast<uint32_t>(x) << 16;
    float result;
    memcpy(&result, &bits, 4);
    return result;
}

}  // namespace

extern "C" {

// Asks Linux (5.16 or later) for the tiles' registers; 0 if it grants them.
int32_t prepare() {
#ifdef CREPS_TILE_MODEL
    return 0;
#else
    return static_cast<int32_t>(syscall(SYS_arch_prctl, 0x1023 /* ARCH_REQ_XCOMP_PERM */, 18 /* XTILEDATA */));
#endif
}

int32_t lanes() { return 1; }
int32_t colour_outputs() { return 16; }

// Packs a weight [outputs, inputs] as [outputs / 32][inputs / 32][hi, lo][2][16][16][2] in bf16; the last axes are pairs
// of inputs j and j + 16, outputs, and the two of the pair. With 16 outputs it is [inputs / 32][hi, lo][16][16][2].
void pack_weight(const float* weight, int32_t outputs, int32_t inputs, uint16_t* packed) {
    const int width = outputs < 32 ? 16 : 32;
    for (int n = 0; n < outputs; n += width)
        for (int k = 0; k < inputs; k += 32)
            for (int lo = 0; lo < 2; lo++)
                for (int first = n; first < n + width; first += 16)
                    for (int j = 0; j < 16; j++)
                        for (int o = first; o < first + 16; o++)
                            for (int e = 0; e < 2; e++) {
                                const float x = weight[(int64_t)o * inputs + k + 16 * e + j];
                                const uint16_t hi = to_bf16(x);
                                *packed++ = lo ? to_bf16(x - from_bf16(hi)) : hi;
                            }
}
}
