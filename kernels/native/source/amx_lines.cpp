// The line network on AMX, for several chunks at once. Row l * thickness + d of all chunks is position l at thickness d.
#include "amx_multiply.h"
#include "scratch.h"

namespace {

// A block of K_BLOCK x 32 channels x 32 outputs of the weights stays in the L1 cache for GROUP chunks.
constexpr int GROUP = 8, K_BLOCK = 2;
// Bytes from the weights that are multiplied to those that are fetched from the L3 cache or from memory. The processor's
// prefetchers do not follow loads of tiles: without this it would wait for a quarter of the time.
constexpr int AHEAD = 32 * 1024;
constexpr int FETCHED = (TILES / 64 + 3 * GROUP - 1) / (3 * GROUP) * 64;  // bytes between groups of four products

struct Group {
    uint8_t *x, *y, *z;  // activations of all chunks: inputs of a layer, its outputs, and inputs of the ToLine
    float* running;      // [GROUP][32 rows][32], sums of ToLines
    float* sums;         // [GROUP][SUMS]
    int64_t chunk_bytes, first, rows;  // first: chunk; rows of all chunks
    int chunks;
};

// Fourier features of 32 rows.
void draw_features(const Fourier& input, const double* positions, int64_t first, int64_t rows, uint8_t* out) {
    for (int p = 0; p < ROWS; p++, out += 64) {
        const int64_t row = first + p < rows ? first + p : rows - 1;
        const int64_t d = row % input.thickness;
        const double u = positions[row / input.thickness];
        const double* frequencies = input.frequencies + d * input.half;
        const float* factors = input.factors + d * 2 * input.half;
        for (int c = 0; c < 2 * input.half; c += 32) {
            auto feature = [&](int c) {
                const bool cosine = c >= input.half;
                const double* from = frequencies + (cosine ? c - input.half : c);
                const DoubleVector cycles = *reinterpret_cast<const DoubleVector*>(from) * u + (cosine ? 0.25 : 0.0);
                return sine(fraction(cycles)) * load(factors + c);
            };
            store_row(feature(c), feature(c + 16), out + c / 32 * TILES);
        }
    }
}

// Sums of 32 outputs of a layer for all chunks.
void multiply_group(const LineLayer& layer, const Group& group, int tile) {
    const int k_tiles = layer.inputs / 32;
    const uint8_t* weight = static_cast<const uint8_t*>(layer.weight) + (int64_t)tile * k_tiles * TILES;
    const uint8_t* x = layer.gain ? group.x : group.z;
    for (int k = 0; k < k_tiles; k += K_BLOCK) {
        const int block = k_tiles - k < K_BLOCK ? k_tiles - k : K_BLOCK;
        const uint8_t* ahead = weight + k * TILES + AHEAD;
        for (int c = 0; c < group.chunks; c++)
            multiply(x + c * group.chunk_bytes + k * TILES, weight + k * TILES, k ? nullptr : layer.bias + tile * 32,
                     block, group.sums + c * SUMS, [&] {
                         for (const uint8_t* end = ahead + FETCHED; ahead < end; ahead += 64) __builtin_prefetch(ahead, 0, 2);
                     });
    }
}

// Activation, gain and clamp, scaled for the next layer and for the ToLine.
void activate(const LineLayer& layer, const Group& group, int tile) {
    const int o = tile * 32;
    for (int c = 0; c < group.chunks; c++)
        for (int p = 0; p < ROWS; p++) {
            const float* sums = group.sums + c * SUMS + p * 16;
            const int64_t at = c * group.chunk_bytes + tile * TILES + p * 64;
            const Vector x0 = clamp(lrelu(load(sums)) * load(layer.gain + o), CLAMP);
            const Vector x1 = clamp(lrelu(load(sums + SECOND)) * load(layer.gain + o + 16), CLAMP);
            if (layer.next) store_row(x0 * load(layer.next + o), x1 * load(layer.next + o + 16), group.y + at);
            if (layer.line) store_row(x0 * load(layer.line + o), x1 * load(layer.line + o + 16), group.z + at);
        }
}

// Adds a ToLine's sums to the running ones, and writes these times `scale`.
void add_line(const Group& group, float scale, float* lines) {
    for (int c = 0; c < group.chunks; c++)
        for (int p = 0; p < ROWS; p++) {
            const float* sums = group.sums + c * SUMS + p * 16;
            float* running = group.running + (c * ROWS + p) * FEATURES;
            const int64_t row = (group.first + c) * ROWS + p;
            for (int half = 0; half < 2; half++) {
                const Vector x = load(running + half * 16) + clamp(load(sums + half * SECOND), CLAMP);
                store(running + half * 16, x);
                if (row < group.rows) store(lines + row * FEATURES + half * 16, x * scale);
            }
        }
}

}  // namespace

extern "C" {

// Lines [bundles, length, thickness, 32] of positions [length] along one axis, times `scale`.
void draw_lines(const LineLayer* layers, int32_t count, int32_t width, const Fourier* input, const double* positions,
                int64_t length, float scale, float* lines, const LineStrides* strides) {
    const Tiles tiles;
    const int64_t rows = length * input->thickness, chunks = (rows + ROWS - 1) / ROWS;
    const int64_t chunk_bytes = width / 32 * TILES + 4096;  // no multiple of the size of a way of the L2 cache
    const int64_t sums = GROUP * SUMS * sizeof(float);
    uint8_t* memory = static_cast<uint8_t*>(scratch(3 * GROUP * chunk_bytes + 2 * sums));
    for (int64_t first = 0; first < chunks; first += GROUP) {
        Group group{memory, memory + GROUP * chunk_bytes, memory + 2 * GROUP * chunk_bytes, nullptr, nullptr,
                    chunk_bytes, first, rows, static_cast<int>(chunks - first < GROUP ? chunks - first : GROUP)};
        group.sums = reinterpret_cast<float*>(memory + 3 * GROUP * chunk_bytes);
        group.running = group.sums + GROUP * SUMS;
        memset(group.running, 0, sums);
        for (int c = 0; c < group.chunks; c++)
            draw_features(*input, positions, (first + c) * ROWS, rows, group.x + c * chunk_bytes);
        for (int i = 0; i < count; i++) {
            const LineLayer& layer = layers[i];
            for (int tile = 0; tile < layer.outputs / 32; tile++) {
                multiply_group(layer, group, tile);
                if (layer.gain) activate(layer, group, tile);
                else add_line(group, scale, lines + layer.bundle * strides->bundle);
            }
            if (!layer.gain) continue;
            uint8_t* swap = group.x;
            group.x = group.y;
            group.y = swap;
        }
    }
}
}
