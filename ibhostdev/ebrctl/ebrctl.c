/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ebrctl, as Nova runs it, with no daemon behind it:
 *
 *   ebrctl add-port MAC DEVICE_ID FABRIC VNIC_TYPE DEV_NAME
 *   ebrctl del-port FABRIC MAC
 *
 * Arguments, output and exit codes are those of networking-mlnx's program of
 * this name where Nova or a script can see them, but that a port which is not
 * there is no error to del-port. The identity goes straight to the kernel.
 *
 * Environment, both ignored if the program has more rights than its caller:
 * IBHOSTDEV_HOST is the folder of a simulated host, and must be the caller's
 * own; IBHOSTDEV_PHYSICAL_DEVICE_MAPPINGS stands for /etc/ibhostdev/fabrics.
 */
#include "ebrctl.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define MAX_SIDES (MAX_PFS * MAX_PORTS)
#define REBIND_TRIES 5
#define REBIND_PAUSE_NS 200000000

#ifndef VERSION
#define VERSION "of a version that was not told"
#endif

/* By this the package knows its own program from the vendor's. */
static const char about[] = "ibhostdev's stand-in for ebrctl " VERSION "\n";

static const char usage[] =
	"usage: ebrctl add-port MAC DEVICE_ID FABRIC VNIC_TYPE DEV_NAME\n"
	"       ebrctl del-port FABRIC MAC\n";

/* What is to be written to one VF. `tried` is set before the first write:
 * from then on the VF may have taken a part. */
struct change {
	struct vf vf;
	struct state before, wanted, write, seen;
	bool tried;
};

static struct side sides[MAX_SIDES];
static unsigned int side_count;
/* VFs to be made idle, in the order found, and for add-port its own last. */
static struct change changes[MAX_HOLDERS + 1];
static unsigned int change_count;
/* Whether some VF of the fabric could not be asked whose it is. */
static bool blind;

static char guid_text[IBH_GUID_TEXT + 1];

/* ---- what is there ---------------------------------------------------- */

/* The PFs of the fabric on the ports in question, and what serves them: no
 * two VFs of a fabric may have the same GUID. Without a mapping all PFs are
 * taken for one fabric. */
static void find_sides(const char *fabric)
{
	struct error error;
	unsigned int i, p;
	bool mapped = know_fabric(fabric, &error) == MAPPED;

	side_count = 0;
	blind = pf_missing;
	for (i = 0; i < pf_count; i++) {
		const struct pf *pf = &pfs[i];
		unsigned int only = mapped ? port_on(pf, fabric) : 0;

		if (!pf->numvfs || (mapped && !only))
			continue;
		for (p = 0; p < pf->port_count; p++) {
			struct side *side = &sides[side_count];

			if (only && pf->ports[p] != only)
				continue;
			*side = (struct side){ .pf = pf,
					       .port = pf->ports[p] };
			if (choose(side, &error)) {
				warn("not searched for the GUID: %s",
				     error.text);
				blind = true;
				/* An add-port to it is told so. */
				side->mechanism = NOTHING;
			}
			side_count++;
		}
	}
}

static int take_locks(struct error *error)
{
	bool wanted[MAX_PFS] = { false };
	unsigned int i;

	for (i = 0; i < side_count; i++)
		wanted[sides[i].pf - pfs] = true;
	return lock_pfs(wanted, error);
}

static struct change *add_change(const struct side *side, unsigned int index,
				 const struct state *before, uint64_t guid,
				 struct error *error)
{
	struct change *change = &changes[change_count];

	if (change_count > MAX_HOLDERS) {
		fail(error, NULL, "guid", 0,
		     "see 'ibhostdev list', and reset the VFs of these PFs",
		     "%s is held by more than %d VFs", guid_text, MAX_HOLDERS);
		return NULL;
	}
	memset(change, 0, sizeof(*change));
	if (read_vf(side, index, &change->vf, error))
		return NULL;
	change->before = *before;
	change->wanted = identity(side, guid);
	change->write = change->wanted;
	if (before->have & HAVE_NODE && before->node == change->wanted.node)
		change->write.have &= ~HAVE_NODE;
	if (before->have & HAVE_PORT && before->port == change->wanted.port &&
	    !before->pending)
		change->write.have &= ~HAVE_PORT;
	if (before->have & HAVE_POLICY &&
	    before->policy == change->wanted.policy)
		change->write.have &= ~HAVE_POLICY;
	change_count++;
	return change;
}

