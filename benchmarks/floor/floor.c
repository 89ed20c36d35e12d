// SPDX-License-Identifier: Apache-2.0
/*
 * The floor: what a plug costs when nothing is spent but the system calls
 * that it takes.  It does what a batch of ibhostdev does when all goes well
 * (find the PF, look who has what, write what differs, read back, bind anew
 * what shows an identity that is gone) and is no program for use: it rolls
 * nothing back and explains no error.
 *
 * A line on standard input is a request, its answer a line with the time it
 * took in ns and the VFs that were written:
 *
 *     plug MECHANISM PCI=GUID …      unplug MECHANISM PCI=GUID …
 *     write MECHANISM PCI=GUID …     list MECHANISM PF …
 *     idle MECHANISM PCI=GUID …
 *
 * "write" and "idle" only write; "safely-plug" and "safely-unplug" ask what
 * safety asks besides (questions.c).  MECHANISM is netlink, files or mlx4; a
 * GUID has 16 hex digits.  Arguments of the program are one request.
 */
#include "floor.h"

#include <pthread.h>
#include <time.h>

const char *const words[] = { "Follow", "Up", "Down" };

struct pf pfs[MAX_PFS];
struct item items[MAX_BATCH];
unsigned int pf_count, count, mechanism;
int sysfs, sock = -1;
char pkey[16];

void fail(const char *what, const char *which, long err)
{
	printf("error: %s of %s: %s\n", what, which, strerror((int)labs(err)));
	exit(1);
}

/* ---- topology --------------------------------------------------------- */

static struct pf *read_pf(const char *pci)
{
	struct pf *pf = &pfs[pf_count++];
	char path[128], name[32];
	struct ibh_pci address;

	memset(pf, 0, sizeof(*pf));
	snprintf(pf->pci, sizeof(pf->pci), "%s", pci);
	if (ibh_parse_pci(pci, strlen(pci), &address))
		fail("address", pci, EINVAL);
	pf->domain = address.domain;
	pf->rid = address.rid;
	pf->numvfs = get_number(pci, "sriov_numvfs");
	pf->offset = get_number(pci, "sriov_offset");
	pf->stride = get_number(pci, "sriov_stride");
	if (mechanism == NETLINK) {
		snprintf(path, sizeof(path), DEVICES "%s/net", pci);
		only_entry(path, name, sizeof(name));
		snprintf(path, sizeof(path), "net/%.16s/ifindex", name);
		pf->ifindex = (int)get_number(pci, path);
	} else if (mechanism == MLX4) {
		snprintf(path, sizeof(path), DEVICES "%s/infiniband", pci);
		only_entry(path, pf->ib, sizeof(pf->ib));
	}
	return pf;
}

unsigned int vf_of(const struct pf *pf, struct ibh_pci pci)
{
	return (pci.rid - pf->rid - pf->offset) / pf->stride;
}

bool is_of(const struct pf *pf, struct ibh_pci pci)
{
	return pci.domain == pf->domain && pci.rid > pf->rid &&
	       vf_of(pf, pci) < pf->numvfs;
}

/* One link leads to the PF; its other VFs are told by their addresses. */
static void resolve(struct item *item)
{
	struct ibh_pci pci;
	char path[128], name[32];
	unsigned int i;

	if (ibh_parse_pci(item->pci, strlen(item->pci), &pci))
		fail("address", item->pci, EINVAL);
	for (i = 0; i < pf_count; i++) {
		if (is_of(&pfs[i], pci)) {
			item->pf = &pfs[i];
			item->index = vf_of(&pfs[i], pci);
			return;
		}
	}
	snprintf(path, sizeof(path), DEVICES "%s/physfn", item->pci);
	if (!get_base(sysfs, path, name, sizeof(name)))
		fail("physfn", item->pci, ENOENT);
	item->pf = read_pf(name);
	item->index = vf_of(item->pf, pci);
}

/* ---- unplug: VFs on the host's driver are bound anew ------------------ */

static bool shows(const struct item *item)
{
	char path[160], name[32];
	int n;

	snprintf(path, sizeof(path), DEVICES "%s/driver", item->pci);
	if (!get_base(sysfs, path, name, sizeof(name)) ||
	    strcmp(name, "mlx5_core"))
		return false;
	n = snprintf(path, sizeof(path), DEVICES "%s/infiniband", item->pci);
	only_entry(path, name, sizeof(name));
	if (!*name)
		return true;
	snprintf(path + n, sizeof(path) - (size_t)n, "/%s/node_guid", name);
	return get_guid(path) == item->guid;
}

static void *bind_anew(void *context)
{
	struct item *item = context;

	set("/sys/bus/pci/drivers/mlx5_core/unbind", item->pci);
	set("/sys/bus/pci/drivers/mlx5_core/bind", item->pci);
	return NULL;
}

