/* Intel's AMX for processors without it, as a handler of SIGILL: tests of generated code run with it.

   Each thread has a unit. The few instructions that the code generator uses are decoded and done as the Intel SDM
   (vol. 1, chapter 18, and vol. 2) says; what it calls an error ends the process by SIGILL with a message. */
#define _GNU_SOURCE
#include <immintrin.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <ucontext.h>

enum { TILES = 8, ROWS = 16, WORDS = 16 };

typedef struct {
    int configured;
    int rows[TILES], bytes[TILES];
    uint32_t data[TILES][ROWS][WORDS];
} Unit;

static __thread Unit unit;
static __thread int is_known;
static long products, configurations, threads, configured; /* threads that ever had a unit, those that have one now */

static const int REGISTERS[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                                  REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};

typedef struct {
    int opcode, prefix, reg, rm, third, is_register;
    uint64_t address, stride; /* of memory, and what an index register adds a row */
    int has_sib;
    const uint8_t *end;
} Instruction;

static int32_t word_at(const uint8_t *p) {
    int32_t value;
    memcpy(&value, p, 4);
    return value;
}

/* 0 when this is no VEX-coded instruction of map 0F38. */
static int decode(const greg_t *registers, Instruction *in) {
    const uint8_t *p = (const uint8_t *)registers[REG_RIP];
    if (p[0] != 0xC4 || (p[1] & 31) != 2 || (p[2] & 0x84)) return 0;
    int index_high = p[1] & 0x40 ? 0 : 8, base_high = p[1] & 0x20 ? 0 : 8;
    in->third = (~p[2] >> 3) & 15;
    in->prefix = p[2] & 3;
    in->opcode = p[3];
    int mod = p[4] >> 6;
    in->reg = (p[4] >> 3) & 7;
    in->rm = p[4] & 7;
    in->is_register = mod == 3;
    in->has_sib = mod != 3 && in->rm == 4;
    p += 5;
    in->address = in->stride = 0;
    if (mod != 3) {
        int base = in->rm, relative = mod == 0 && in->rm == 5;
        if (in->has_sib) {
            int index = ((*p >> 3) & 7) + index_high;
            base = *p & 7;
            if (index != 4) in->stride = (uint64_t)registers[REGISTERS[index]] << (*p >> 6);
            p += 1;
        }
        int bare = mod == 0 && base == 5; /* a displacement alone */
        if (!bare) in->address = registers[REGISTERS[base + base_high]];
        if (mod == 1) in->address += (int8_t)*p++;
        if (mod == 2 || bare) in->address += (int64_t)word_at(p), p += 4;
        if (relative) in->address += (uint64_t)p;
    }
    in->end = p;
    return 1;
}

static void release(void) {
    __atomic_fetch_sub(&configured, unit.configured, __ATOMIC_RELAXED);
    memset(&unit, 0, sizeof unit);
}

static const char *configure(const uint8_t *c) {
    release();
    if (c[0] == 0) return 0;
    if (c[0] != 1) return "an unknown palette";
    for (int i = 1; i < 64; i++)
        if (c[i] && !(i >= 16 && i < 32) && !(i >= 48 && i < 56)) return "a reserved byte is not zero";
    for (int i = 0; i < TILES; i++) {
        unit.bytes[i] = c[16 + 2 * i] + 256 * c[17 + 2 * i];
        unit.rows[i] = c[48 + i];
        if (unit.bytes[i] > 64 || unit.rows[i] > 16) return "a tile is too large";
        if (!unit.bytes[i] != !unit.rows[i]) return "a tile has rows or columns alone";
    }
    unit.configured = 1;
    __atomic_fetch_add(&configurations, 1, __ATOMIC_RELAXED);
    __atomic_fetch_add(&configured, 1, __ATOMIC_RELAXED);
    __atomic_fetch_add(&threads, !is_known, __ATOMIC_RELAXED);
    is_known = 1;
    return 0;
}

static const char *usable(int tile) {
    if (!unit.configured) return "the unit is not configured";
    if (tile >= TILES || !unit.rows[tile] || unit.bytes[tile] % 4) return "the tile is not valid";
    return 0;
}

static void add_bytes(uint32_t *sum, uint32_t a, uint32_t b, int a_signed, int b_signed) {
    for (int i = 0; i < 32; i += 8) {
        int32_t x = a_signed ? (int8_t)(a >> i) : (uint8_t)(a >> i);
        int32_t y = b_signed ? (int8_t)(b >> i) : (uint8_t)(b >> i);
        *sum += (uint32_t)(x * y);
    }
}

