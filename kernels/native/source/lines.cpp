// The line network in fp32 on any CPU. A lane is one position at one thickness, and all lanes do the same.
#include "multiply.h"
#include "scratch.h"

namespace {

// Chunks that share each pass over the weights.
constexpr int GROUP = 192 / CHUNK;

// The positions of a vector: LANES of them at one thickness.
struct Place {
    int64_t position;
    int thickness;
};

// Fourier features x [2 half][CHUNK] of a vector of a chunk.
void draw_features(const Fourier& input, const double* positions, Place place, float* x) {
    DoubleVector u;
    for (int i = 0; i < LANES; i++) u[i] = positions[place.position + i];
    const double* frequencies = input.frequencies + (int64_t)place.thickness * input.half;
    const float* factors = input.factors + (int64_t)place.thickness * 2 * input.half;
    for (int c = 0; c < input.half; c++) {
        const DoubleVector cycles = u * frequencies[c];
        store(x + c * CHUNK, sine(fraction(cycles)) * factors[c]);
        store(x + (input.half + c) * CHUNK, sine(fraction(cycles + 0.25)) * factors[input.half + c]);
    }
}

struct Group {
    float *x, *y, *z;  // [GROUP][width][CHUNK]: inputs of a layer, its outputs, and inputs of the ToLine
    float* running;    // [GROUP][32][CHUNK]: sums of ToLines
    int64_t width;
    int chunks;
};

// Sums y [outputs][CHUNK] of a layer, block by block of its inputs: a block of weights serves all chunks.
void multiply_group(const LineLayer& layer, const Group& group, const float* x) {
    const float* weight = static_cast<const float*>(layer.weight);
    for (int k = 0; k < layer.inputs; k += BLOCK) {
        const int inputs = layer.inputs - k < BLOCK ? layer.inputs - k : BLOCK;
        for (int o = 0; o < layer.outputs; o += OUTPUTS, weight += inputs * OUTPUTS)
            for (int i = 0; i < group.chunks; i++) {
                float* y = group.y + i * group.width * CHUNK + o * CHUNK;
                auto start = [&](int j, int v) { return k ? load(y + j * CHUNK + v * LANES) : splat(layer.bias[o + j]); };
                auto finish = [&](int j, int v, Vector sum) { store(y + j * CHUNK + v * LANES, sum); };
                multiply(x + (i * group.width + k) * CHUNK, weight, inputs, OUTPUTS, start, finish);
            }
    }
}

// Activation, gain and clamp in place, scaled for the next layer; z gets the inputs of a ToLine.
void activate(const LineLayer& layer, float* y, float* z) {
    for (int o = 0; o < layer.outputs; o++)
        for (int v = 0; v < VECTORS; v++) {
            const int at = o * CHUNK + v * LANES;
            const Vector x = clamp(lrelu(load(y + at)) * layer.gain[o], CLAMP);
            if (layer.next) store(y + at, x * layer.next[o]);
            if (layer.line) store(z + at, x * layer.line[o]);
        }
}

}  // namespace

extern "C" {

// Lines of positions along one axis, times `scale`.
//
// Args:
//     width: of the widest layer.
//     positions: [length]; the length is a multiple of LANES.
//     lines: written with the strides; those of positions are 1 where lanes() positions lie side by side.
void draw_lines(const LineLayer* layers, int32_t count, int32_t width, const Fourier* input, const double* positions,
                int64_t length, float scale, float* lines, const LineStrides* strides) {
    const int64_t across = length / LANES, vectors = across * input->thickness;
    float* memory = static_cast<float*>(scratch((3 * width + FEATURES) * GROUP * CHUNK * sizeof(float)));
    Group group{memory, nullptr, nullptr, nullptr, width, 0};
    const int64_t size = GROUP * width * CHUNK;
    for (int64_t first = 0; first < vectors; first += GROUP * VECTORS) {
        group = {memory, memory + size, memory + 2 * size, memory + 3 * size, width, 0};
        const int64_t left = (vectors - first + VECTORS - 1) / VECTORS;
        group.chunks = left < GROUP ? left : GROUP;
        auto place = [&](int i, int v) {
            const int64_t n = first + i * VECTORS + v < vectors ? first + i * VECTORS + v : vectors - 1;
            return Place{n % across * LANES, static_cast<int>(n / across)};
        };
        for (int i = 0; i < group.chunks; i++)
            for (int v = 0; v < VECTORS; v++)
                draw_features(*input, positions, place(i, v), group.x + i * width * CHUNK + v * LANES);
        for (int i = 0; i < GROUP * FEATURES * CHUNK; i++) group.running[i] = 0;
        for (int n = 0; n < count; n++) {
            const LineLayer& layer = layers[n];
            if (layer.gain) {
                multiply_group(layer, group, group.x);
                for (int i = 0; i < group.chunks; i++)
                    activate(layer, group.y + i * width * CHUNK, group.z + i * width * CHUNK);
                float* swap = group.x;
                group.x = group.y;
                group.y = swap;
                continue;
            }
            multiply_group(layer, group, group.z);
            for (int i = 0; i < group.chunks; i++)
                for (int c = 0; c < FEATURES; c++)
                    for (int v = 0; v < VECTORS; v++) {
                        float* sum = group.running + (i * FEATURES + c) * CHUNK + v * LANES;
                        const float* added = group.y + (i * width + c) * CHUNK + v * LANES;
                        store(sum, load(sum) + clamp(load(added), CLAMP));
                        const Place at = place(i, v);
                        float* to = lines + layer.bundle * strides->bundle + at.thickness * strides->thickness +
                                    c * strides->channel + at.position * strides->position;
                        const Vector line = load(sum) * scale;
                        if (strides->position == 1) store(to, line);
                        else for (int l = 0; l < LANES; l++) to[l * strides->position] = line[l];
                    }
        }
    }
}
}
