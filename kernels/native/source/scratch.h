// Memory of a thread that is kept between calls: new memory would be mapped page by page.
#pragma once
#include <cstdlib>
#include <memory>

inline void* scratch(size_t bytes) {
    static thread_local std::unique_ptr<void, decltype(&std::free)> memory(nullptr, std::free);
    static thread_local size_t size = 0;
    if (size < bytes) {
        size = (bytes + 63) / 64 * 64;
        memory.reset(std::aligned_alloc(64, size));
    }
    return memory.get();
}