/* Finds who holds a GUID; changes[] is to make them idle. VF `index` of side
 * `mine`, if there is one, is left out, its state goes to *state. */
static int find_holders(uint64_t guid, const struct side *mine,
			unsigned int index, struct state *state,
			struct error *error)
{
	static struct state states[MAX_VFS];
	unsigned int i, n;

	change_count = 0;
	for (i = 0; i < side_count; i++) {
		const struct side *side = &sides[i];

		if (side->mechanism == NOTHING)
			continue;
		if (survey(side, side == mine ? index : MAX_VFS, states,
			   error)) {
			if (side == mine)
				return -1;
			warn("not searched for the GUID: %s", error->text);
			blind = true;
			continue;
		}
		for (n = 0; n < side->pf->numvfs; n++) {
			if (side == mine && n == index) {
				*state = states[n];
				continue;
			}
			if (!states[n].told ||
			    (states[n].have & HAVE_POLICY &&
			     states[n].policy != DOWN &&
			     !(states[n].have & HAVE_PORT)))
				/* Up, and the kernel does not tell with which
				 * GUID: it may be this one. */
				blind = true;
			if (((states[n].have & HAVE_PORT &&
			      states[n].port == guid) ||
			     (states[n].have & HAVE_NODE &&
			      states[n].node == guid)) &&
			    !add_change(side, n, &states[n], IBH_GUID_IDLE,
					error))
				return -1;
		}
	}
	return 0;
}

/* ---- writing ---------------------------------------------------------- */

/* No driver checks the index, and what lies beyond is not ours. */
static int require_present(const struct vf *vf, struct error *error)
{
	char path[PATH_SIZE], value[NAME_SIZE];
	unsigned int numvfs = 0;

	join(path, "bus/pci/devices/%s/sriov_numvfs", vf->side->pf->address);
	if (sysfs_read(value, sizeof(value), path) > 0 &&
	    sscanf(value, "%u", &numvfs) == 1 && vf->index < numvfs)
		return 0;
	return fail(error, vf->address, "sriov_numvfs", 0,
		    "enable the PF's VFs and try again",
		    "vanished: its PF %s has %u VFs now",
		    vf->side->pf->address, numvfs);
}

static int differs(const struct change *change, const char *what,
		   const char *seen, const char *wanted, struct error *error)
{
	char by[NAME_SIZE];

	snprintf(by, sizeof(by), "by %s",
		 mechanism_names[change->vf.side->mechanism]);
	return fail(error, change->vf.address, by, 0,
		    "see whether another program writes to this PF's VFs",
		    "%s reads %s after %s was accepted", what, seen, wanted);
}

/* 1 if not all of it can be shown, -1 if it is not what it should be. */
static int compare(const struct change *change, const struct state *want,
		   const struct state *seen, struct error *error)
{
	char is[IBH_GUID_TEXT + 1], should[IBH_GUID_TEXT + 1];

	if (!seen->told)
		return fail(error, change->vf.address, NULL, 0,
			    "look into the kernel log for the health of the "
			    "HCA",
			    "the driver cannot tell the state of the VF");
	if (want->have & seen->have & HAVE_NODE && want->node != seen->node) {
		ibh_format_guid(seen->node, is);
		ibh_format_guid(want->node, should);
		return differs(change, "node GUID", is, should, error);
	}
	if (want->have & seen->have & HAVE_PORT && want->port != seen->port) {
		ibh_format_guid(seen->port, is);
		ibh_format_guid(want->port, should);
		return differs(change, "port GUID", is, should, error);
	}
	if (want->have & seen->have & HAVE_POLICY &&
	    want->policy != seen->policy)
		return differs(change, "policy", policy_names[seen->policy],
			       policy_names[want->policy], error);
	return (want->have & ~HAVE_PKEYS & ~seen->have) != 0;
}

/* Nothing is done that does not read back as it was written. */
static int verify(struct error *error)
{
	const struct side *asked = NULL;
	unsigned int i;

	for (i = 0; i < change_count; i++) {
		struct change *change = &changes[i];
		int shown;

		if (!change->tried)
			continue;
		if (read_back(change->vf.side, change->vf.index,
			      &change->write, true, asked != change->vf.side,
			      &change->seen, error))
			return -1;
		asked = change->vf.side;
		shown = compare(change, &change->write, &change->seen, error);
		if (shown < 0)
			return -1;
		if (shown)
			warn("%s has taken it, but the kernel cannot show it",
			     change->vf.address);
	}
	return 0;
}

