// Where the running thread is. Compiled without hooks: only the scheduler writes it.
#include "device.cuh"

__thread EmulatedPlace emulated_place;

extern "C" EmulatedPlace* emulated_place_of_this_thread() { return &emulated_place; }
