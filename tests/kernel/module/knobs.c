// SPDX-License-Identifier: GPL-2.0-only
/*
 * Parameters of the rig: its HCAs, delays, failures and counters.
 */
#include <linux/delay.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/string.h>
#include <linux/wait.h>

#include "rig.h"

struct rig_hca rig_hcas[RIG_MAX_HCAS];
static bool live;	/* the module is loaded */

static int address_parse(const char *text, struct rig_hca *hca)
{
	unsigned int domain, bus, dev, fn;

	if (sscanf(text, "%x:%x:%x.%x", &domain, &bus, &dev, &fn) != 4)
		return -EINVAL;
	hca->domain = domain;
	hca->bus = bus;
	hca->devfn = PCI_DEVFN(dev, fn);
	return 0;
}

/* 0000:01:00.0=mlx5+ofed, 0000:02:00.0=mlx4+ports2+vfs16+nonet */
static int hca_parse(char *text, struct rig_hca *hca)
{
	char *word = strsep(&text, "=");

	if (!text || address_parse(word, hca))
		return -EINVAL;
	hca->used = true;
	hca->ports = 1;
	hca->netdev = true;
	word = strsep(&text, "+");
	if (!strcmp(word, "mlx4"))
		hca->family = RIG_MLX4;
	else if (!strcmp(word, "mlx5"))
		hca->family = RIG_MLX5;
	else
		return -EINVAL;
	while ((word = strsep(&text, "+"))) {
		if (!strcmp(word, "ofed") && hca->family == RIG_MLX5)
			hca->ofed = true;
		else if (!strcmp(word, "nonet"))
			hca->netdev = false;
		else if (hca->family != RIG_MLX4)
			return -EINVAL;
		else if (!strncmp(word, "vfs", 3)) {
			if (kstrtouint(word + 3, 10, &hca->vfs))
				return -EINVAL;
		} else if (strncmp(word, "ports", 5) ||
			   kstrtouint(word + 5, 10, &hca->ports) ||
			   !hca->ports || hca->ports > RIG_MAX_PORTS)
			return -EINVAL;
	}
	return 0;
}

/* The entry of this address, else, if wanted, a free one. */
static struct rig_hca *hca_entry(const struct rig_hca *like, bool make)
{
	struct rig_hca *hca, *free = NULL;
	unsigned int i;

	for (i = 0; i < RIG_MAX_HCAS; i++) {
		hca = &rig_hcas[i];
		if (!hca->used)
			free = hca;
		else if (hca->domain == like->domain &&
			 hca->bus == like->bus && hca->devfn == like->devfn)
			return hca;
	}
	return make ? free : NULL;
}

static int hca_apply(char *text)
{
	struct rig_hca wanted = {};
	struct rig_hca *hca;
	int err = hca_parse(text, &wanted);

	if (err)
		return err;
	hca = hca_entry(&wanted, true);
	if (!hca)
		return -ENOSPC;
	if (hca->pf)
		return -EBUSY;
	/* What it was before it was ever claimed stays known. */
	wanted.pdev = hca->pdev;
	wanted.vendor = hca->vendor;
	wanted.device = hca->device;
	wanted.class = hca->class;
	*hca = wanted;
	if (!live)
		return 0;
	err = rig_claim(hca);
	if (err)
		hca->used = false;
	return err;
}

static int hca_set(const char *value, const struct kernel_param *kp)
{
	char *text, *rest, *word;
	int err = 0;

	rest = text = kstrdup(value, GFP_KERNEL);
	if (!text)
		return -ENOMEM;
	while (!err && (word = strsep(&rest, ",\n")))
		if (*word)
			err = hca_apply(word);
	kfree(text);
	return err;
}

static const struct kernel_param_ops hca_ops = { .set = hca_set };
module_param_cb(hca, &hca_ops, NULL, 0200);
MODULE_PARM_DESC(hca, "ADDRESS=mlx5[+ofed][+nonet] or ADDRESS=mlx4[+vfsN][+ports2][+nonet], comma-separated; of a function that is on no driver");

