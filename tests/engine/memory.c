// SPDX-License-Identifier: Apache-2.0
/*
 * Allocations that fail when they are told to. Linked with --wrap for each of
 * the functions, so that all of the engine's come here.
 */
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>

#include "scripted.h"

static unsigned int count, failing;
static bool counting;

void *__real_malloc(size_t size);
void *__real_calloc(size_t number, size_t size);
void *__real_realloc(void *old, size_t size);
char *__real_strdup(const char *text);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t number, size_t size);
void *__wrap_realloc(void *old, size_t size);
char *__wrap_strdup(const char *text);

void memory_count(unsigned int fails)
{
	count = 0;
	failing = fails;
	counting = true;
}

unsigned int memory_counted(void)
{
	counting = false;
	return count;
}

static bool fails(void)
{
	if (!counting || ++count != failing)
		return false;
	errno = ENOMEM;
	return true;
}

void *__wrap_malloc(size_t size)
{
	return fails() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t number, size_t size)
{
	return fails() ? NULL : __real_calloc(number, size);
}

void *__wrap_realloc(void *old, size_t size)
{
	return fails() ? NULL : __real_realloc(old, size);
}

char *__wrap_strdup(const char *text)
{
	return fails() ? NULL : __real_strdup(text);
}
