// SPDX-License-Identifier: Apache-2.0
/*
 * GUIDs and PCI addresses: what is taken for one is one, for somebody who
 * looks at it in another way, and reads the same when it is written again.
 */
#include <strings.h>

#include "fuzz.h"
#include "ibhostdev/guid.h"
#include "ibhostdev/pci.h"

static void octets(const char *text, size_t len)
{
	char again[IBH_GUID_TEXT + 1];
	uint64_t guid;

	if (ibh_parse_octets(text, len, 8, &guid))
		return;
	ibh_format_guid(guid, again);
	must(len == IBH_GUID_TEXT && !strncasecmp(text, again, len),
	     "a GUID reads as another");
}

static void digits(const char *text)
{
	uint64_t guid, other;
	char *end;

	if (ibh_parse_digits(text, &guid))
		return;
	/* mlx4's, with or without the colons of a GID */
	if (strchr(text, ':'))
		return;
	other = strtoull(text, &end, 16);
	must(!*end && (strlen(text) > 16 || other == guid),
	     "a GUID reads as another");
}

static void address(const char *text, size_t len)
{
	unsigned int domain = 0, bus, device, function;
	char again[IBH_PCI_TEXT + 1], full[32];
	struct ibh_pci pci;
	int end = 0;

	if (ibh_parse_pci(text, len, &pci))
		return;
	must(len <= IBH_PCI_TEXT, "an address is too long");
	snprintf(full, sizeof(full), "%s%.*s", len == 7 ? "0000:" : "",
		 (int)len, text);
	must(sscanf(full, "%x:%2x:%2x.%1x%n", &domain, &bus, &device,
		    &function, &end) == 4 && !full[end],
	     "no address is taken for one");
	must(pci.domain == domain &&
		     pci.rid == (bus << 8 | device << 3 | function),
	     "an address reads as another");
	ibh_format_pci(pci, again);
	must(!strpbrk(again, "/%"), "an address is no name");
	must(!ibh_parse_pci(again, strlen(again), &(struct ibh_pci){ 0 }),
	     "an address cannot be read again");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input input = { data, size };
	unsigned int kind = take_byte(&input);
	/* Of its very size, so that reading on is seen. */
	char *text = malloc(input.left + 1);

	if (!text)
		return 0;
	if (input.left)
		memcpy(text, input.data, input.left);
	text[input.left] = '\0';
	if (kind % 3 == 0)
		octets(text, input.left);
	else if (kind % 3 == 1)
		address(text, input.left);
	else
		digits(text);
	free(text);
	return 0;
}
