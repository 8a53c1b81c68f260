/* CLONES compiles a function for several instruction sets; the best one is chosen when the library is loaded. It is empty
   unless the compiler and the C library are known to support this. */

#ifndef CLONES_H
#define CLONES_H

#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && !defined(__clang__) && !defined(NO_CLONES)
#if __GNUC__ >= 12 /* for 16-bit numbers in the widest registers and fused multiply-add, which avx512f and avx2 lack */
#define CLONES __attribute__((target_clones("default", "arch=x86-64-v3", "arch=x86-64-v4")))
#else
#define CLONES __attribute__((target_clones("default", "avx2", "avx512f")))
#endif
#else
#define CLONES
#endif

#endif
