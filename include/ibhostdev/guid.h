/* SPDX-License-Identifier: Apache-2.0 */
/*
 * GUIDs: their text and number forms.
 *
 * Everywhere in ibhostdev a GUID is a 64-bit number whose most significant
 * byte is the first octet of its text. rtnetlink carries that number in
 * host byte order (struct ifla_vf_guid; the driver stores it big-endian,
 * drivers/net/ethernet/mellanox/mlx5/core/vport.c), MLNX_OFED's sysfs
 * takes eight colon-separated octets, mlx4's sysfs hex digits without
 * padding (drivers/infiniband/hw/mlx4/sysfs.c).
 */
#ifndef IBHOSTDEV_GUID_H
#define IBHOSTDEV_GUID_H

#include <stddef.h>
#include <stdint.h>

#define IBH_GUID_TEXT 23 /* "aa:bb:cc:dd:ee:ff:00:11" without the NUL */
#define IBH_GUID_IDLE UINT64_MAX

static inline int ibh_hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return -1;
}

/* `count` colon-separated octets of two digits each, and nothing else;
 * 0, or -1 with *value untouched. */
static inline int ibh_parse_octets(const char *text, size_t len, int count,
				   uint64_t *value)
{
	uint64_t v = 0;
	int i, hi, lo;

	if (len != (size_t)count * 3 - 1)
		return -1;
	for (i = 0; i < count; i++) {
		hi = ibh_hex_digit(text[i * 3]);
		lo = ibh_hex_digit(text[i * 3 + 1]);
		if (hi < 0 || lo < 0)
			return -1;
		if (i + 1 < count && text[i * 3 + 2] != ':')
			return -1;
		v = v << 8 | (uint64_t)(hi << 4 | lo);
	}
	*value = v;
	return 0;
}

/* Hex digits without padding (mlx4), or groups of them between colons
 * (ib_core); of more than 16 the last ones, which are the GUID in a GID. 0,
 * or -1 with *guid untouched. */
static inline int ibh_parse_digits(const char *text, uint64_t *guid)
{
	uint64_t v = 0;
	int digit, any = 0;

	for (; *text; text++) {
		if (*text == ':')
			continue;
		digit = ibh_hex_digit(*text);
		if (digit < 0)
			return -1;
		v = v << 4 | (uint64_t)digit;
		any = 1;
	}
	if (!any)
		return -1;
	*guid = v;
	return 0;
}

/* aa:bb:cc:dd:ee:ff is aa:bb:cc:00:00:dd:ee:ff: the only mapping there is,
 * for Neutron derives the DHCP client identifier by the same rule. */
static inline uint64_t ibh_guid_from_mac(uint64_t mac)
{
	return (mac & 0xffffff000000ULL) << 16 | (mac & 0xffffffULL);
}

static inline void ibh_format_guid(uint64_t guid, char text[IBH_GUID_TEXT + 1])
{
	static const char digits[] = "0123456789abcdef";
	int i;

	for (i = 0; i < 8; i++) {
		unsigned int octet = (guid >> (56 - 8 * i)) & 0xff;

		text[i * 3] = digits[octet >> 4];
		text[i * 3 + 1] = digits[octet & 15];
		text[i * 3 + 2] = i < 7 ? ':' : '\0';
	}
}

#endif