static void refresh(void)
{
	static pthread_t threads[MAX_BATCH];
	unsigned int i, n = 0;

	for (i = 0; i < count; i++)
		if (items[i].needed && shows(&items[i]) &&
		    !pthread_create(&threads[n], NULL, bind_anew, &items[i]))
			n++;
	while (n)
		pthread_join(threads[--n], NULL);
}

/* ---- requests --------------------------------------------------------- */

static bool differs(const struct item *item, bool idle)
{
	struct state now = item->pf->now[item->index];
	uint64_t want = idle ? IBH_GUID_IDLE : item->guid;

	if (mechanism == MLX4)
		return now.port != want;
	return now.node != want || now.port != want ||
	       now.policy != (idle ? DOWN : FOLLOW);
}

static void check_owners(void)
{
	unsigned int i, p, v;

	for (i = 0; i < count; i++)
		for (p = 0; p < pf_count; p++)
			for (v = 0; v < pfs[p].numvfs; v++)
				if (pfs[p].now[v].port == items[i].guid &&
				    (&pfs[p] != items[i].pf ||
				     v != items[i].index))
					fail("owner", items[i].pci, EEXIST);
}

static unsigned int batch(bool idle, bool only_write, bool safely)
{
	unsigned int i, written = 0;

	for (i = 0; i < count; i++) {
		resolve(&items[i]);
		items[i].needed = only_write;
	}
	if (safely) {
		who_drives();
		take_locks();
	}
	for (i = 0; i < pf_count && !only_write; i++)
		ask(&pfs[i], true);
	if (!idle && !only_write)
		check_owners();
	for (i = 0; i < count && !only_write; i++)
		items[i].needed = differs(&items[i], idle);
	for (i = 0; i < count; i++)
		written += items[i].needed;
	for (i = 0; i < pf_count && written; i++) {
		if (safely)
			still_there(&pfs[i]);
		write_pf(&pfs[i], idle ? IBH_GUID_IDLE : 0);
	}
	for (i = 0; i < pf_count && written && !only_write; i++)
		ask(&pfs[i], false);
	for (i = 0; i < count && !only_write; i++)
		if (differs(&items[i], idle))
			fail("result", items[i].pci, EIO);
	if (safely)
		drop_locks();
	if (idle && !only_write)
		refresh();
	return written;
}

static unsigned int list(void)
{
	unsigned int i, n, done = 0;
	char drop[64];

	for (n = 0; n < pf_count; n++) {
		ask(&pfs[n], true);
		for (i = 0; i < pfs[n].numvfs; i++) {
			char text[IBH_GUID_TEXT + 1];

			ibh_format_guid(pfs[n].now[i].port, text);
			snprintf(drop, sizeof(drop), "%u %s %s", i, text,
				 words[pfs[n].now[i].policy]);
		}
		done += pfs[n].numvfs;
	}
	return done;
}

static void serve(char *line)
{
	char *word, *action = strtok(line, " \n");
	bool safely = action && !strncmp(action, "safely-", 7);
	struct timespec from, to;
	unsigned int done;

	pf_count = count = 0;
	pkey[0] = '\0';
	word = strtok(NULL, " \n");
	if (!word)
		fail("request", "it", EINVAL);
	if (safely)
		action += 7;
	mechanism = *word == 'n' ? NETLINK : *word == 'f' ? FILES : MLX4;
	clock_gettime(CLOCK_MONOTONIC, &from);
	if (mechanism == NETLINK)
		sock = ibh_nl_open(NETLINK_ROUTE, 70);
	while ((word = strtok(NULL, " \n"))) {
		if (!strcmp(action, "list")) {
			read_pf(word);
			continue;
		}
		snprintf(items[count].pci, sizeof(items[count].pci), "%.*s",
			 (int)strcspn(word, "="), word);
		items[count++].guid =
			strtoull(word + strcspn(word, "=") + 1, NULL, 16);
	}
	if (!strcmp(action, "list"))
		done = list();
	else
		done = batch(!strcmp(action, "unplug") ||
				     !strcmp(action, "idle"),
			     !strcmp(action, "write") ||
				     !strcmp(action, "idle"),
			     safely);
	if (mechanism == NETLINK)
		close(sock);
	clock_gettime(CLOCK_MONOTONIC, &to);
	printf("%lld %u\n",
	       (to.tv_sec - from.tv_sec) * 1000000000LL + to.tv_nsec -
		       from.tv_nsec,
	       done);
	fflush(stdout);
}

int main(int argc, char **argv)
{
	static char line[MAX_BATCH * 40];
	size_t n = 0;

	sysfs = open("/sys", O_PATH | O_DIRECTORY | O_CLOEXEC);
	for (int i = 1; i < argc && n < sizeof(line); i++)
		n += (size_t)snprintf(line + n, sizeof(line) - n, "%s ",
				      argv[i]);
	if (n)
		serve(line);
	else
		while (fgets(line, sizeof(line), stdin))
			serve(line);
	return 0;
}