/* Back to what was found. What the kernel could not show (netlink's GUID 0
 * is "not known") goes back to idle. */
static struct state undo_of(const struct change *change)
{
	const struct state *before = &change->before;
	struct state undo = *before;

	undo.have = change->write.have;
	if (!(before->have & HAVE_NODE))
		undo.node = IBH_GUID_IDLE;
	if (!(before->have & HAVE_PORT))
		undo.port = IBH_GUID_IDLE;
	if (!(before->have & HAVE_POLICY))
		undo.policy = DOWN;
	undo.have |= before->have & HAVE_PKEYS;
	return undo;
}

/* Adds to *error what could not be put back. */
static void undo_all(struct error *error)
{
	unsigned int i;

	for (i = change_count; i-- > 0;) {
		struct change *change = &changes[i];
		struct state undo = undo_of(change), seen;
		struct error refused = { "" }, doubt = { "" };
		size_t used = strlen(error->text);
		int failed, wrong;

		if (!change->tried)
			continue;
		failed = require_present(&change->vf, &refused) ||
			 write_state(change->vf.side, change->vf.index, &undo,
				     &refused);
		wrong = read_back(change->vf.side, change->vf.index, &undo,
				  false, true, &seen, &doubt) ||
			compare(change, &undo, &seen, &doubt) < 0;
		/* One that refuses everything may not have changed at all. */
		if (!wrong && (!failed || (undo.have & ~seen.have) == 0))
			continue;
		snprintf(error->text + used, sizeof(error->text) - used,
			 "; and %s could not be put back to what it was (%s): "
			 "see 'ibhostdev list'",
			 change->vf.address,
			 failed ? refused.text : doubt.text);
	}
}

/* Write the plan and verify it; on an error undo it. From here on a signal
 * does nothing: what is begun is finished or taken back, and a VF that was
 * unbound is bound again. */
static int apply(struct error *error)
{
	sigset_t signals;
	unsigned int i;
	int failed = 0;

	sigfillset(&signals);
	sigprocmask(SIG_BLOCK, &signals, NULL);
	for (i = 0; i < change_count && !failed; i++) {
		struct change *change = &changes[i];

		if (!change->write.have)
			continue;
		failed = require_present(&change->vf, error);
		if (failed)
			break;
		change->tried = true;
		failed = write_state(change->vf.side, change->vf.index,
				     &change->write, error);
	}
	if (!failed)
		failed = verify(error);
	if (failed)
		undo_all(error);
	return failed ? -1 : 0;
}

/* ---- add-port --------------------------------------------------------- */

static int parse_mac(const char *text, uint64_t *guid, struct error *error)
{
	uint64_t mac;

	if (ibh_parse_octets(text, strlen(text), 6, &mac))
		return fail(error, NULL, "mac", 0,
			    "write six octets as in fa:16:3e:12:34:56",
			    "'%s' is not a MAC address", text);
	*guid = ibh_guid_from_mac(mac);
	ibh_format_guid(*guid, guid_text);
	/* No driver checks these. */
	if (mac == 0 || mac >> 40 & 1)
		return fail(error, NULL, "mac", 0,
			    "use the MAC address of the Neutron port",
			    "%s is %s and cannot identify a VF", text,
			    mac ? "a multicast address" : "zero");
	return 0;
}

/* The VF of an add-port: its side and index. */
static int resolve(struct ibh_pci pci, const char *fabric,
		   struct side **mine, unsigned int *index,
		   struct error *error)
{
	char address[IBH_PCI_TEXT + 1];
	const struct pf *pf;
	unsigned int port, i;
	int mapped;

	if (find_pfs(error))
		return -1;
	mapped = know_fabric(fabric, error);
	if (mapped < 0 || locate(pci, &pf, index, error))
		return -1;
	if (mapped == UNMAPPED)
		return fail(error, NULL, "fabric", 0, "add it to " FABRICS,
			    "physical network '%s' is mapped to no PF", fabric);
	port = mapped == MAPPED ? port_on(pf, fabric) : pf->ports[0];
	ibh_format_pci(pci, address);
	if (!port)
		return fail(error, address, "fabric", 0,
			    "correct the port's binding or the mapping",
			    "PF %s is not on physical network '%s'",
			    pf->address, fabric);
	find_sides(fabric);
	*mine = NULL;
	for (i = 0; i < side_count; i++)
		if (sides[i].pf == pf && sides[i].port == port)
			*mine = &sides[i];
	if (!*mine)
		return fail(error, address, "fabric", 0,
			    "correct the mapping",
			    "PF %s has no InfiniBand port %u", pf->address,
			    port);
	if ((*mine)->mechanism == NOTHING)
		return choose(*mine, error);
	return 0;
}

