// libcuda.so.1 for machines without a GPU: device memory is host memory, a "cubin" is a shared
// object made by the stand-in nvcc, launches run on the calling thread. PyCUDA itself runs on it.
// Each allocation ends at a page nobody may touch, has a red zone before it, and holds NaN at
// first. Context stacks are per thread and a forked child cannot go on with its parent's driver, as
// with the real one. Whatever is not here answers 801, "not supported" (run.py generates the rest).
#include <cuda.h>
#include <cudaProfiler.h>
#include <dlfcn.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "launch.h"

namespace {

const size_t TOTAL_BYTES = (size_t)2 << 30;
const size_t PAGE = 4096;
const size_t SHARED_LIMIT = 48 << 10;

struct Function {
    int (*run)(emulator::Launch *);
    std::string name;
};
struct Module {
    void *library;
    std::map<std::string, Function> functions;
};
struct Event {
    double milliseconds;
};
struct Allocation {
    size_t bytes;
    char *pages, *end; // accessible memory is [pages, end); a forbidden page lies on either side
    CUcontext context; // in which it was allocated
};

std::mutex lock; // of all that follows
std::map<CUdeviceptr, Allocation> allocations;
size_t used_bytes;
pid_t initialised_in; // process of cuInit; 0: not called
CUresult sticky;      // a failed launch spoils the context, as on a GPU
std::string detail;   // of the last error, for cuGetErrorString
char primary_context[16];
long counters[7];
enum Counter { LAUNCHES, TO_DEVICE, TO_DEVICE_BYTES, TO_HOST, TO_HOST_BYTES, ON_DEVICE, RETAINED };
thread_local std::vector<CUcontext> contexts; // this thread's stack

CUresult usable() {
    if (initialised_in != getpid())
        return CUDA_ERROR_NOT_INITIALIZED;
    if (contexts.empty())
        return CUDA_ERROR_INVALID_CONTEXT;
    return sticky;
}
#define USABLE()                                                                                   \
    std::lock_guard<std::mutex> guard(lock);                                                       \
    if (CUresult trouble = usable())                                                               \
    return trouble

// Read by nobody as a number: signalling NaN as a double, and as a float in every second word.
const unsigned char RED[8] = {0xAD, 0xDE, 0xA0, 0x7F, 0x00, 0x00, 0xF4, 0x7F};
void paint(char *from, char *to) {
    for (char *p = from; p < to; ++p)
        *p = (char)RED[(uintptr_t)p % 8];
}
char *damaged(char *from, char *to) {
    for (char *p = from; p < to; ++p)
        if ((unsigned char)*p != RED[(uintptr_t)p % 8])
            return p;
    return nullptr;
}

CUresult allocate(CUdeviceptr *pointer, size_t bytes) {
    if (!bytes)
        return CUDA_ERROR_INVALID_VALUE;
    if (used_bytes + bytes > TOTAL_BYTES)
        return CUDA_ERROR_OUT_OF_MEMORY;
    const size_t accessible =
        (bytes + 16 + PAGE - 1) / PAGE * PAGE; // at least 16 bytes of red zone
    char *mapped = (char *)mmap(nullptr, accessible + 2 * PAGE, PROT_NONE,
                                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (mapped == MAP_FAILED)
        return CUDA_ERROR_OUT_OF_MEMORY;
    Allocation a = {bytes, mapped + PAGE, mapped + PAGE + accessible, contexts.back()};
    mprotect(a.pages, accessible, PROT_READ | PROT_WRITE);
    char *start = a.end - (bytes + 15) / 16 * 16;
    paint(a.pages, start);
    memset(start, 0xFF, bytes);
    paint(start + bytes, a.end);
    *pointer = (CUdeviceptr)start;
    allocations[*pointer] = a;
    used_bytes += bytes;
    return CUDA_SUCCESS;
}
CUresult release(CUdeviceptr pointer) {
    auto found = allocations.find(pointer);
    if (found == allocations.end())
        return CUDA_ERROR_INVALID_VALUE;
    used_bytes -= found->second.bytes;
    munmap(found->second.pages - PAGE, found->second.end - found->second.pages + 2 * PAGE);
    allocations.erase(found);
    return CUDA_SUCCESS;
}
// The allocation that holds the address, or whose forbidden pages do.
std::map<CUdeviceptr, Allocation>::iterator around(CUdeviceptr address) {
    for (auto a = allocations.begin(); a != allocations.end(); ++a)
        if (address >= (CUdeviceptr)a->second.pages - PAGE &&
            address < (CUdeviceptr)a->second.end + PAGE)
            return a;
    return allocations.end();
}
bool inside(CUdeviceptr pointer, size_t bytes) {
    if (!bytes)
        return true;
    auto a = allocations.upper_bound(pointer);
    if (a == allocations.begin())
        return false;
    --a;
    return pointer + bytes <= a->first + a->second.bytes;
}
bool red_zones_intact() {
    for (auto &a : allocations) {
        char *start = (char *)a.first, *end = start + a.second.bytes, *p;
        if (!(p = damaged(a.second.pages, start)) && !(p = damaged(end, a.second.end)))
            continue;
        char text[160];
        snprintf(text, sizeof text, "write outside a %zu-byte allocation (%td bytes %s)",
                 a.second.bytes, p < start ? start - p : p - end,
                 p < start ? "before its start" : "after its end");
        detail = text;
        return false;
    }
    return true;
}
void name_fault(const void *address) {
    auto a = around((CUdeviceptr)address);
    char text[160];
    if (a == allocations.end())
        snprintf(text, sizeof text, " (%p, near no allocation)", address);
    else
        snprintf(text, sizeof text, " (%td bytes from the start of a %zu-byte allocation)",
                 (char *)address - (char *)a->first, a->second.bytes);
    detail += text;
}
double now() {
    timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e3 + t.tv_nsec * 1e-6;
}

CUresult load(CUmodule *module, const void *image) {
    USABLE();
    auto *bytes = (const unsigned char *)image; // of an ELF file, which ends with its section table
    if (memcmp(bytes, "\177ELF", 4))
        return CUDA_ERROR_INVALID_IMAGE;
    const unsigned char machine_cuda = 190;
    if (bytes[18] == machine_cuda && bytes[19] == 0) {
        detail = "a real cubin: have the stand-in nvcc first on PATH";
        return CUDA_ERROR_NO_BINARY_FOR_GPU;
    }
    uint64_t table;
    uint16_t entry, entries;
    memcpy(&table, bytes + 40, 8);
    memcpy(&entry, bytes + 58, 2);
    memcpy(&entries, bytes + 60, 2);
    const size_t size = table + (size_t)entry * entries;
    char path[] = "/tmp/cuda_emulator_XXXXXX";
    const int file = mkstemp(path);
    if (file < 0)
        return CUDA_ERROR_OPERATING_SYSTEM;
    const bool written = write(file, image, size) == (ssize_t)size;
    close(file);
    void *library = written ? dlopen(path, RTLD_NOW | RTLD_LOCAL) : nullptr;
    if (written && !library)
        detail = dlerror();
    unlink(path);
    if (!library)
        return CUDA_ERROR_INVALID_IMAGE;
    *module = (CUmodule) new Module{library, {}};
    return CUDA_SUCCESS;
}

} // namespace

extern "C" {

// For tests: the counters in the order of Counter, set to zero afterwards if asked.
void cuda_emulator_counters(long *values, int reset) {
    std::lock_guard<std::mutex> guard(lock);
    memcpy(values, counters, sizeof counters);
    const long retained = counters[RETAINED];
    if (reset)
        memset(counters, 0, sizeof counters), counters[RETAINED] = retained;
}
// For tests: makes a context usable again that a planted bug has spoilt.
void cuda_emulator_forgive() {
    std::lock_guard<std::mutex> guard(lock);
    sticky = CUDA_SUCCESS;
    detail.clear();
    for (auto &a : allocations) {
        paint(a.second.pages, (char *)a.first);
        paint((char *)a.first + a.second.bytes, a.second.end);
    }
}

// -- Driver and device
// -----------------------------------------------------------------------------

CUresult cuInit(unsigned) {
    if (getenv("CUDA_EMULATOR_NO_DEVICE"))
        return CUDA_ERROR_NO_DEVICE;
    if (initialised_in && initialised_in != getpid())
        return CUDA_ERROR_NOT_INITIALIZED;
    initialised_in = getpid();
    return CUDA_SUCCESS;
}
CUresult cuDriverGetVersion(int *version) {
    *version = CUDA_VERSION;
    return CUDA_SUCCESS;
}
CUresult cuGetErrorString(CUresult error, const char **text) {
    static thread_local std::string buffer;
    switch (error) {
    case CUDA_ERROR_NOT_SUPPORTED:
        buffer = "not in the emulator";
        break;
    case CUDA_ERROR_NO_DEVICE:
        buffer = "no CUDA-capable device is detected";
        break;
    case CUDA_ERROR_OUT_OF_MEMORY:
        buffer = "out of memory";
        break;
    case CUDA_ERROR_NOT_INITIALIZED:
        buffer = "initialization error";
        break;
    case CUDA_ERROR_INVALID_CONTEXT:
        buffer = "invalid device context";
        break;
    case CUDA_ERROR_INVALID_VALUE:
        buffer = "invalid argument";
        break;
    case CUDA_ERROR_ILLEGAL_ADDRESS:
        buffer = "illegal memory access";
        break;
    case CUDA_ERROR_LAUNCH_FAILED:
        buffer = "unspecified launch failure";
        break;
    default:
        buffer = "error " + std::to_string((int)error);
    }
    if (!detail.empty())
        buffer += ": " + detail;
    *text = buffer.c_str();
    return CUDA_SUCCESS;
}
CUresult cuGetErrorName(CUresult error, const char **text) {
    static thread_local std::string buffer;
    buffer = "CUDA_EMULATOR_ERROR_" + std::to_string((int)error);
    *text = buffer.c_str();
    return CUDA_SUCCESS;
}
CUresult cuDeviceGetCount(int *count) {
    *count = 1;
    return initialised_in == getpid() ? CUDA_SUCCESS : CUDA_ERROR_NOT_INITIALIZED;
}
CUresult cuDeviceGet(CUdevice *device, int ordinal) {
    if (initialised_in != getpid())
        return CUDA_ERROR_NOT_INITIALIZED;
    *device = ordinal;
    return ordinal == 0 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE;
}
CUresult cuDeviceGetName(char *name, int size, CUdevice) {
    snprintf(name, size, "CUDA emulator");
    return CUDA_SUCCESS;
}
CUresult cuDeviceTotalMem(size_t *bytes, CUdevice) {
    *bytes = TOTAL_BYTES;
    return CUDA_SUCCESS;
}
CUresult cuDeviceComputeCapability(int *major, int *minor, CUdevice) {
    *major = 9, *minor = 0;
    return CUDA_SUCCESS;
}
CUresult cuDeviceGetPCIBusId(char *text, int size, CUdevice) {
    snprintf(text, size, "0000:00:00.0");
    return CUDA_SUCCESS;
}
CUresult cuDeviceGetAttribute(int *value, CUdevice_attribute attribute, CUdevice) {
    switch ((int)attribute) {
    case CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK:
    case CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_X:
    case CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Y:
        *value = 1024;
        break;
    case CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Z:
        *value = 64;
        break;
    case CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X:
        *value = 2147483647;
        break;
    case CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Y:
    case CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Z:
        *value = 65535;
        break;
    case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK:
        *value = SHARED_LIMIT;
        break;
    case CU_DEVICE_ATTRIBUTE_WARP_SIZE:
        *value = 32;
        break;
    case CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT:
        *value = 4;
        break;
    case CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR:
        *value = 2048;
        break;
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR:
        *value = 9;
        break;
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR:
        *value = 0;
        break;
    case CU_DEVICE_ATTRIBUTE_TEXTURE_ALIGNMENT:
        *value = 512;
        break;
    case CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_BLOCK:
        *value = 65536;
        break;
    default:
        *value = 1;
    }
    return CUDA_SUCCESS;
}

// -- Contexts
// --------------------------------------------------------------------------------------

CUresult cuCtxCreate_v4(CUcontext *context, CUctxCreateParams *, unsigned, CUdevice) {
    if (initialised_in != getpid())
        return CUDA_ERROR_NOT_INITIALIZED;
    *context = (CUcontext)calloc(1, 16);
    contexts.push_back(*context);
    return CUDA_SUCCESS;
}
CUresult cuCtxDestroy(CUcontext context) {
    for (size_t i = contexts.size(); i-- > 0;)
        if (contexts[i] == context)
            contexts.erase(contexts.begin() + i);
    return CUDA_SUCCESS;
}
CUresult cuCtxDetach(CUcontext context) { return cuCtxDestroy(context); }
CUresult cuCtxPushCurrent(CUcontext context) {
    if (initialised_in != getpid())
        return CUDA_ERROR_NOT_INITIALIZED;
    contexts.push_back(context);
    return CUDA_SUCCESS;
}
CUresult cuCtxPopCurrent(CUcontext *context) {
    if (initialised_in != getpid())
        return CUDA_ERROR_NOT_INITIALIZED;
    if (contexts.empty())
        return CUDA_ERROR_INVALID_CONTEXT;
    if (context)
        *context = contexts.back();
    contexts.pop_back();
    return CUDA_SUCCESS;
}
CUresult cuCtxGetCurrent(CUcontext *context) {
    *context = contexts.empty() ? nullptr : contexts.back();
    return CUDA_SUCCESS;
}
CUresult cuCtxSetCurrent(CUcontext context) {
    if (!contexts.empty())
        contexts.pop_back();
    if (context)
        contexts.push_back(context);
    return CUDA_SUCCESS;
}
CUresult cuCtxGetDevice(CUdevice *device) {
    if (contexts.empty())
        return CUDA_ERROR_INVALID_CONTEXT;
    *device = 0;
    return CUDA_SUCCESS;
}
CUresult cuCtxSynchronize(void) {
    USABLE();
    return CUDA_SUCCESS;
}
CUresult cuCtxGetApiVersion(CUcontext, unsigned *version) {
    *version = CUDA_VERSION;
    return CUDA_SUCCESS;
}
CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice) {
    if (initialised_in != getpid())
        return CUDA_ERROR_NOT_INITIALIZED;
    ++counters[RETAINED];
    *context = (CUcontext)primary_context;
    return CUDA_SUCCESS;
}
CUresult cuDevicePrimaryCtxRelease(CUdevice) {
    --counters[RETAINED];
    return CUDA_SUCCESS;
}

// -- Memory
// ----------------------------------------------------------------------------------------

CUresult cuMemGetInfo(size_t *free, size_t *total) {
    USABLE();
    *total = TOTAL_BYTES, *free = TOTAL_BYTES - used_bytes;
    return CUDA_SUCCESS;
}
CUresult cuMemAlloc(CUdeviceptr *pointer, size_t bytes) {
    USABLE();
    return allocate(pointer, bytes);
}
CUresult cuMemFree(CUdeviceptr pointer) {
    USABLE();
    return release(pointer);
}
CUresult cuMemGetAddressRange(CUdeviceptr *base, size_t *bytes, CUdeviceptr pointer) {
    USABLE();
    auto a = around(pointer);
    if (a == allocations.end())
        return CUDA_ERROR_INVALID_VALUE;
    if (base)
        *base = a->first;
    if (bytes)
        *bytes = a->second.bytes;
    return CUDA_SUCCESS;
}
CUresult cuPointerGetAttributes(unsigned count, CUpointer_attribute *attributes, void **data,
                                CUdeviceptr pointer) {
    USABLE();
    auto a = around(pointer);
    const bool known = a != allocations.end();
    for (unsigned i = 0; i < count; ++i)
        switch ((int)attributes[i]) {
        case CU_POINTER_ATTRIBUTE_CONTEXT:
            *(CUcontext *)data[i] = known ? a->second.context : nullptr;
            break;
        case CU_POINTER_ATTRIBUTE_MEMORY_TYPE:
            *(unsigned *)data[i] = known ? CU_MEMORYTYPE_DEVICE : 0;
            break;
        case CU_POINTER_ATTRIBUTE_IS_MANAGED: // as a single byte
            *(char *)data[i] = 0;
            break;
        case CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL:
            *(int *)data[i] = known ? 0 : -2; // CU_DEVICE_INVALID
            break;
        default:
            return CUDA_ERROR_NOT_SUPPORTED;
        }
    return CUDA_SUCCESS;
}
CUresult cuMemHostAlloc(void **pointer, size_t bytes, unsigned) {
    USABLE();
    *pointer = malloc(bytes);
    return CUDA_SUCCESS;
}
CUresult cuMemFreeHost(void *pointer) {
    free(pointer);
    return CUDA_SUCCESS;
}
CUresult cuMemHostRegister(void *, size_t, unsigned) { return CUDA_SUCCESS; }
CUresult cuMemHostUnregister(void *) { return CUDA_SUCCESS; }
CUresult cuMemcpyHtoD(CUdeviceptr to, const void *from, size_t bytes) {
    USABLE();
    if (!inside(to, bytes))
        return CUDA_ERROR_INVALID_VALUE;
    memcpy((void *)to, from, bytes);
    ++counters[TO_DEVICE], counters[TO_DEVICE_BYTES] += bytes;
    return CUDA_SUCCESS;
}
CUresult cuMemcpyDtoH(void *to, CUdeviceptr from, size_t bytes) {
    USABLE();
    if (!inside(from, bytes))
        return CUDA_ERROR_INVALID_VALUE;
    memcpy(to, (void *)from, bytes);
    ++counters[TO_HOST], counters[TO_HOST_BYTES] += bytes;
    return CUDA_SUCCESS;
}
CUresult cuMemcpyDtoD(CUdeviceptr to, CUdeviceptr from, size_t bytes) {
    USABLE();
    if (!inside(to, bytes) || !inside(from, bytes))
        return CUDA_ERROR_INVALID_VALUE;
    memmove((void *)to, (void *)from, bytes);
    ++counters[ON_DEVICE];
    return CUDA_SUCCESS;
}
CUresult cuMemcpyHtoDAsync(CUdeviceptr to, const void *from, size_t bytes, CUstream) {
    return cuMemcpyHtoD(to, from, bytes);
}
CUresult cuMemcpyDtoHAsync(void *to, CUdeviceptr from, size_t bytes, CUstream) {
    return cuMemcpyDtoH(to, from, bytes);
}
CUresult cuMemcpyDtoDAsync(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream) {
    return cuMemcpyDtoD(to, from, bytes);
}
CUresult cuMemsetD8(CUdeviceptr to, unsigned char value, size_t count) {
    USABLE();
    if (!inside(to, count))
        return CUDA_ERROR_INVALID_VALUE;
    memset((void *)to, value, count);
    return CUDA_SUCCESS;
}
CUresult cuMemsetD8Async(CUdeviceptr to, unsigned char value, size_t count, CUstream) {
    return cuMemsetD8(to, value, count);
}
CUresult cuMemsetD32(CUdeviceptr to, unsigned value, size_t count) {
    USABLE();
    if (!inside(to, 4 * count))
        return CUDA_ERROR_INVALID_VALUE;
    for (size_t i = 0; i < count; ++i)
        ((unsigned *)to)[i] = value;
    return CUDA_SUCCESS;
}
CUresult cuMemsetD32Async(CUdeviceptr to, unsigned value, size_t count, CUstream) {
    return cuMemsetD32(to, value, count);
}

// -- Modules and launches
// --------------------------------------------------------------------------

CUresult cuModuleLoadData(CUmodule *module, const void *image) { return load(module, image); }
CUresult cuModuleLoadDataEx(CUmodule *module, const void *image, unsigned, CUjit_option *,
                            void **) {
    return load(module, image);
}
CUresult cuModuleUnload(CUmodule) { return CUDA_SUCCESS; } // its fibers' stacks stay for the next
CUresult cuModuleGetFunction(CUfunction *function, CUmodule handle, const char *name) {
    USABLE();
    Module *module = (Module *)handle;
    void *entry = dlsym(module->library, (std::string("emulator_run_") + name).c_str());
    if (!entry)
        return CUDA_ERROR_NOT_FOUND;
    Function &f = module->functions[name];
    f = {(int (*)(emulator::Launch *))entry, name};
    *function = (CUfunction)&f;
    return CUDA_SUCCESS;
}
CUresult cuFuncGetAttribute(int *value, CUfunction_attribute attribute, CUfunction) {
    *value = attribute == CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK ? 1024 : 0;
    return CUDA_SUCCESS;
}
CUresult cuFuncSetAttribute(CUfunction, CUfunction_attribute, int) { return CUDA_SUCCESS; }
CUresult cuFuncSetCacheConfig(CUfunction, CUfunc_cache) { return CUDA_SUCCESS; }
CUresult cuFuncSetBlockShape(CUfunction, int, int, int) { return CUDA_SUCCESS; } // told again
CUresult cuFuncSetSharedSize(CUfunction, unsigned) { return CUDA_SUCCESS; }      // at the launch
CUresult cuLaunchKernel(CUfunction handle, unsigned grid_x, unsigned grid_y, unsigned grid_z,
                        unsigned block_x, unsigned block_y, unsigned block_z, unsigned shared,
                        CUstream, void **parameters, void **extra) {
    USABLE();
    Function *f = (Function *)handle;
    if (parameters)
        return CUDA_ERROR_NOT_SUPPORTED;
    if (!grid_x || !grid_y || !grid_z || !block_x || !block_y || !block_z || grid_x > 2147483647u ||
        grid_y > 65535 || grid_z > 65535 || block_x > 1024 || block_y > 1024 || block_z > 64 ||
        (size_t)block_x * block_y * block_z > 1024 || shared > SHARED_LIMIT) {
        detail = f->name + ": grid, block or dynamic shared memory is too large, or zero";
        return CUDA_ERROR_INVALID_VALUE;
    }
    emulator::Launch launch = {
        {grid_x, grid_y, grid_z}, {block_x, block_y, block_z}, shared, nullptr, 0, nullptr, {0}};
    for (int i = 0; extra && extra[i] != CU_LAUNCH_PARAM_END; i += 2) {
        if (extra[i] == CU_LAUNCH_PARAM_BUFFER_POINTER)
            launch.arguments = (const unsigned char *)extra[i + 1];
        else if (extra[i] == CU_LAUNCH_PARAM_BUFFER_SIZE)
            launch.arguments_size = *(size_t *)extra[i + 1];
    }
    ++counters[LAUNCHES];
    const int outcome = f->run(&launch);
    detail = f->name + ": " + launch.error;
    if (outcome == emulator::ILLEGAL_ADDRESS)
        name_fault(launch.fault_address);
    if (outcome == emulator::BAD_ARGUMENTS)
        return CUDA_ERROR_INVALID_VALUE;
    if (outcome != emulator::OK)
        return sticky = (CUresult)outcome;
    detail.clear();
    if (red_zones_intact())
        return CUDA_SUCCESS;
    detail = f->name + ": " + detail;
    return sticky = CUDA_ERROR_ILLEGAL_ADDRESS;
}

// -- Streams and events: everything is finished when the call returns
// ------------------------------

CUresult cuStreamCreate(CUstream *stream, unsigned) {
    USABLE();
    *stream = (CUstream)calloc(1, 16);
    return CUDA_SUCCESS;
}
CUresult cuStreamDestroy(CUstream stream) {
    free(stream);
    return CUDA_SUCCESS;
}
CUresult cuStreamSynchronize(CUstream) { return sticky; }
CUresult cuStreamQuery(CUstream) { return sticky; }
CUresult cuStreamWaitEvent(CUstream, CUevent, unsigned) { return CUDA_SUCCESS; }
CUresult cuEventCreate(CUevent *event, unsigned) {
    USABLE();
    *event = (CUevent) new Event{0};
    return CUDA_SUCCESS;
}
CUresult cuEventDestroy(CUevent event) {
    delete (Event *)event;
    return CUDA_SUCCESS;
}
CUresult cuEventRecord(CUevent event, CUstream) {
    ((Event *)event)->milliseconds = now();
    return CUDA_SUCCESS;
}
CUresult cuEventSynchronize(CUevent) { return sticky; }
CUresult cuEventQuery(CUevent) { return sticky; }
CUresult cuEventElapsedTime(float *milliseconds, CUevent from, CUevent to) {
    *milliseconds = (float)(((Event *)to)->milliseconds - ((Event *)from)->milliseconds);
    return CUDA_SUCCESS;
}
CUresult cuProfilerStart(void) { return CUDA_SUCCESS; }
CUresult cuProfilerStop(void) { return CUDA_SUCCESS; }

} // extern "C"
