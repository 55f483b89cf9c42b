// Kernels that are right, and the same with a bug in each: what the emulator must find, and must
// not. Read by tests/cuda/test_cuda_emulator.py; 256 threads a block.

extern "C" __global__ void right_reverse(const float *x, float *y) {
    __shared__ float s[256];
    s[threadIdx.x] = x[threadIdx.x];
    __syncthreads();
    y[threadIdx.x] = s[255 - threadIdx.x];
}
extern "C" __global__ void right_sum(const float *x, float *y) {
    extern __shared__ float sums[];
    float s = x[threadIdx.x];
    for (int o = 16; o; o /= 2)
        s += __shfl_down_sync(0xffffffffu, s, o);
    if (threadIdx.x % 32 == 0)
        sums[threadIdx.x / 32] = s;
    if (__syncthreads_count(threadIdx.x % 2) != 128)
        return;
    if (threadIdx.x == 0)
        for (int w = 1; w < 8; ++w)
            s += sums[w];
    unsigned odd = __ballot_sync(0xffffffffu, threadIdx.x % 2);
    if (threadIdx.x == 0)
        y[0] = odd == 0xaaaaaaaau ? s : 0;
}
extern "C" __global__ void right_xor(const float *x, float *y) {
    float s = x[threadIdx.x];
    for (int o = 8; o; o /= 2)
        s += __shfl_xor_sync(0xffffffffu, s, o);
    y[threadIdx.x] = s;
}

extern "C" __global__ void bug_no_barrier(const float *x, float *y) {
    __shared__ float s[256];
    s[threadIdx.x] = x[threadIdx.x];
    y[threadIdx.x] = s[255 - threadIdx.x];
}
extern "C" __global__ void bug_warp_synchronous(const float *x, float *y) {
    __shared__ float s[256];
    s[threadIdx.x] = x[threadIdx.x];
    y[threadIdx.x] = s[threadIdx.x ^ 1];
}
extern "C" __global__ void bug_warps_run_ahead(const float *x, float *y) {
    __shared__ float s[256];
    s[threadIdx.x] = x[threadIdx.x];
    __syncthreads();
    float v = __shfl_xor_sync(0xffffffffu, 0.0f, 1); // warps do not wait for each other here
    v += s[255 - threadIdx.x];
    v += __shfl_xor_sync(0xffffffffu, 0.0f, 1);
    s[threadIdx.x] = sqrtf(-1);
    y[threadIdx.x] = v;
}
extern "C" __global__ void bug_uninitialised(const float *x, float *y) {
    __shared__ float s[256];
    if (threadIdx.x < 200)
        s[threadIdx.x] = x[threadIdx.x];
    __syncthreads();
    y[threadIdx.x] = s[threadIdx.x];
}
extern "C" __global__ void bug_unwritten(const float *x, float *y) {
    if (threadIdx.x != 17)
        y[threadIdx.x] = x[threadIdx.x];
}
extern "C" __global__ void bug_barrier_not_for_all(const float *x, float *y) {
    if (threadIdx.x < 100)
        __syncthreads();
    y[threadIdx.x] = x[threadIdx.x];
}
extern "C" __global__ void bug_two_barriers(const float *x, float *y) {
    if (threadIdx.x < 128) {
        __syncthreads();
    } else {
        __syncthreads();
    }
    y[threadIdx.x] = x[threadIdx.x];
}
extern "C" __global__ void bug_half_a_warp(const float *x, float *y) {
    float s = x[threadIdx.x];
    if (threadIdx.x % 32 < 16)
        s += __shfl_xor_sync(0xffffffffu, s, 1);
    y[threadIdx.x] = s;
}
extern "C" __global__ void bug_lane_not_in_mask(const float *x, float *y) {
    float s = x[threadIdx.x];
    if (threadIdx.x % 32 < 16)
        s = __shfl_xor_sync(0x0000ffffu, s, 16);
    y[threadIdx.x] = s;
}
extern "C" __global__ void bug_write_after(const float *x, float *y) {
    y[threadIdx.x + 1] = x[threadIdx.x];
}
extern "C" __global__ void bug_write_before(const float *x, float *y) {
    y[(int)threadIdx.x - 1] = x[threadIdx.x];
}
extern "C" __global__ void bug_read_after(const float *x, float *y) {
    y[threadIdx.x] = x[threadIdx.x + 1];
}
extern "C" __global__ void bug_read_before(const float *x, float *y) {
    y[threadIdx.x] = x[(int)threadIdx.x - 1];
}
extern "C" __global__ void bug_read_null(const float *x, float *y) {
    y[threadIdx.x] = ((const float *)0)[threadIdx.x];
}
