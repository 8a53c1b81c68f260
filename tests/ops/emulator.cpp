// Runs the text of a CUDA kernel on the CPU, so that tests need no GPU. This file is compiled twice:
//
// - With -DCUDA_SOURCE='"nms.cu"' it gives the words of CUDA a meaning in C++ and includes that text. It goes with
//   -fsanitize=thread, not for the library of that name, but because the compiler then announces every access to memory
//   by a call of __tsan_read4(address) and its like, which are defined here.
// - By itself it is what runs the kernel: a fibre for each CUDA thread, which runs until it ends or comes to a barrier;
//   then the next, in random order; when all have come, the next phase. Blocks run one by one, in random order too.
//
// A launch fails, with words, if
// - threads wait at a barrier while others ended or wait at another one;
// - two threads touch the same memory between two barriers, or in two blocks, and one of them writes to it (atomics
//   among themselves may);
// - memory is touched that is neither the block's shared memory nor an argument, or at no multiple of its size, or
//   shared memory is read before it is written.
// So a missing barrier is found whatever the order happens to be. Warps and the order of memory are not modelled.

#include <cstddef>
#include <cstdint>

struct Place {
    unsigned x, y, z;
};

#ifdef CUDA_SOURCE  // ---------------------------------------------------------------------- what a kernel may use

#include <cstring>
#include <utility>

extern "C" void emulator_barrier(int line);
extern "C" void *emulator_dynamic_shared();
extern "C" unsigned long long emulator_atomic_or(unsigned long long *word, unsigned long long bits);
extern "C" Place emulator_grid(), emulator_block(), emulator_block_at(), emulator_thread_at();

#define __CUDACC__ 12
#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(threads)
#define __shared__ static __attribute__((section("emulated_shared")))  // the scheduler finds it there
#define __syncthreads() emulator_barrier(__LINE__)
#define gridDim emulator_grid()
#define blockDim emulator_block()
#define blockIdx emulator_block_at()
#define threadIdx emulator_thread_at()

