// What the kernels share: one table of layers, and the product of a layer in fp32.
#pragma once
#include <cstdint>

#include "vectors.h"

constexpr int FEATURES = 32;  // channels of a line and of the fused features

enum Activation : int32_t {
    LRELU,          // leaky ReLU
    LRELU_CLAMP,    // and a clamp
    LRELU_PRODUCT,  // and the product of rows and columns is added
    RGB_FIRST,      // colours
    RGB_ADD,        // clamped and added to the colours
};

constexpr float CLAMP = 256.0f;                   // of colours and lines
constexpr float PIXEL_CLAMP = 181.019335983756f;  // of features, which are stored over sqrt 2

// A layer of the pixel network. Gains are folded into the weight. Widths are padded with zeros.
struct Layer {
    const void* weight;  // packed, see packing.py
    const float* bias;   // [outputs]
    int32_t activation, inputs, outputs;
    int32_t bundle;  // of the product that LRELU_PRODUCT adds
};

// A layer of the line network. The weight belongs to the checkpoint, the vectors to a latent.
struct LineLayer {
    const void* weight;
    const float* bias;  // [outputs]
    const float* gain;  // [outputs], factor after the leaky ReLU; null for a ToLine
    const float* next;  // [outputs], scale of the next layer's inputs, or null if none follows
    const float* line;  // [outputs], scale of the ToLine's inputs, or null if none follows
    int32_t inputs, outputs;
    int32_t bundle;  // that a ToLine writes
    int32_t reserved;
};

// The Fourier features.
struct Fourier {
    const double* frequencies;  // [thickness, half]
    const float* factors;       // [thickness, 2 half], of sines and cosines
    int32_t half, thickness;
};

// Lines of one axis. Element [k, d, c, l] lies at k * bundle + d * thickness + c * channel + l * position.
struct LineStrides {
    int64_t bundle, thickness, channel, position;
};
