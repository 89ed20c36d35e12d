/* SPDX-License-Identifier: Apache-2.0 */
/*
 * PCI addresses: their text in the kernel's own form (drivers/pci/probe.c),
 * which is safe in a sysfs path, and their number.
 */
#ifndef IBHOSTDEV_PCI_H
#define IBHOSTDEV_PCI_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "guid.h"

#define IBH_PCI_TEXT 16 /* "00010000:3b:00.2" without the NUL, at most */

/* `rid` is bus, device and function in 16 bits. VMD and Hyper-V give
 * domains of up to 32 bits. */
struct ibh_pci {
	uint32_t domain;
	uint16_t rid;
};

/* `count` hex digits; the number, or -1. */
static inline int64_t ibh_hex(const char *text, size_t count)
{
	int64_t value = 0;
	size_t i;

	for (i = 0; i < count; i++) {
		int digit = ibh_hex_digit(text[i]);

		if (digit < 0)
			return -1;
		value = value << 4 | digit;
	}
	return value;
}

/* "0000:3b:00.2" or short "3b:00.2", in either case, and nothing else;
 * 0, or -1 with *pci untouched. */
static inline int ibh_parse_pci(const char *text, size_t len,
				struct ibh_pci *pci)
{
	int64_t domain = 0, bus, device, function;

	if (len > 7) {
		size_t digits = len - 8;

		if (digits < 4 || digits > 8 || text[digits] != ':')
			return -1;
		domain = ibh_hex(text, digits);
		text += digits + 1;
	} else if (len != 7) {
		return -1;
	}
	if (text[2] != ':' || text[5] != '.')
		return -1;
	bus = ibh_hex(text, 2);
	device = ibh_hex(text + 3, 2);
	function = ibh_hex(text + 6, 1);
	if (domain < 0 || bus < 0 || device < 0 || device > 31 ||
	    function < 0 || function > 7)
		return -1;
	pci->domain = (uint32_t)domain;
	pci->rid = (uint16_t)(bus << 8 | device << 3 | function);
	return 0;
}

/* As ibh_parse_pci(), or libvirt's name of the node device,
 * "pci_0000_3b_00_2": as people write it. */
static inline int ibh_read_pci(const char *text, size_t len,
			       struct ibh_pci *pci)
{
	static const char prefix[] = "pci_";
	char plain[IBH_PCI_TEXT];
	size_t i;

	if (len < 4 || memcmp(text, prefix, 4))
		return ibh_parse_pci(text, len, pci);
	text += 4;
	len -= 4;
	if (len < 12 || len > sizeof(plain))
		return -1;
	for (i = 0; i < len; i++) {
		size_t left = len - i; /* of which 8 are ":bb:dd.f" */

		if (left != 8 && left != 5 && left != 2)
			plain[i] = text[i];
		else if (text[i] == '_')
			plain[i] = left == 2 ? '.' : ':';
		else
			return -1;
	}
	return ibh_parse_pci(plain, len, pci);
}

/* At least `width` hex digits; the end of them. */
static inline char *ibh_put_hex(char *at, uint32_t value, int width)
{
	static const char digits[] = "0123456789abcdef";

	while (width < 8 && value >> 4 * width)
		width++;
	while (width-- > 0)
		*at++ = digits[value >> 4 * width & 15];
	return at;
}

static inline void ibh_format_pci(struct ibh_pci pci,
				  char text[IBH_PCI_TEXT + 1])
{
	text = ibh_put_hex(text, pci.domain, 4);
	*text++ = ':';
	text = ibh_put_hex(text, pci.rid >> 8, 2);
	*text++ = ':';
	text = ibh_put_hex(text, pci.rid >> 3 & 31, 2);
	*text++ = '.';
	text = ibh_put_hex(text, pci.rid & 7, 1);
	*text = '\0';
}

#endif
