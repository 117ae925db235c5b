// The pixel network on AMX: patches of 8 x 8 pixels, two chunks of 4 x 8. The product of one chunk runs on the matrix unit
// while the vector units make activations of the other's sums.
#include "amx_multiply.h"

namespace {

constexpr int CHUNKS = 2, SIDE = 8, CHUNK_ROWS = ROWS / SIDE;
constexpr int MAX_STEPS = 512;  // of networks of 11 blocks, 130

// 32 outputs of a layer, or its colours.
struct Step {
    const uint8_t* weight;
    const float* bias;
    int32_t activation, k_tiles, input, output, tile, bundle;  // input and output: buffers of activations
};

struct alignas(64) Chunk {
    uint8_t activations[2][4 * TILES];  // 128 channels
    float sums[SUMS];
    float colours[ROWS][16];
    const float* rows[CHUNK_ROWS];  // [thickness, 32] of bundle 0
    const float* columns[SIDE];
};

struct Image {
    Step steps[MAX_STEPS];
    int count;
    int32_t first_bundles, thickness;
    int64_t row_bundle, column_bundle;
};

int make_steps(const Layer* layers, int count, Step* steps) {
    int n = 0, buffer = 0;
    for (int i = 0; i < count; i++) {
        const Layer& layer = layers[i];
        const bool colours = layer.activation >= RGB_FIRST;
        const int k_tiles = layer.inputs / 32;
        for (int tile = 0; tile * 32 < layer.outputs && n < MAX_STEPS; tile++)
            steps[n++] = {static_cast<const uint8_t*>(layer.weight) + (int64_t)tile * k_tiles * TILES,
                          layer.bias + tile * 32, layer.activation, k_tiles, buffer, 1 - buffer, tile, layer.bundle};
        if (!colours) buffer = 1 - buffer;
    }
    return n;
}

// Sums of row p of a chunk: 32 outputs.
struct Pair {
    Vector first, second;
};
INLINE Pair sums_of(const Chunk& chunk, int p) { return {load(chunk.sums + p * 16), load(chunk.sums + SECOND + p * 16)}; }

// Adds the products of one row and eight columns to eight pixels, and stores them. THICKNESS 0 is any.
template <int THICKNESS>
INLINE void add_product(const Image& image, const Chunk& chunk, int bundle, int r, Pair* x) {
    const int thickness = THICKNESS ? THICKNESS : image.thickness;
    const float* row = chunk.rows[r] + bundle * image.row_bundle;
    for (int i = 0; i < SIDE; i++) {
        const float* column = chunk.columns[i] + bundle * image.column_bundle;
        for (int d = 0; d < thickness; d++) {
            x[i].first += load(row + d * FEATURES) * load(column + d * FEATURES);
            x[i].second += load(row + d * FEATURES + 16) * load(column + d * FEATURES + 16);
        }
    }
}

INLINE void finish_product(const Image& image, const Chunk& chunk, int bundle, int r, uint8_t* out) {
    Pair x[SIDE];
    for (int i = 0; i < SIDE; i++) {
        const Pair sums = sums_of(chunk, r * SIDE + i);
        x[i] = {lrelu(sums.first), lrelu(sums.second)};
    }
    if (image.thickness == 8) add_product<8>(image, chunk, bundle, r, x);
    else add_product<0>(image, chunk, bundle, r, x);
    for (int i = 0; i < SIDE; i++) store_row(x[i].first, x[i].second, out + (r * SIDE + i) * 64);
}

template <bool CLAMPED>
INLINE void finish_lrelu(const Chunk& chunk, int p, uint8_t* out) {
    Pair x = sums_of(chunk, p);
    x = {lrelu(x.first), lrelu(x.second)};
    if constexpr (CLAMPED) x = {clamp(x.first, PIXEL_CLAMP), clamp(x.second, PIXEL_CLAMP)};
    store_row(x.first, x.second, out + p * 64);
}

INLINE void finish_colours(Chunk& chunk, bool add, int p) {
    const Vector x = load(chunk.sums + p * 16);
    store(chunk.colours[p], add ? load(chunk.colours[p]) + clamp(x, CLAMP) : x);
}

template <class Work>
INLINE void product(const Step& step, Chunk& chunk, Work work) {
    const uint8_t* a = chunk.activations[step.input];
    if (step.activation >= RGB_FIRST) multiply_narrow(a, step.weight, step.bias, step.k_tiles, chunk.sums, work);
    else multiply(a, step.weight, step.bias, step.k_tiles, chunk.sums, work);
}

// The product of a step for one chunk, and meanwhile the activations of step `done` for another.
INLINE void product_and_finish(const Image& image, const Step& step, Chunk& chunk, const Step& done, Chunk& other) {
    uint8_t* out = other.activations[done.output] + done.tile * TILES;
    const int parts = 3 * step.k_tiles;
    int next = 0;
    auto share = [&](int count, auto finish) {
        const int each = (count + parts - 1) / parts;
        product(step, chunk, [&] {
            for (const int end = next + each < count ? next + each : count; next < end; next++) finish(next);
        });
    };
    switch (done.activation) {
        case LRELU: share(ROWS, [&](int p) { finish_lrelu<false>(other, p, out); }); break;
        case LRELU_CLAMP: share(ROWS, [&](int p) { finish_lrelu<true>(other, p, out); }); break;
        case LRELU_PRODUCT: share(CHUNK_ROWS, [&](int r) { finish_product(image, other, done.bundle, r, out); }); break;
        default: share(ROWS, [&](int p) { finish_colours(other, done.activation == RGB_ADD, p); });
    }
}

void draw(const Image& image, Chunk* chunks) {
    for (int i = 0; i < CHUNKS; i++)
        for (int r = 0; r < CHUNK_ROWS; r++) {
            Pair x[SIDE] = {};
            for (int k = 0; k < image.first_bundles; k++) add_product<0>(image, chunks[i], k, r, x);
            uint8_t* out = chunks[i].activations[0] + r * SIDE * 64;
            for (int p = 0; p < SIDE; p++) store_row(x[p].first, x[p].second, out + p * 64);
        }
    product(image.steps[0], chunks[0], [] {});
    for (int s = 0; s < image.count; s++) {
        const Step& step = image.steps[s];
        product_and_finish(image, step, chunks[1], step, chunks[0]);
        if (s + 1 < image.count) product_and_finish(image, image.steps[s + 1], chunks[0], step, chunks[1]);
    }
    for (int p = 0; p < ROWS; p++) finish_colours(chunks[1], true, p);  // the last step always adds colours
}

}  // namespace

