// A table of kernels with what is needed to call one from a list of addresses of arguments.
#pragma once
#include <cstddef>
#include <utility>
#include "device.cuh"

struct EmulatedKernel {
    const char* name;
    void (*call)(void** arguments);
    const size_t* sizes;
    size_t arguments;
    u32 most_threads;
    u32 cluster;
};

template <auto F>
struct EmulatedCall;

template <class... A, void (*F)(A...)>
struct EmulatedCall<F> {
    static constexpr size_t sizes[] = {sizeof(A)...};
    static void call(void** arguments) { call(arguments, std::index_sequence_for<A...>()); }

  private:
    template <size_t... I>
    static void call(void** arguments, std::index_sequence<I...>) {
        F(*static_cast<std::remove_const_t<A>*>(arguments[I])...);
    }
};

#define EMULATED_ENTRY(NAME, BOUND, CLUSTERED) \
    {#NAME, EmulatedCall<&NAME>::call, EmulatedCall<&NAME>::sizes, std::size(EmulatedCall<&NAME>::sizes), BOUND, CLUSTERED}
