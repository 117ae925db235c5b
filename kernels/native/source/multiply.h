// The product of a layer in fp32. A *chunk* is VECTORS vectors of positions that go through all layers together.
#pragma once
#include "layers.h"

constexpr int CHUNK = VECTORS * LANES;

// Channels whose weights and features stay in the L1 cache. A weight [outputs, inputs] is packed in blocks of them, each
// [outputs / OUTPUTS][inputs of the block][OUTPUTS], in the order of use.
constexpr int BLOCK = 128;

// Sums over `inputs` channels x [inputs][CHUNK] for all outputs; `finish(output, vector, sum)` takes each.
//
// Args:
//     weight: one block.
//     start(output, vector): what the sum begins with.
template <class Start, class Finish>
INLINE void multiply(const float* x, const float* weight, int inputs, int outputs, Start start, Finish finish) {
    for (int first = 0; first < outputs; first += OUTPUTS) {
        Vector sums[OUTPUTS][VECTORS];
#pragma GCC unroll 16
        for (int o = 0; o < OUTPUTS; o++)
#pragma GCC unroll 16
            for (int v = 0; v < VECTORS; v++) sums[o][v] = start(first + o, v);
        const float* from = x;
        for (int k = 0; k < inputs; k++, weight += OUTPUTS, from += CHUNK) {
            Vector inputs_k[VECTORS];
#pragma GCC unroll 16
            for (int v = 0; v < VECTORS; v++) inputs_k[v] = load(from + v * LANES);
#pragma GCC unroll 16
            for (int o = 0; o < OUTPUTS; o++)
#pragma GCC unroll 16
                for (int v = 0; v < VECTORS; v++) sums[o][v] += inputs_k[v] * weight[o];
        }
#pragma GCC unroll 16
        for (int o = 0; o < OUTPUTS; o++)
#pragma GCC unroll 16
            for (int v = 0; v < VECTORS; v++) finish(first + o, v, sums[o][v]);
    }
}