extern "C" {

// Colours [height, width, 3] of rows and columns, both [bundles, positions, thickness, 32].
void draw_pixels(const Layer* layers, int32_t count, int32_t first_bundles, int32_t thickness, const float* rows,
                 int64_t row_bundle, const float* columns, int64_t column_bundle, int64_t, int64_t height,
                 int64_t width, float* colours) {
    const Tiles tiles;
    Image image;
    image.count = make_steps(layers, count, image.steps);
    image.first_bundles = first_bundles;
    image.thickness = thickness;
    image.row_bundle = row_bundle;
    image.column_bundle = column_bundle;
    const int64_t position = thickness * FEATURES;
    Chunk chunks[CHUNKS];
    auto inside = [](int64_t i, int64_t end) { return i < end ? i : end - 1; };
    for (int64_t y = 0; y < height; y += CHUNKS * CHUNK_ROWS)
        for (int64_t x = 0; x < width; x += SIDE) {
            for (int i = 0; i < CHUNKS; i++) {
                for (int r = 0; r < CHUNK_ROWS; r++)
                    chunks[i].rows[r] = rows + inside(y + i * CHUNK_ROWS + r, height) * position;
                for (int p = 0; p < SIDE; p++) chunks[i].columns[p] = columns + inside(x + p, width) * position;
            }
            draw(image, chunks);
            for (int i = 0; i < CHUNKS; i++)
                for (int p = 0; p < ROWS; p++) {
                    const int64_t row = y + i * CHUNK_ROWS + p / SIDE, column = x + p % SIDE;
                    if (row < height && column < width)
                        memcpy(colours + (row * width + column) * 3, chunks[i].colours[p], 3 * sizeof(float));
                }
        }
}
}