static int reset_set(const char *value, const struct kernel_param *kp)
{
	struct rig_hca wanted = {};
	struct rig_hca *hca;

	if (address_parse(value, &wanted))
		return -EINVAL;
	hca = hca_entry(&wanted, false);
	return hca ? rig_reset(hca) : -ENODEV;
}

static const struct kernel_param_ops reset_ops = { .set = reset_set };
module_param_cb(reset, &reset_ops, NULL, 0200);
MODULE_PARM_DESC(reset, "ADDRESS of a PF that forgets all that was set, as if its driver had been bound anew");

/* An empty value heals all PFs. */
static int fail_numvfs_set(const char *value, const struct kernel_param *kp)
{
	unsigned int domain, bus, dev, fn, i, after = 0;
	struct rig_hca wanted = {};
	struct rig_hca *hca;
	int err;

	for (i = 0; !*skip_spaces(value) && i < RIG_MAX_HCAS; i++)
		WRITE_ONCE(rig_hcas[i].fail_numvfs, 0);
	if (!*skip_spaces(value))
		return 0;
	if (address_parse(value, &wanted) ||
	    sscanf(value, "%x:%x:%x.%x:%d:%u", &domain, &bus, &dev, &fn, &err,
		   &after) < 5 ||
	    err < 1 || err > MAX_ERRNO)
		return -EINVAL;
	hca = hca_entry(&wanted, false);
	if (!hca)
		return -ENODEV;
	WRITE_ONCE(hca->fail_after, after);
	WRITE_ONCE(hca->fail_numvfs, err);
	return 0;
}

static const struct kernel_param_ops fail_numvfs_ops = {
	.set = fail_numvfs_set,
};
module_param_cb(fail_numvfs, &fail_numvfs_ops, NULL, 0200);
MODULE_PARM_DESC(fail_numvfs, "PF:ERRNO[:AFTER], of a PF whose next VFs are not made: AFTER of them come, and go again");

bool rig_keep_vfs;
module_param_named(keep_vfs, rig_keep_vfs, bool, 0644);
MODULE_PARM_DESC(keep_vfs, "a PF that leaves the driver does not disable its VFs (which takes the kernel a second)");

uint rig_sm_lid = 1;
module_param_named(sm_lid, rig_sm_lid, uint, 0644);
MODULE_PARM_DESC(sm_lid, "LID of the subnet manager that ports show; 0: none");

uint rig_port_state = IB_PORT_ACTIVE;
module_param_named(port_state, rig_port_state, uint, 0644);
MODULE_PARM_DESC(port_state, "state of the physical ports (4: active)");

uint rig_sm_delay_ms;
module_param_named(sm_delay, rig_sm_delay_ms, uint, 0644);
MODULE_PARM_DESC(sm_delay, "ms until the SM answers mlx4's request for a GUID");

uint rig_sm_retry_ms = 100;
module_param_named(sm_retry, rig_sm_retry_ms, uint, 0644);
MODULE_PARM_DESC(sm_retry, "ms between requests that the SM refuses or ignores (the real driver: 1000 and more)");

bool rig_sm_silent;
module_param_named(sm_silent, rig_sm_silent, bool, 0644);
MODULE_PARM_DESC(sm_silent, "the SM never answers");

bool rig_mlx4_random = true;
module_param_named(mlx4_random, rig_mlx4_random, bool, 0644);
MODULE_PARM_DESC(mlx4_random, "mlx4: VFs start with random admin GUIDs (as with the real driver), else with 0");

/* The subnet manager's, the default partition and a tenant's to begin with. */
ushort rig_pkeys[RIG_PKEYS] = { 0xffff, 0x7fff, 0x8001 };
module_param_array_named(pkeys, rig_pkeys, ushort, NULL, 0644);
MODULE_PARM_DESC(pkeys, "physical P_Key table of every port, comma-separated from its first place on; what is not named stays");

bool rig_vf_netdev;
module_param_named(vf_netdev, rig_vf_netdev, bool, 0644);
MODULE_PARM_DESC(vf_netdev, "a VF on the driver has an IPoIB netdev");

int rig_ofed = -1;
module_param_named(ofed, rig_ofed, int, 0644);
MODULE_PARM_DESC(ofed, "mlx5: VF folders at the next numvfs: 0 never, 1 on each HCA, -1 as the parameter hca says");

