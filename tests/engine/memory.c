// SPDX-License-Identifier: Apache-2.0
/*
 * Allocations that fail when they are told to, and how many there are. Linked
 * with --wrap for each of the functions, so that all of the engine's come
 * here.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

#include "scripted.h"

static unsigned int count, failing;
static bool counting;
static long held;

void *__real_malloc(size_t size);
void *__real_calloc(size_t number, size_t size);
void *__real_realloc(void *old, size_t size);
char *__real_strdup(const char *text);
void __real_free(void *memory);
int __real_vasprintf(char **text, const char *format, va_list args);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t number, size_t size);
void *__wrap_realloc(void *old, size_t size);
char *__wrap_strdup(const char *text);
void __wrap_free(void *memory);
int __wrap_vasprintf(char **text, const char *format, va_list args);

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

long memory_held(void)
{
	return held;
}

static void *counted(void *memory)
{
	held += memory != NULL;
	return memory;
}

void *__wrap_malloc(size_t size)
{
	return fails() ? NULL : counted(__real_malloc(size));
}

void *__wrap_calloc(size_t number, size_t size)
{
	return fails() ? NULL : counted(__real_calloc(number, size));
}

void *__wrap_realloc(void *old, size_t size)
{
	if (fails())
		return NULL;
	return old ? __real_realloc(old, size) :
		     counted(__real_realloc(old, size));
}

char *__wrap_strdup(const char *text)
{
	return fails() ? NULL : counted(__real_strdup(text));
}

void __wrap_free(void *memory)
{
	held -= memory != NULL;
	__real_free(memory);
}

int __wrap_vasprintf(char **text, const char *format, va_list args)
{
	int len = __real_vasprintf(text, format, args);

	held += len >= 0;
	return len;
}
