/* The beginning of the image in one huge page: window.c. */
#ifndef OCIRT_STANDALONE_WINDOW_H
#define OCIRT_STANDALONE_WINDOW_H

#include <stddef.h>

#define HUGE_PAGE_BYTES ((size_t)2 << 20)

/* Whether this process has it. */
extern int window_is_huge;

#endif
