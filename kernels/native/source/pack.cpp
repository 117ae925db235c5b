// The layout of weights and lines, which the Python side does not know.
#include "multiply.h"

extern "C" {

// Asks the operating system for what the kernels need; 0 if it grants it.
int32_t prepare() { return 0; }

// Positions that lie side by side in columns, and to whose multiple their number is padded.
int32_t lanes() { return LANES; }

// Outputs to which the three of a colour layer are padded.
int32_t colour_outputs() { return OUTPUTS; }

// Packs a weight [outputs, inputs] of padded widths into the same number of bytes.
void pack_weight(const float* weight, int32_t outputs, int32_t inputs, float* packed) {
    for (int k = 0; k < inputs; k += BLOCK)
        for (int first = 0; first < outputs; first += OUTPUTS)
            for (int i = k; i < inputs && i < k + BLOCK; i++)
                for (int o = first; o < first + OUTPUTS; o++) *packed++ = weight[(int64_t)o * inputs + i];
}
}