static uint command_delay_us;
module_param_named(command_delay, command_delay_us, uint, 0644);
MODULE_PARM_DESC(command_delay, "us that a firmware command takes");

uint rig_probe_delay_ms;
module_param_named(probe_delay, rig_probe_delay_ms, uint, 0644);
MODULE_PARM_DESC(probe_delay, "ms that a VF's probe takes");

/* Counters: reading gives the number, writing sets it. */

static atomic_t modifies;
static atomic_t queries;
atomic_t rig_getlinks;
atomic_t rig_probes;

static int count_set(const char *value, const struct kernel_param *kp)
{
	int n, err = kstrtoint(value, 0, &n);

	if (!err)
		atomic_set(kp->arg, n);
	return err;
}

static int count_get(char *buf, const struct kernel_param *kp)
{
	return sysfs_emit(buf, "%d\n", atomic_read((atomic_t *)kp->arg));
}

static const struct kernel_param_ops count_ops = {
	.set = count_set,
	.get = count_get,
};
module_param_cb(modifies, &count_ops, &modifies, 0644);
MODULE_PARM_DESC(modifies, "firmware commands that change");
module_param_cb(queries, &count_ops, &queries, 0644);
MODULE_PARM_DESC(queries, "firmware commands that ask");
module_param_cb(getlinks, &count_ops, &rig_getlinks, 0644);
MODULE_PARM_DESC(getlinks, "GETLINKs that asked for VFs, one for each PF");
module_param_cb(probes, &count_ops, &rig_probes, 0644);
MODULE_PARM_DESC(probes, "probes of VFs by the HCA's driver");

/*
 * A process that waits for a command can be killed there.  Reading tells how
 * many are still to come; 0: one waits; -1: none is to.
 */

static atomic_t hold = ATOMIC_INIT(-1);
static DECLARE_WAIT_QUEUE_HEAD(held);

static int hold_set(const char *value, const struct kernel_param *kp)
{
	int err = count_set(value, kp);

	wake_up_all(&held);
	return err;
}

static const struct kernel_param_ops hold_ops = {
	.set = hold_set,
	.get = count_get,
};
module_param_cb(hold, &hold_ops, &hold, 0644);
MODULE_PARM_DESC(hold, "N: of the commands that somebody waits for and the probes of VFs from now on the N-th waits, until something else than 0 is written; -1: none does");

/**
 * rig_step() - one more command or probe; it waits if "hold" says so
 *
 * As for any command, a signal does not end the wait.
 */
void rig_step(void)
{
	if (!atomic_dec_if_positive(&hold))
		wait_event(held, atomic_read(&hold));
}

/*
 * Failures: PF/VF:ERRNO:FIRST, comma-separated; an empty value heals.  The
 * FIRST-th command counted from the write, and all after it, fail.
 */

struct rig_failure {
	int domain;
	u8 bus;
	u8 devfn;
	u32 vf;
	int err;
	unsigned int first;
	unsigned int seen;
};

struct rig_failures {
	struct rig_failure *list;
	unsigned int n;
};

static struct rig_failures fail_modify, fail_query;
static DEFINE_SPINLOCK(fail_lock);

static int fail_set(const char *value, const struct kernel_param *kp)
{
	struct rig_failures *fails = kp->arg;
	struct rig_failure *list, *old;
	char *text, *rest, *word;
	unsigned int n = 1;
	const char *c;
	int err = 0;

	for (c = value; *c; c++)
		n += *c == ',';
	list = kcalloc(n, sizeof(*list), GFP_KERNEL);
	rest = text = kstrdup(value, GFP_KERNEL);
	if (!list || !text) {
		kfree(list);
		kfree(text);
		return -ENOMEM;
	}
	n = 0;
	while (!err && (word = strsep(&rest, ",\n"))) {
		struct rig_failure *f = &list[n];
		unsigned int domain, bus, dev, fn;

		if (!*word)
			continue;
		f->first = 1;
		if (sscanf(word, "%x:%x:%x.%x/%u:%d:%u", &domain, &bus, &dev,
			   &fn, &f->vf, &f->err, &f->first) < 6 ||
		    f->err < 1 || f->err > MAX_ERRNO) {
			err = -EINVAL;
			break;
		}
		f->domain = domain;
		f->bus = bus;
		f->devfn = PCI_DEVFN(dev, fn);
		n++;
	}
	kfree(text);
	old = list;
	if (!err) {
		spin_lock(&fail_lock);
		old = fails->list;
		fails->list = list;
		fails->n = n;
		spin_unlock(&fail_lock);
	}
	kfree(old);
	return err;
}

