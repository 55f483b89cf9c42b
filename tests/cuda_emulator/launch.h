// What the stand-in driver (driver.cpp) and a compiled kernel module (emulation.h) tell each other
// about one launch. Plain C layout, included by both sides; includes the standard library only.
#pragma once
#include <cstddef>

namespace emulator {
struct Launch {
    unsigned grid[3], block[3];
    unsigned dynamic_shared;
    const unsigned char *arguments;
    size_t arguments_size;
    const void *fault_address; // set where the kernel touched memory that is not there
    char error[320];           // set where the launch failed
};
enum Outcome { OK = 0, BAD_ARGUMENTS = 1, ILLEGAL_ADDRESS = 700, LAUNCH_FAILED = 719 };
} // namespace emulator
