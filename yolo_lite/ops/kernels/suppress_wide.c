/* Suppression of boxes of float64. */

#define WIDE
#include "suppress.c"