/* What may be done to a VF in a guest's hands: nothing, but to give it back
 * an identity that it is known to have lost. */
static int spare_guest(struct change *change, uint64_t guid, bool equal,
		       struct error *error)
{
	unsigned int identities = change->wanted.have & (HAVE_NODE | HAVE_PORT);
	uint64_t holder = owner(&change->before);
	char text[IBH_GUID_TEXT + 1];

	if (holder && holder != guid) {
		ibh_format_guid(holder, text);
		return fail(error, change->vf.address, NULL, 0,
			    "detach it from that guest and unplug it first",
			    "a guest has the VF, with GUID %s", text);
	}
	change->write.have &= ~HAVE_POLICY;
	if (equal) {
		change->write.have = 0;
	} else if ((change->before.have & identities) != identities) {
		change->write.have = 0;
		warn("%s is left alone: a guest has it, and the kernel does "
		     "not tell whether it is GUID %s already",
		     change->vf.address, guid_text);
	}
	return 0;
}

static int add_port(char **args, struct error *error)
{
	const char *mac = args[0], *fabric = args[2], *vnic_type = args[3],
		   *dev_name = args[4];
	struct side *mine;
	struct state before = { 0 };
	struct change *change;
	struct ibh_pci pci;
	unsigned int index, i;
	uint64_t guid;
	bool equal;
	int waited;

	if (parse_mac(mac, &guid, error))
		return -1;
	if (ibh_parse_pci(dev_name, strlen(dev_name), &pci))
		return fail(error, NULL, "dev_name", 0,
			    "write domain:bus:device.function as in "
			    "0000:3b:00.2",
			    "'%s' is not a PCI address", dev_name);
	if (strcmp(vnic_type, "ib_hostdev"))
		return fail(error, NULL, "vnic_type", 0, "write ib_hostdev",
			    "'%s' is no type of port that is known", vnic_type);
	if (host_open(error) || resolve(pci, fabric, &mine, &index, error))
		return -1;
	waited = take_locks(error);
	if (waited < 0)
		return -1;
	/* Who has which VF may have changed since it was looked up. */
	if (waited && resolve(pci, fabric, &mine, &index, error))
		return -1;
	if (find_holders(guid, mine, index, &before, error))
		return -1;
	for (i = 0; i < change_count; i++)
		if (changes[i].vf.in_use)
			return fail(error, dev_name, "guid", 0,
				    "detach it from its guest and unplug it "
				    "first",
				    "GUID %s is held by %s, which a guest has",
				    guid_text, changes[i].vf.address);
	change = add_change(mine, index, &before, guid, error);
	if (!change)
		return -1;
	if (!before.told) {
		/* Whose it is must not be guessed. */
		return fail(error, change->vf.address, NULL, 0,
			    "look into the kernel log for the health of the "
			    "HCA",
			    "the driver cannot tell the state of the VF");
	}
	equal = before.have & HAVE_PORT && before.port == guid &&
		(!(change->wanted.have & HAVE_NODE) ||
		 (before.have & HAVE_NODE && before.node == guid));
	if (change->vf.in_use) {
		if (spare_guest(change, guid, equal, error))
			return -1;
	} else if (equal &&
		   !(before.have & HAVE_POLICY && before.policy == DOWN)) {
		/* The Neutron agent owns the policy of a VF that is plugged;
		 * only one that an unplug or a reset left down is raised. */
		change->write.have &= ~HAVE_POLICY;
	}
	for (i = 0; i + 1 < change_count; i++)
		warn("GUID %s was still on %s, which is made idle for %s to "
		     "have it",
		     guid_text, changes[i].vf.address, change->vf.address);
	if (apply(error))
		return -1;
	fputs(dev_name, stdout);
	return 0;
}

/* ---- del-port --------------------------------------------------------- */

