// Products of lines that are interpolated for each sample of a warped image. All samples are computed alike: their bytes
// do not depend on their place.
#include <algorithm>

#include "layers.h"

namespace {

constexpr int TAPS = 4;         // lines between which a sample lies
constexpr int PAGE = 64;        // lines of a page, as in block_warp.py
constexpr int64_t GROUP = 256;  // samples whose lines of one bundle stay in the L2 cache, as they are neighbours

// Lines of one axis, and the place of each sample among them.
struct Lattice {
    const float* const* pages;  // each [bundles, PAGE, thickness, 32]
    const int32_t* first;       // of the four lines of each sample
    const float* fraction;      // 0 to 1, from the second of them to the third
};

// The splines (Catmull and Rom 1974) of a group of samples.
struct Splines {
    float weight[GROUP][TAPS];

    INLINE void find(const float* fraction, int64_t count) {
        for (int64_t p = 0; p < count; p++) {
            const float t = fraction[p], t2 = t * t, t3 = t2 * t;
            weight[p][0] = 0.5f * (2 * t2 - t - t3);
            weight[p][1] = 0.5f * (3 * t3 - 5 * t2 + 2);
            weight[p][2] = 0.5f * (4 * t2 + t - 3 * t3);
            weight[p][3] = 0.5f * (t3 - t2);
        }
    }
};

// The four lines of one sample in one bundle.
struct Between {
    const float* line[TAPS];
    Vector weight[TAPS];

    INLINE Between(const Lattice& lattice, int64_t sample, const float* weights, int bundle, int line_size) {
        for (int i = 0; i < TAPS; i++) {
            const int32_t index = lattice.first[sample] + i;
            line[i] = lattice.pages[index / PAGE] + (int64_t(bundle) * PAGE + index % PAGE) * line_size;
            weight[i] = splat(weights[i]);
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
// They are written as the kernels of pixels read them: where the channels of a sample lie side by side, element
// [k, p, c] at (k * count + p) * 32 + c; else where samples do, at (k * 32 + c) * count + p.
void draw_products(const float* const* row_pages, const int32_t* row_first, const float* row_fraction,
                   const float* const* column_pages, const int32_t* column_first, const float* column_fraction,
                   int32_t bundles, int32_t thickness, int64_t count, int32_t channels_side_by_side, float* products) {
    const Lattice rows{row_pages, row_first, row_fraction}, columns{column_pages, column_first, column_fraction};
    const int line_size = thickness * FEATURES;
    Splines row_splines, column_splines;
    float group[LANES][FEATURES];  // products of samples, written together: channels lie far apart
    for (int64_t first = 0; first < count; first += GROUP) {
        const int64_t size = std::min(GROUP, count - first);
        row_splines.find(row_fraction + first, size);
        column_splines.find(column_fraction + first, size);
        for (int k = 0; k < bundles; k++)
            for (int64_t p = 0; p < size; p++) {
                const Between row(rows, first + p, row_splines.weight[p], k, line_size);
                const Between column(columns, first + p, column_splines.weight[p], k, line_size);
                float* to = products + (k * count + first + p) * FEATURES;
                for (int c = 0; c < FEATURES; c += LANES) {
                    Vector sum = {};
                    for (int d = 0; d < thickness; d++) sum += row.at(d * FEATURES + c) * column.at(d * FEATURES + c);
                    store((channels_side_by_side ? to : group[p % LANES]) + c, sum);
                }
                if (channels_side_by_side || ((p + 1) % LANES && p + 1 < size)) continue;
                to = products + k * FEATURES * count + first + p / LANES * LANES;
                for (int c = 0; c < FEATURES; c++)
                    if (p % LANES == LANES - 1)
                        for (int i = 0; i < LANES; i++) to[c * count + i] = group[i][c];
                    else
                        for (int i = 0; i <= p % LANES; i++) to[c * count + i] = group[i][c];
            }
    }
}
}
