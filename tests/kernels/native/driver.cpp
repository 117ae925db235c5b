// Draws one image with the kernels that it is linked with, for machines that Python does not run on. Reads from stdin
// what tests/kernels/native/test_driver.py writes, and writes the colours to stdout.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <vector>

#include "layers.h"

extern "C" {
int32_t prepare();
int32_t lanes();
void pack_weight(const float* weight, int32_t outputs, int32_t inputs, void* packed);
void draw_lines(const LineLayer*, int32_t, int32_t, const Fourier*, const double*, int64_t, float, float*,
                const LineStrides*);
void draw_pixels(const Layer*, int32_t, int32_t, int32_t, const float*, int64_t, const float*, int64_t, int64_t, int64_t,
                 int64_t, float*);
}

// Memory of exactly the size that is needed, aligned as torch's.
template <class T>
T* allocate(size_t count) {
    static std::vector<std::unique_ptr<void, decltype(&std::free)>> kept;
    void* memory = nullptr;
    if (posix_memalign(&memory, 64, count * sizeof(T) + !count)) abort();
    kept.emplace_back(memory, std::free);
    return static_cast<T*>(memory);
}

// An array with its length before it; null if it is empty.
template <class T>
const T* read_array() {
    int64_t count;
    if (fread(&count, 8, 1, stdin) != 1) abort();
    if (!count) return nullptr;
    T* values = allocate<T>(count);
    if (fread(values, sizeof(T), count, stdin) != static_cast<size_t>(count)) abort();
    return values;
}

const float* read_weight(int32_t outputs, int32_t inputs) {
    float* packed = allocate<float>(static_cast<size_t>(outputs) * inputs);
    pack_weight(read_array<float>(), outputs, inputs, packed);
    return packed;
}

int main() {
    const int64_t* sizes = read_array<int64_t>();
    const int64_t thickness = sizes[0], bundles = sizes[1], width = sizes[2], first_bundles = sizes[3];
    const int64_t lengths[] = {sizes[4], sizes[5]};
    std::vector<LineLayer> line_layers(sizes[6]);
    for (LineLayer& layer : line_layers) {
        const int64_t* n = read_array<int64_t>();
        layer = {};
        layer.outputs = n[0], layer.inputs = n[1], layer.bundle = n[2];
        layer.weight = read_weight(layer.outputs, layer.inputs);
        layer.bias = read_array<float>();
        layer.gain = read_array<float>();
        layer.next = read_array<float>();
        layer.line = read_array<float>();
    }
    std::vector<Layer> layers(sizes[7]);
    for (Layer& layer : layers) {
        const int64_t* n = read_array<int64_t>();
        layer = {};
        layer.outputs = n[0], layer.inputs = n[1], layer.activation = n[2], layer.bundle = n[3];
        layer.weight = read_weight(layer.outputs, layer.inputs);
        layer.bias = read_array<float>();
    }
    if (prepare()) abort();
    float* lines[2];
    LineStrides strides[2];
    for (int axis = 0; axis < 2; axis++) {
        const double* frequencies = read_array<double>();
        const float* factors = read_array<float>();
        const Fourier input{frequencies, factors, static_cast<int32_t>(sizes[8]), static_cast<int32_t>(thickness)};
        const double* positions = read_array<double>();
        const int64_t padded = (lengths[axis] + lanes() - 1) / lanes() * lanes();
        double* all = allocate<double>(padded);
        for (int64_t i = 0; i < padded; i++) all[i] = positions[i < lengths[axis] ? i : lengths[axis] - 1];
        lines[axis] = allocate<float>(bundles * padded * thickness * FEATURES);
        strides[axis] = axis == 0 || lanes() == 1
                            ? LineStrides{padded * thickness * FEATURES, FEATURES, 1, thickness * FEATURES}
                            : LineStrides{padded * thickness * FEATURES, FEATURES * padded, padded, 1};
        draw_lines(line_layers.data(), line_layers.size(), width, &input, all, padded, 0.70710678118654752f, lines[axis],
                   &strides[axis]);
    }
    float* colours = allocate<float>(lengths[0] * lengths[1] * 3);
    draw_pixels(layers.data(), layers.size(), first_bundles, thickness, lines[0], strides[0].bundle, lines[1],
                strides[1].bundle, strides[1].channel, lengths[0], lengths[1], colours);
    fwrite(colours, sizeof(float), lengths[0] * lengths[1] * 3, stdout);
}