static int poke(const char *driver, const char *file, const char *address)
{
	const struct timespec pause = { .tv_nsec = REBIND_PAUSE_NS };
	char path[PATH_SIZE];
	int tries, err;

	join(path, "bus/pci/drivers/%s/%s", driver, file);
	for (tries = 0;; tries++) {
		err = sysfs_write(path, address);
		/* Firmware may still be initialising the function. */
		if ((err != -EIO && err != -EAGAIN && err != -EBUSY &&
		     err != -ETIMEDOUT) ||
		    tries + 1 == REBIND_TRIES)
			return err;
		nanosleep(&pause, NULL);
	}
}

/* Bind a VF anew whose own driver on this host shows what it no longer is:
 * it reads the identity when it is bound (mlx5/main.c). */
static int refresh(const struct change *change, uint64_t guid,
		   struct error *error)
{
	static const char driver[] = "mlx5_core";
	uint64_t shown;
	struct vf vf;
	int err;

	/* Once more, right before: a PF has no physfn, and unbinding one takes
	 * the fabric from every guest of the host. */
	if (read_vf(change->vf.side, change->vf.index, &vf, error))
		return -1;
	if (strcmp(vf.driver, driver))
		return 0;
	shown = own_identity(&vf);
	if (shown && shown != guid)
		return 0;
	if (!vf.side->pf->autoprobe) {
		/* drivers/pci/pci-driver.c would refuse to bind it again. */
		warn("%s shows its old identity on this host until it is bound "
		     "anew: its PF has sriov_drivers_autoprobe off",
		     vf.address);
		return 0;
	}
	err = poke(driver, "unbind", vf.address);
	if (err == -ENODEV)
		return 0; /* somebody took it, and will see it idle */
	if (!err)
		err = poke(driver, "bind", vf.address);
	if (!err)
		return 0;
	return fail(error, vf.address, "bind", -err,
		    "write its address to /sys/bus/pci/drivers/mlx5_core/bind",
		    "is idle, but could not be bound to %s again", driver);
}

static int find_guid(const char *fabric, uint64_t guid, bool locked,
		     struct error *error)
{
	int waited;

	/* One that is not mapped any more may be behind any PF. */
	if (find_pfs(error) || know_fabric(fabric, error) < 0)
		return -1;
	find_sides(fabric);
	if (!locked) {
		waited = take_locks(error);
		if (waited)
			return waited < 0 ? -1 :
					    find_guid(fabric, guid, true,
						      error);
	}
	return find_holders(guid, NULL, 0, NULL, error);
}

/* Keyed by GUID: what holds it becomes idle, wherever it is; what does not
 * hold it is somebody else's. */
static int del_port(char **args, struct error *error)
{
	const char *fabric = args[0], *mac = args[1];
	unsigned int i;
	uint64_t guid;
	int failed = 0;

	if (parse_mac(mac, &guid, error) || host_open(error) ||
	    find_guid(fabric, guid, false, error))
		return -1;
	for (i = 0; i < change_count; i++)
		if (changes[i].vf.in_use)
			return fail(error, changes[i].vf.address, NULL, 0,
				    "detach it from the guest first",
				    "a guest has the VF with GUID %s",
				    guid_text);
	if (!change_count && blind)
		return fail(error, NULL, "guid", 0,
			    "see 'ibhostdev doctor' for what cannot be asked",
			    "%s is on none of the VFs that could be asked, but "
			    "not all could",
			    guid_text);
	if (apply(error))
		return -1;
	/* Without the locks: it takes long, and concerns the VF alone. */
	unlock_pfs();
	for (i = 0; i < change_count && !failed; i++)
		failed = refresh(&changes[i], guid, error);
	return failed;
}

int main(int argc, char **argv)
{
	const char *action = argc > 1 ? argv[1] : "";
	struct error error;

	if (!strcmp(action, "-h") || !strcmp(action, "--help")) {
		fputs(usage, stdout);
		return 0;
	}
	if (!strcmp(action, "--version")) {
		fputs(about, stdout);
		return 0;
	}
	if ((!strcmp(action, "add-port") && argc == 7 &&
	     !add_port(argv + 2, &error)) ||
	    (!strcmp(action, "del-port") && argc == 4 &&
	     !del_port(argv + 2, &error)))
		return 0;
	if ((!strcmp(action, "add-port") && argc == 7) ||
	    (!strcmp(action, "del-port") && argc == 4)) {
		fprintf(stderr, "Error in %s command %s\n", action, error.text);
		return 1;
	}
	fputs(usage, stderr);
	fprintf(stderr, "ebrctl: error: what it is to do is not clear\n");
	return 2;
}
