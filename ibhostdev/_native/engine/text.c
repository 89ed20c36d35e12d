// SPDX-License-Identifier: Apache-2.0
/* Text: made to fit, and fit to be shown. */
#include "error.h"

#include <stdarg.h>
#include <stdio.h>

void format(char *text, size_t size, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	if (vsnprintf(text, size, format, args) < 0)
		text[0] = '\0';
	va_end(args);
}

/* Bytes of the character at `c` in UTF-8; 0 if it is none. */
static size_t character(const unsigned char *c)
{
	/* For the first octet, what the second has at least and at most: no
	 * character has a longer form than it needs. */
	unsigned char least = 0x80, most = 0xbf;
	size_t i, len = *c < 0x80 ? 1 : *c < 0xe0 ? 2 : *c < 0xf0 ? 3 : 4;

	if (len == 1)
		return 1;
	if (*c < 0xc2 || *c > 0xf4)
		return 0;
	if (*c == 0xe0)
		least = 0xa0;
	else if (*c == 0xed)
		most = 0x9f;
	else if (*c == 0xf0)
		least = 0x90;
	else if (*c == 0xf4)
		most = 0x8f;
	if (c[1] < least || c[1] > most)
		return 0;
	for (i = 2; i < len; i++)
		if ((c[i] & 0xc0) != 0x80)
			return 0;
	return len;
}

/* A terminal that does not read UTF-8 takes bytes for C1 controls that are
 * no character of it, too. */
void printable(char *text)
{
	unsigned char *c = (unsigned char *)text;
	size_t len;

	for (; *c; c += len) {
		len = character(c);
		if (!len || *c < 0x20 || *c == 0x7f) {
			*c = '?';
			len = 1;
		} else if (*c == 0xc2 && c[1] < 0xa0) { /* C1 controls */
			c[1] = *c = '?';
		}
	}
}
