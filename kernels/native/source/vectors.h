// Vectors of fp32 numbers by the compiler's vector types: the same source for AVX-512, AVX2, SSE and NEON.
#pragma once
#include <cstdint>
#ifdef __AVX2__
#include <immintrin.h>
#endif

// LANES numbers in a vector. A block of OUTPUTS x VECTORS sums stays in the registers, which are 32, or 16 below AVX-512.
#if defined(__AVX512F__)
constexpr int LANES = 16, VECTORS = 3, OUTPUTS = 8;
#elif defined(__AVX2__)
constexpr int LANES = 8, VECTORS = 3, OUTPUTS = 4;
#elif defined(__aarch64__)
constexpr int LANES = 4, VECTORS = 3, OUTPUTS = 8;
#else
constexpr int LANES = 4, VECTORS = 3, OUTPUTS = 4;
#endif

// Loads and stores need the alignment of one number only.
typedef float Vector __attribute__((vector_size(LANES * 4), aligned(4), may_alias));
typedef double DoubleVector __attribute__((vector_size(LANES * 8), aligned(8), may_alias));

#define INLINE inline __attribute__((always_inline))

INLINE Vector splat(float x) { return x - Vector{}; }
INLINE Vector load(const float* from) { return *reinterpret_cast<const Vector*>(from); }
INLINE void store(float* to, Vector x) { *reinterpret_cast<Vector*>(to) = x; }

// The smaller and the larger of a and b; b where either is NaN.
#if defined(__AVX512F__)
INLINE Vector smaller(Vector a, Vector b) { return (Vector)_mm512_min_ps((__m512)a, (__m512)b); }
INLINE Vector larger(Vector a, Vector b) { return (Vector)_mm512_max_ps((__m512)a, (__m512)b); }
#elif defined(__AVX2__)
INLINE Vector smaller(Vector a, Vector b) { return (Vector)_mm256_min_ps((__m256)a, (__m256)b); }
INLINE Vector larger(Vector a, Vector b) { return (Vector)_mm256_max_ps((__m256)a, (__m256)b); }
#else
INLINE Vector smaller(Vector a, Vector b) { return a < b ? a : b; }
INLINE Vector larger(Vector a, Vector b) { return a > b ? a : b; }
#endif

// Leaky ReLU of slope 0.2. NaN stays NaN, here and in clamp.
INLINE Vector lrelu(Vector x) { return larger(x * 0.2f, x); }
INLINE Vector clamp(Vector x, float bound) { return larger(splat(-bound), smaller(splat(bound), x)); }

// The fraction of t, from -1/2 to 1/2, in fp32: adding 1.5 * 2^52 rounds to an integer.
INLINE Vector fraction(DoubleVector t) {
    const double magic = 0x1.8p52;
    const DoubleVector rounded = (t + magic) - magic;
    return __builtin_convertvector(t - rounded, Vector);
}

// sin(2 pi t) for t from -1/2 to 1/2.
INLINE Vector sine(Vector t) {
    // sin(2 pi t) = sin(2 pi f) with f from -1/4 to 1/4: t itself, or 1/2 - t, or -1/2 - t.
    const Vector f = smaller(larger(t, -0.5f - t), 0.5f - t);
    const Vector g = f * f;
    Vector p = splat(3.8199525848f);  // Taylor's series; the first term left out is below 1e-9
    p = p * g + -15.0946425769f;
    p = p * g + 42.0586939449f;
    p = p * g + -76.7058597531f;
    p = p * g + 81.6052492761f;
    p = p * g + -41.3417022404f;
    p = p * g + 6.28318530718f;
    return p * f;
}
