/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the fuzzers (fuzz_*.c) share: bytes that decide, taken from the front.
 */
#ifndef FUZZ_H
#define FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct input {
	const unsigned char *data;
	size_t left;
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* 0 when there is nothing left. */
static inline unsigned int take_byte(struct input *input)
{
	if (!input->left)
		return 0;
	input->left--;
	return *input->data++;
}

static inline unsigned int take_below(struct input *input, unsigned int end)
{
	return take_byte(input) % end;
}

static inline uint64_t take_number(struct input *input, unsigned int bytes)
{
	uint64_t number = 0;

	while (bytes--)
		number = number << 8 | take_byte(input);
	return number;
}

/* A length of two bytes, and as many of what follows. */
static inline struct input take_bytes(struct input *input)
{
	struct input part = { NULL, (size_t)take_number(input, 2) };

	if (part.left > input->left)
		part.left = input->left;
	part.data = input->data;
	input->data += part.left;
	input->left -= part.left;
	return part;
}

/* … as text with a NUL, cut to fit. */
static inline const char *take_text(struct input *input, char *text,
				    size_t size)
{
	struct input part = take_bytes(input);

	if (part.left >= size)
		part.left = size - 1;
	if (part.left)
		memcpy(text, part.data, part.left);
	text[part.left] = '\0';
	return text;
}

static inline void must(int holds, const char *what)
{
	if (holds)
		return;
	fprintf(stderr, "%s\n", what);
	abort();
}

#endif