static float real(uint32_t bits) {
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

static const char *multiply(const Instruction *in) {
    int c = in->reg, a = in->rm, b = in->third, floats = in->opcode == 0x5C;
    if (c == a || c == b || a == b) return "a product names one tile twice";
    for (int i = 0; i < 3; i++) {
        const char *problem = usable((int[]){a, b, c}[i]);
        if (problem) return problem;
    }
    int m = unit.rows[a], k = unit.rows[b], n = unit.bytes[c] / 4;
    if (unit.rows[c] != m || unit.bytes[a] / 4 != k || unit.bytes[b] / 4 != n) return "the tiles do not fit";
    unsigned state = _mm_getcsr();
    _mm_setcsr(0x9FC0); /* denormal numbers are zero, before and after; nearest even; no exceptions */
    for (int row = 0; row < m; row++)
        for (int column = 0; column < n; column++) {
            uint32_t *sum = &unit.data[c][row][column];
            float even = 0, odd = 0;
            for (int i = 0; i < k; i++) {
                uint32_t x = unit.data[a][row][i], y = unit.data[b][i][column];
                if (floats) {
                    even = __builtin_fmaf(real(x << 16), real(y << 16), even);
                    odd = __builtin_fmaf(real(x & 0xFFFF0000u), real(y & 0xFFFF0000u), odd);
                } else /* prefixes: none uu, 66 us, F3 su, F2 ss */
                    add_bytes(sum, x, y, in->prefix >= 2, in->prefix & 1);
            }
            if (floats) {
                float total = real(*sum) + (even + odd);
                memcpy(sum, &total, 4);
            }
        }
    _mm_setcsr(state);
    for (int row = 0; row < ROWS; row++) /* what lies outside of the shape is zero */
        memset(&unit.data[c][row][row < m ? n : 0], 0, 4 * (size_t)(row < m ? WORDS - n : WORDS));
    __atomic_fetch_add(&products, 1, __ATOMIC_RELAXED);
    return 0;
}

static const char *move(const Instruction *in, int stores) {
    const char *problem = usable(in->reg);
    if (problem) return problem;
    if (!in->has_sib) return "rows without an index byte";
    if (!stores) memset(unit.data[in->reg], 0, sizeof unit.data[in->reg]);
    for (int row = 0; row < unit.rows[in->reg]; row++) {
        void *memory = (void *)(in->address + (uint64_t)row * in->stride), *tile = unit.data[in->reg][row];
        memcpy(stores ? memory : tile, stores ? tile : memory, (size_t)unit.bytes[in->reg]);
    }
    return 0;
}

static const char *execute(const greg_t *registers, Instruction *in) {
    enum { NONE, P66, F3, F2 };
    if (!decode(registers, in)) return "this instruction is unknown";
    if (in->opcode == 0x49 && in->is_register && in->prefix == NONE && in->reg == 0) {
        release(); /* TILERELEASE */
        return 0;
    }
    if (in->opcode == 0x49 && in->is_register && in->prefix == F2) { /* TILEZERO */
        const char *problem = usable(in->reg);
        if (!problem) memset(unit.data[in->reg], 0, sizeof unit.data[in->reg]);
        return problem;
    }
    if (in->opcode == 0x49 && !in->is_register && in->prefix == NONE) return configure((const uint8_t *)in->address);
    if (in->opcode == 0x4B && !in->is_register && in->prefix) return move(in, in->prefix == F3);
    if (in->opcode == 0x5E && in->is_register) return multiply(in);
    if (in->opcode == 0x5C && in->is_register && in->prefix == F3) return multiply(in);
    return "this instruction is unknown";
}

static void handle(int number, siginfo_t *info, void *context) {
    (void)info;
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    Instruction in;
    const char *problem = execute(registers, &in);
    if (!problem) {
        registers[REG_RIP] = (greg_t)in.end;
        return;
    }
    const uint8_t *p = (const uint8_t *)registers[REG_RIP];
    fprintf(stderr, "%s: %02x %02x %02x %02x %02x\n", problem, p[0], p[1], p[2], p[3], p[4]);
    signal(number, SIG_DFL); /* and the instruction ends the process */
}

void install(void) {
    struct sigaction action = {.sa_sigaction = handle, .sa_flags = SA_SIGINFO};
    sigaction(SIGILL, &action, 0);
}

long counted_configured(void) { return configured; }
long counted_products(void) { return products; }
long counted_configurations(void) { return configurations; }
long counted_threads(void) { return threads; }