static int fail_get(char *buf, const struct kernel_param *kp)
{
	struct rig_failures *fails = kp->arg;
	unsigned int i;
	int at = 0;

	spin_lock(&fail_lock);
	for (i = 0; i < fails->n; i++) {
		struct rig_failure *f = &fails->list[i];

		at += sysfs_emit_at(buf, at, "%s%04x:%02x:%02x.%u/%u:%d:%u",
				    i ? "," : "", f->domain, f->bus,
				    PCI_SLOT(f->devfn), PCI_FUNC(f->devfn),
				    f->vf, f->err, f->first);
	}
	spin_unlock(&fail_lock);
	at += sysfs_emit_at(buf, at, "\n");
	return at;
}

static const struct kernel_param_ops fail_ops = {
	.set = fail_set,
	.get = fail_get,
};
module_param_cb(fail, &fail_ops, &fail_modify, 0644);
MODULE_PARM_DESC(fail, "changing commands that fail: PF/VF:ERRNO[:FIRST], comma-separated");
module_param_cb(fail_query, &fail_ops, &fail_query, 0644);
MODULE_PARM_DESC(fail_query, "asking commands that fail: PF/VF:ERRNO[:FIRST], comma-separated");

static int rig_fails(struct rig_failures *fails, const struct rig_pf *pf,
		     u32 vf, bool count)
{
	const struct rig_hca *hca = pf->hca;
	unsigned int i;
	int err = 0;

	spin_lock(&fail_lock);
	for (i = 0; i < fails->n; i++) {
		struct rig_failure *f = &fails->list[i];

		if (f->domain != hca->domain || f->bus != hca->bus ||
		    f->devfn != hca->devfn || f->vf != vf)
			continue;
		f->seen += count;
		if (f->seen >= f->first && !err)
			err = -f->err;
	}
	spin_unlock(&fail_lock);
	return err;
}

void rig_command_sleep(void)
{
	uint us = READ_ONCE(command_delay_us);

	if (us)
		usleep_range(us, us + 10);
}

/**
 * rig_modify_nowait() - count a changing command that the caller does not wait for
 * @pf: the PF that sends it
 * @vf: the VF that it is about
 *
 * Return: 0, or the negative errno with which it is to fail.
 */
int rig_modify_nowait(const struct rig_pf *pf, u32 vf)
{
	atomic_inc(&modifies);
	return rig_fails(&fail_modify, pf, vf, true);
}

/**
 * rig_modify() - a changing command: counts, takes its time, perhaps fails
 * @pf: the PF that sends it
 * @vf: the VF that it is about
 *
 * Return: 0, or the negative errno with which it is to fail.
 */
int rig_modify(const struct rig_pf *pf, u32 vf)
{
	int err = rig_modify_nowait(pf, vf);

	rig_step();
	rig_command_sleep();
	return err;
}

/**
 * rig_refused() - would a changing command fail now? Counts nothing.
 * @pf: the PF that would send it
 * @vf: the VF that it is about
 *
 * Return: 0, or a negative errno.
 */
int rig_refused(const struct rig_pf *pf, u32 vf)
{
	return rig_fails(&fail_modify, pf, vf, false);
}

/**
 * rig_query() - an asking command: counts, takes its time, perhaps fails
 * @pf: the PF that sends it
 * @vf: the VF that it is about
 *
 * Return: 0, or the negative errno with which it is to fail.
 */
int rig_query(const struct rig_pf *pf, u32 vf)
{
	atomic_inc(&queries);
	rig_command_sleep();
	return rig_fails(&fail_query, pf, vf, true);
}

void rig_knobs_live(void)
{
	live = true;
}

void rig_knobs_exit(void)
{
	kfree(fail_modify.list);
	kfree(fail_query.list);
}
