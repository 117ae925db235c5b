// The pixel network in fp32 on any CPU. Pixels are lanes, and all lanes do the same: the bytes of a pixel do not depend
// on its place.
#include "multiply.h"

namespace {

// Features of a chunk, [channel][CHUNK], and its colours. The widest layer has 128 channels.
struct alignas(64) Chunk {
    float features[2][128 * CHUNK];
    float colours[4 * CHUNK];
    const float* rows[VECTORS];     // of each vector, [thickness, 32] of bundle 0
    const float* columns[VECTORS];  // [thickness, 32, width] of bundle 0, at the vector's first column
};

struct Image {
    const Layer* layers;
    int32_t count, first_bundles, thickness;
    int64_t row_bundle, column_bundle, width;  // strides: of bundles, and of channels of columns
};

// x plus the product of a row and LANES columns for one channel: x + sum over d of row[d] * column[d].
INLINE Vector add_product(const Image& image, const Chunk& chunk, int bundle, int channel, int v, Vector x) {
    const float* row = chunk.rows[v] + bundle * image.row_bundle + channel;
    const float* column = chunk.columns[v] + bundle * image.column_bundle + channel * image.width;
    for (int d = 0; d < image.thickness; d++) {
        x += *row * load(column);
        row += FEATURES;
        column += FEATURES * image.width;
    }
    return x;
}

void draw(const Image& image, Chunk& chunk) {
    float *x = chunk.features[0], *y = chunk.features[1];
    for (int c = 0; c < FEATURES; c++)
        for (int v = 0; v < VECTORS; v++) {
            Vector sum = {};
            for (int k = 0; k < image.first_bundles; k++) sum = add_product(image, chunk, k, c, v, sum);
            store(x + c * CHUNK + v * LANES, sum);
        }
    for (int i = 0; i < image.count; i++) {
        const Layer& layer = image.layers[i];
        auto run = [&](auto finish) {
            auto start = [&](int o, int) { return splat(layer.bias[o]); };
            multiply(x, static_cast<const float*>(layer.weight), layer.inputs, layer.outputs, start, finish);
        };
        auto at = [](int o, int v) { return o * CHUNK + v * LANES; };
        switch (layer.activation) {
            case LRELU:
                run([&](int o, int v, Vector sum) { store(y + at(o, v), lrelu(sum)); });
                break;
            case LRELU_CLAMP:
                run([&](int o, int v, Vector sum) { store(y + at(o, v), clamp(lrelu(sum), PIXEL_CLAMP)); });
                break;
            case LRELU_PRODUCT:
                run([&](int o, int v, Vector sum) {
                    store(y + at(o, v), add_product(image, chunk, layer.bundle, o, v, lrelu(sum)));
                });
                break;
            case RGB_FIRST:
                run([&](int o, int v, Vector sum) { if (o < 3) store(chunk.colours + at(o, v), sum); });
                continue;  // the features stay
            case RGB_ADD:
                run([&](int o, int v, Vector sum) {
                    if (o >= 3) return;
                    float* colour = chunk.colours + at(o, v);
                    store(colour, load(colour) + clamp(sum, CLAMP));
                });
                continue;
        }
        float* swap = x;
        x = y;
        y = swap;
    }
}

}  // namespace

extern "C" {

// Colours [height, width, 3] of rows and columns.
//
// Args:
//     first_bundles: number of bundles whose products are summed before the first layer.
//     rows: [bundles, height, thickness, 32]; `row_bundle` numbers from bundle to bundle.
//     columns: [bundles, thickness, 32, stride]; `stride` is a multiple of LANES, at least the width.
void draw_pixels(const Layer* layers, int32_t count, int32_t first_bundles, int32_t thickness, const float* rows,
                 int64_t row_bundle, const float* columns, int64_t column_bundle, int64_t stride, int64_t height,
                 int64_t width, float* colours) {
    const Image image{layers, count, first_bundles, thickness, row_bundle, column_bundle, stride};
    const int64_t across = (width + LANES - 1) / LANES, vectors = height * across;
    Chunk chunk;
    for (int64_t first = 0; first < vectors; first += VECTORS) {
        auto place = [&](int v) { return first + v < vectors ? first + v : vectors - 1; };
        for (int v = 0; v < VECTORS; v++) {
            chunk.rows[v] = rows + place(v) / across * thickness * FEATURES;
            chunk.columns[v] = columns + place(v) % across * LANES;
        }
        draw(image, chunk);
        for (int v = 0; v < VECTORS; v++) {
            const int64_t y = place(v) / across, x = place(v) % across * LANES;
            float* to = colours + (y * width + x) * 3;
            for (int i = 0; i < LANES && x + i < width; i++)
                for (int c = 0; c < 3; c++) to[i * 3 + c] = chunk.colours[c * CHUNK + v * LANES + i];
        }
    }
}
}