static inline unsigned long long atomicOr(unsigned long long *word, unsigned long long bits) {
    return emulator_atomic_or(word, bits);
}
static inline int __ffsll(long long word) { return __builtin_ffsll(word); }
static inline int __popcll(unsigned long long word) { return __builtin_popcountll(word); }
static inline float __fadd_rn(float a, float b) { return a + b; }
static inline float __fsub_rn(float a, float b) { return a - b; }
static inline float __fmul_rn(float a, float b) { return a * b; }
static inline float __fdiv_rn(float a, float b) { return a / b; }
static inline double __dadd_rn(double a, double b) { return a + b; }
static inline double __dsub_rn(double a, double b) { return a - b; }
static inline double __dmul_rn(double a, double b) { return a * b; }
static inline double __ddiv_rn(double a, double b) { return a / b; }
static inline float __int_as_float(int bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

// Calls a kernel with arguments as cuLaunchKernel gets them: the address of each.
template <class... Types, size_t... index>
__attribute__((no_sanitize("thread"), noinline)) static void unpack(void (*kernel)(Types...), void **addresses,
                                                                    std::index_sequence<index...>) {
    kernel(*(Types *)addresses[index]...);
}
template <class... Types>
static void unpack(void (*kernel)(Types...), void **addresses) {
    unpack(kernel, addresses, std::index_sequence_for<Types...>());
}
#define CALLABLE(kernel) \
    extern "C" void call_##kernel(void **addresses) { unpack(kernel, addresses); }

#include CUDA_SOURCE

#else  // ------------------------------------------------------------------------------------------- what runs it

#include <ucontext.h>

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <vector>

extern "C" {
extern char __start_emulated_shared[] __attribute__((weak, visibility("hidden")));  // from the linker
extern char __stop_emulated_shared[] __attribute__((weak, visibility("hidden")));
}

namespace {

constexpr size_t STACK = 64 * 1024;
constexpr unsigned SEVERAL = ~0u;
constexpr unsigned char RUBBISH = 0xA5;

// Who touched four bytes last. Phases are numbered from 1 and never twice.
struct Cell {
    unsigned write_phase = 0, writer = 0, read_phase = 0, reader = 0;
    bool atomic = false;
};

struct Region {
    std::string name;
    uintptr_t start, end;
    bool shared;
    std::vector<Cell> cells;
};

struct Fibre {
    ucontext_t context;
    bool ended;
    int line;  // of the barrier it waits at
};

std::vector<Region> regions;  // the arguments; during a launch the shared memory too
std::vector<Fibre> fibres;
std::unique_ptr<char[]> stacks;
size_t stack_bytes = 0;
ucontext_t scheduler;
std::mt19937_64 generator;
Place grid_size, block_size, block_at, thread_at;
unsigned current, phase = 0, first_phase;  // the thread that runs; the phase now and that in which the block began
void (*entry)(void **);
void **arguments;
void *dynamic_shared;
std::string fault;

// Notes what is wrong and leaves the fibre for good, if one runs.
__attribute__((format(printf, 1, 2))) void fail(const char *format, ...) {
    char text[400];
    va_list values;
    va_start(values, format);
    vsnprintf(text, sizeof text, format, values);
    va_end(values);
    fault = "block " + std::to_string(block_at.x) + "," + std::to_string(block_at.y) + "," +
            std::to_string(block_at.z) + ": " + text;
}

[[noreturn]] void abandon() {
    setcontext(&scheduler);
    __builtin_unreachable();
}

// Whether somebody else's access in that phase has no barrier between it and one by the current thread.
bool at_once(unsigned then, unsigned thread) {
    if (then == phase) return thread != current;
    return then != 0 && then < first_phase;  // by another block of this launch: cells are cleared before each
}

enum Access { READ, WRITE, ATOMIC };

void touch(const void *address, size_t size, Access access, size_t alignment = 1) {
    const uintptr_t start = (uintptr_t)address, end = start + size, stack = (uintptr_t)stacks.get();
    if (start >= stack && end <= stack + stack_bytes) return;
    static size_t last = 0;  // accesses come in runs
    if (last >= regions.size() || start < regions[last].start || end > regions[last].end)
        for (last = 0; last < regions.size(); last++)
            if (start >= regions[last].start && end <= regions[last].end) break;
    const char *const verb = access == READ ? "reads" : access == WRITE ? "writes" : "changes";
    if (last == regions.size()) {
        fail("thread %u %s %zu bytes at %p, outside of every argument", current, verb, size, address);
        const Region *nearest = nullptr;
        for (const Region &region : regions)
            if (start >= region.start && (!nearest || region.start > nearest->start)) nearest = &region;
        if (nearest) fault += ", " + std::to_string(start - nearest->start) + " from the start of " + nearest->name;
        abandon();
    }
    Region &region = regions[last];
    if (start % alignment) {
        fail("thread %u %s %zu bytes at a multiple of less", current, verb, size);
        abandon();
    }
    for (size_t i = (start - region.start) / 4; i <= (end - 1 - region.start) / 4; i++) {
        Cell &cell = region.cells[i];
        if (access == READ && region.shared && !cell.write_phase) {
            fail("thread %u reads byte %zu of %s, which nobody wrote", current, 4 * i, region.name.c_str());
            abandon();
        }
        const bool together = access == ATOMIC && cell.atomic;
        if (!together && at_once(cell.write_phase, cell.writer)) {
            fail("race: thread %u %s byte %zu of %s, which thread %d writes", current, verb, 4 * i,
                 region.name.c_str(), (int)cell.writer);
            abandon();
        }
        if (access != READ && at_once(cell.read_phase, cell.reader)) {
            fail("race: thread %u %s byte %zu of %s, which thread %d reads", current, verb, 4 * i,
                 region.name.c_str(), (int)cell.reader);
            abandon();
        }
        if (access == READ) {
            cell.reader = cell.read_phase == phase && cell.reader != current ? SEVERAL : current;
            cell.read_phase = phase;
        } else {
            cell.writer = cell.write_phase == phase && cell.writer != current ? SEVERAL : current;
            cell.write_phase = phase;
            cell.atomic = access == ATOMIC;
        }
    }
}

void add_region(const std::string &name, const void *start, size_t bytes, bool shared) {
    if (bytes == 0) return;
    regions.push_back({name, (uintptr_t)start, (uintptr_t)start + bytes, shared, {}});
    regions.back().cells.resize((bytes + 3) / 4);
}

void fibre() {
    entry(arguments);
    fibres[current].ended = true;
}

Place place_of(unsigned long long number, const Place &size) {
    return {unsigned(number % size.x), unsigned(number / size.x % size.y), unsigned(number / size.x / size.y)};
}

void run_phase(std::vector<unsigned> &order) {
    phase++;
    std::shuffle(order.begin(), order.end(), generator);
    for (unsigned thread : order) {
        current = thread;
        thread_at = place_of(thread, block_size);
        swapcontext(&scheduler, &fibres[thread].context);
        if (!fault.empty()) return;
    }
}

void run_block(unsigned threads) {
    for (Region &region : regions)
        if (region.shared) {
            memset((void *)region.start, RUBBISH, region.end - region.start);
            std::fill(region.cells.begin(), region.cells.end(), Cell());
        }
    for (unsigned thread = 0; thread < threads; thread++) {
        Fibre &made = fibres[thread];
        made.ended = false;
        getcontext(&made.context);
        made.context.uc_stack.ss_sp = stacks.get() + thread * STACK;
        made.context.uc_stack.ss_size = STACK;
        made.context.uc_link = &scheduler;
        makecontext(&made.context, fibre, 0);
    }
    std::vector<unsigned> order(threads);
    std::iota(order.begin(), order.end(), 0u);
    first_phase = phase + 1;
    while (true) {
        run_phase(order);
        if (!fault.empty()) return;
        int ended = -1, waiting = -1;  // a thread that does
        for (unsigned thread = 0; thread < threads; thread++) {
            if (fibres[thread].ended)
                ended = thread;
            else if (waiting < 0)
                waiting = thread;
            else if (fibres[thread].line != fibres[waiting].line)
                return fail("divergence: thread %d waits at the barrier in line %d, thread %u at that in line %d",
                            waiting, fibres[waiting].line, thread, fibres[thread].line);
        }
        if (waiting < 0) return;
        if (ended >= 0)
            return fail("divergence: thread %d waits at the barrier in line %d, thread %d has ended", waiting,
                        fibres[waiting].line, ended);
    }
}

}  // namespace

extern "C" {

size_t emulator_static_shared() { return __stop_emulated_shared - __start_emulated_shared; }

// Lets the next launch touch this memory.
void emulator_allow(const char *name, const void *start, size_t bytes) { add_region(name, start, bytes, false); }

// Returns "" or what went wrong. `block` is the size of a block, `grid` the number of blocks.
const char *emulator_launch(void (*call)(void **), void **addresses, const Place *grid, const Place *block,
                            size_t shared_bytes, unsigned long long seed) {
    grid_size = *grid;
    block_size = *block;
    entry = call;
    arguments = addresses;
    fault.clear();
    generator.seed(seed);
    const unsigned threads = block->x * block->y * block->z;
    const unsigned long long blocks = 1ull * grid->x * grid->y * grid->z;
    if (stack_bytes < threads * STACK) {
        stack_bytes = threads * STACK;
        stacks.reset(new char[stack_bytes]);
    }
    fibres.resize(threads);
    std::vector<long long> memory((shared_bytes + 7) / 8);
    dynamic_shared = memory.data();
    add_region("the static shared memory", __start_emulated_shared, emulator_static_shared(), true);
    add_region("the dynamic shared memory", dynamic_shared, shared_bytes, true);
    std::vector<unsigned long long> order(blocks);
    std::iota(order.begin(), order.end(), 0ull);
    std::shuffle(order.begin(), order.end(), generator);
    for (unsigned long long number : order) {
        block_at = place_of(number, grid_size);
        run_block(threads);
        if (!fault.empty()) break;
    }
    regions.clear();
    return fault.c_str();
}

Place emulator_grid() { return grid_size; }
Place emulator_block() { return block_size; }
Place emulator_block_at() { return block_at; }
Place emulator_thread_at() { return thread_at; }

void emulator_barrier(int line) {
    fibres[current].line = line;
    swapcontext(&fibres[current].context, &scheduler);
}

void *emulator_dynamic_shared() { return dynamic_shared; }

unsigned long long emulator_atomic_or(unsigned long long *word, unsigned long long bits) {
    touch(word, sizeof *word, ATOMIC, sizeof *word);
    const unsigned long long before = *word;
    *word |= bits;
    return before;
}

void __tsan_init() {}
void __tsan_func_entry(void *) {}
void __tsan_func_exit() {}
void __tsan_read_range(void *address, size_t size) { touch(address, size, READ); }
void __tsan_write_range(void *address, size_t size) { touch(address, size, WRITE); }
#define ANNOUNCED(size)                                                             \
    void __tsan_read##size(void *address) { touch(address, size, READ, size); }     \
    void __tsan_write##size(void *address) { touch(address, size, WRITE, size); }   \
    void __tsan_unaligned_read##size(void *address) { touch(address, size, READ); } \
    void __tsan_unaligned_write##size(void *address) { touch(address, size, WRITE); }
ANNOUNCED(1)
ANNOUNCED(2)
ANNOUNCED(4)
ANNOUNCED(8)
ANNOUNCED(16)
}

#endif
