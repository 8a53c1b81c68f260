/* CLONES: one function, compiled for several instruction sets and chosen when the library is loaded, only where the
   compiler and the C library are known to do that. */

#ifndef CLONES_H
#define CLONES_H

#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && !defined(__clang__) && !defined(NO_CLONES)
#if __GNUC__ >= 12 /* 16-bit numbers in the widest registers, fused products and sums: which avx512f and avx2 do not include */
#define CLONES __attribute__((target_clones("default", "arch=x86-64-v3", "arch=x86-64-v4")))
#else
#define CLONES __attribute__((target_clones("default", "avx2", "avx512f")))
#endif
#else
#define CLONES
#endif

#endif
