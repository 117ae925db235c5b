// Products of lines that are interpolated for each sample of a warped image. All samples are computed alike: their bytes
// do not depend on their place.
#include "layers.h"

namespace {

constexpr int TAPS = 4;             // lines between which a sample lies
constexpr int64_t SAMPLES = 256;    // whose lines of one bundle stay in the L2 cache, as they are neighbours

// Lines of one axis, and the four of each sample with their weights.
struct Lattice {
    const float* lines;  // [bundles, lines, thickness, 32]
    int64_t bundle;      // numbers from bundle to bundle
    const int32_t* index;
    const float* weights;
};

// The four lines of one sample in one bundle.
struct Between {
    const float* line[TAPS];
    Vector weight[TAPS];

    INLINE Between(const Lattice& lattice, int bundle, int64_t sample, int line_size) {
        for (int i = 0; i < TAPS; i++) {
            line[i] = lattice.lines + bundle * lattice.bundle + int64_t(lattice.index[sample * TAPS + i]) * line_size;
            weight[i] = splat(lattice.weights[sample * TAPS + i]);
        }
    }
    INLINE Vector at(int number) const {
        Vector x = load(line[0] + number) * weight[0];
        for (int i = 1; i < TAPS; i++) x += load(line[i] + number) * weight[i];
        return x;
    }
};

}  // namespace

extern "C" {

// Products [bundles, count, 32] of interpolated lines: the sum over d of row[d] * column[d].
//
// Element [k, p, c] lies at k * bundle + p * position + c * channel of `products`.
void draw_products(const float* rows, int64_t row_bundle, const int32_t* row_index, const float* row_weights,
                   const float* columns, int64_t column_bundle, const int32_t* column_index,
                   const float* column_weights, int32_t bundles, int32_t thickness, int64_t count, float* products,
                   int64_t bundle, int64_t channel, int64_t position) {
    const Lattice row_lattice{rows, row_bundle, row_index, row_weights};
    const Lattice column_lattice{columns, column_bundle, column_index, column_weights};
    for (int64_t first = 0; first < count; first += SAMPLES) {
        const int64_t end = first + SAMPLES < count ? first + SAMPLES : count;
        for (int k = 0; k < bundles; k++)
            for (int64_t p = first; p < end; p++) {
                const Between row(row_lattice, k, p, thickness * FEATURES);
                const Between column(column_lattice, k, p, thickness * FEATURES);
                float* to = products + k * bundle + p * position;
                for (int c = 0; c < FEATURES; c += LANES) {
                    Vector sum = {};
                    for (int d = 0; d < thickness; d++) sum += row.at(d * FEATURES + c) * column.at(d * FEATURES + c);
                    for (int i = 0; i < LANES; i++) to[(c + i) * channel] = sum[i];
                }
            }
    }
}
}
