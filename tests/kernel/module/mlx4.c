// SPDX-License-Identifier: GPL-2.0-only
/*
 * mlx4's folder "iov" below the PF's IB device.
 *
 * Slave 0 is the PF, slave n + 1 is VF n.  A slave's number is also its index
 * into admin_guids.  A GUID that is written there is asked of the subnet
 * manager by a work item; gids shows the answer.
 */
#include <linux/ctype.h>
#include <linux/random.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/workqueue.h>

#include "rig.h"

#define RIG_ENTRIES	128	/* physical GID table */

struct rig_entry {
	struct delayed_work work;
	struct rig_pf *pf;
	unsigned int n;
	unsigned int tries;
	u64 admin;
	u64 oper;
};

struct rig_slave {
	unsigned int pkey[RIG_MAX_PORTS][RIG_PKEYS];
	bool smi[RIG_MAX_PORTS];
};

struct rig_attr {
	struct kobj_attribute attr;
	struct rig_pf *pf;
	unsigned int port;	/* from 0 */
	unsigned int slave;
	unsigned int n;
	char name[20];
	struct rig_attr *next;
};

struct rig_folder {
	struct kobject *kobj;
	struct rig_folder *next;
};

struct rig_iov {
	struct mutex lock;	/* guards entry[].admin, .oper and slave[] */
	struct rig_entry entry[RIG_MAX_PORTS][RIG_ENTRIES];
	struct rig_slave *slave;
	struct rig_attr *attrs;
	struct rig_folder *folders;	/* last made first */
};

static struct rig_attr *to_attr(struct kobj_attribute *attr)
{
	return container_of(attr, struct rig_attr, attr);
}

static struct rig_entry *to_entry(const struct rig_attr *attr)
{
	return &attr->pf->iov->entry[attr->port][attr->n];
}

/* Locally administered, not multicast. */
static u64 random_guid(void)
{
	u64 guid = get_random_u64();

	return (guid & ~(1ULL << 56)) | 1ULL << 57;
}

/* Ask the subnet manager; again after a while if it does not comply. */
static void entry_work(struct work_struct *work)
{
	struct rig_entry *entry = container_of(to_delayed_work(work),
					       struct rig_entry, work);
	struct rig_iov *iov = entry->pf->iov;
	int err;

	rig_command_sleep();
	err = rig_sm_silent || rig_port_state != IB_PORT_ACTIVE ? -ETIMEDOUT :
	      rig_refused(entry->pf, entry->n - 1);
	if (err) {
		unsigned int shift = min(entry->tries++, 6U);

		if (!shift)
			pci_warn(entry->pf->pdev,
				 "SM does not set GUID %u: %d\n", entry->n,
				 err);
		schedule_delayed_work(&entry->work,
				      msecs_to_jiffies(rig_sm_retry_ms) <<
				      shift);
		return;
	}
	mutex_lock(&iov->lock);
	if (entry->admin == RIG_GUID_NONE) {
		entry->oper = 0;
	} else {
		if (!entry->admin)
			entry->admin = random_guid();
		entry->oper = entry->admin;
	}
	mutex_unlock(&iov->lock);
}

static ssize_t admin_show(struct kobject *kobj, struct kobj_attribute *kattr,
			  char *buf)
{
	return sysfs_emit(buf, "%llx\n", to_entry(to_attr(kattr))->admin);
}

/* Any text is a success, as with the real driver; so is entry 0. */
static ssize_t admin_store(struct kobject *kobj, struct kobj_attribute *kattr,
			   const char *buf, size_t count)
{
	struct rig_attr *attr = to_attr(kattr);
	struct rig_entry *entry = to_entry(attr);
	/* What lies on the stack of the real one when the text is bad. */
	u64 guid = 0xffffa1b2c3d4e5f0ULL;

	if (!attr->n) {
		pci_err(attr->pf->pdev, "GUID entry 0 is read-only\n");
		return count;
	}
	if (sscanf(buf, "%llx", &guid) != 1)
		pci_dbg(attr->pf->pdev, "not a GUID\n");
	rig_modify_nowait(attr->pf, attr->n - 1);
	mutex_lock(&attr->pf->iov->lock);
	entry->admin = guid;
	mutex_unlock(&attr->pf->iov->lock);
	entry->tries = 0;
	mod_delayed_work(system_wq, &entry->work,
			 msecs_to_jiffies(rig_sm_delay_ms));
	return count;
}

static ssize_t gid_show(struct kobject *kobj, struct kobj_attribute *kattr,
			char *buf)
{
	__be64 gid[2] = {
		cpu_to_be64(RIG_PREFIX),
		cpu_to_be64(to_entry(to_attr(kattr))->oper),
	};

	return sysfs_emit(buf, "%pI6\n", gid);
}

static ssize_t pkey_show(struct kobject *kobj, struct kobj_attribute *kattr,
			 char *buf)
{
	return sysfs_emit(buf, "0x%04x\n", rig_pkey(to_attr(kattr)->n));
}

static ssize_t gid_idx_show(struct kobject *kobj,
			    struct kobj_attribute *kattr, char *buf)
{
	return sysfs_emit(buf, "%u\n", to_attr(kattr)->slave);
}

static unsigned int *to_pkey(const struct rig_attr *attr)
{
	return &attr->pf->iov->slave[attr->slave].pkey[attr->port][attr->n];
}

static ssize_t pkey_idx_show(struct kobject *kobj,
			     struct kobj_attribute *kattr, char *buf)
{
	unsigned int index = *to_pkey(to_attr(kattr));

	if (index == RIG_PKEYS - 1)
		return sysfs_emit(buf, "none\n");
	return sysfs_emit(buf, "%u\n", index);
}

static ssize_t pkey_idx_store(struct kobject *kobj,
			      struct kobj_attribute *kattr, const char *buf,
			      size_t count)
{
	struct rig_attr *attr = to_attr(kattr);
	int index;

	if (!attr->slave)
		return -EINVAL;
	if (!strncasecmp(buf, "no", 2))
		index = RIG_PKEYS - 1;
	else if (sscanf(buf, "%i", &index) != 1 || index < 0 ||
		 index >= RIG_PKEYS - 1)
		return -EINVAL;
	/* No firmware command: the PF's driver maps the index by itself. */
	WRITE_ONCE(*to_pkey(attr), index);
	return count;
}

static ssize_t smi_show(struct kobject *kobj, struct kobj_attribute *kattr,
			char *buf)
{
	struct rig_attr *attr = to_attr(kattr);

	return sysfs_emit(buf, "%d\n",
			  attr->pf->iov->slave[attr->slave].smi[attr->port]);
}

static ssize_t smi_store(struct kobject *kobj, struct kobj_attribute *kattr,
			 const char *buf, size_t count)
{
	struct rig_attr *attr = to_attr(kattr);
	int on;

	if (sscanf(buf, "%i", &on) != 1 || on < 0 || on > 1)
		return -EINVAL;
	attr->pf->iov->slave[attr->slave].smi[attr->port] = on;
	return count;
}

/* Making folders and files; rig_iov_exit() takes all of them down. */

static struct kobject *folder(struct rig_pf *pf, struct kobject *parent,
			      const char *name)
{
	struct rig_folder *made;

	if (!parent)
		return NULL;
	made = kzalloc(sizeof(*made), GFP_KERNEL);
	if (!made)
		return NULL;
	made->kobj = kobject_create_and_add(name, parent);
	if (!made->kobj) {
		kfree(made);
		return NULL;
	}
	made->next = pf->iov->folders;
	pf->iov->folders = made;
	return made->kobj;
}

static struct kobject *numbered(struct rig_pf *pf, struct kobject *parent,
				unsigned int n)
{
	char name[12];

	snprintf(name, sizeof(name), "%u", n);
	return folder(pf, parent, name);
}

typedef ssize_t show_t(struct kobject *, struct kobj_attribute *, char *);
typedef ssize_t store_t(struct kobject *, struct kobj_attribute *,
			const char *, size_t);

static int file(struct kobject *parent, const struct rig_attr *like,
		const char *name, show_t *show, store_t *store)
{
	struct rig_attr *attr;
	int err;

	if (!parent)
		return -ENOMEM;
	attr = kmemdup(like, sizeof(*like), GFP_KERNEL);
	if (!attr)
		return -ENOMEM;
	if (name)
		strscpy(attr->name, name, sizeof(attr->name));
	else
		snprintf(attr->name, sizeof(attr->name), "%u", attr->n);
	sysfs_attr_init(&attr->attr.attr);
	attr->attr.attr.name = attr->name;
	attr->attr.attr.mode = store ? 0644 : 0444;
	attr->attr.show = show;
	attr->attr.store = store;
	err = sysfs_create_file(parent, &attr->attr.attr);
	if (err) {
		kfree(attr);
		return err;
	}
	attr->next = like->pf->iov->attrs;
	like->pf->iov->attrs = attr;
	return 0;
}

static int files(struct kobject *parent, struct rig_attr like, unsigned int n,
		 show_t *show, store_t *store)
{
	int err = 0;

	for (like.n = 0; !err && like.n < n; like.n++)
		err = file(parent, &like, NULL, show, store);
	return err;
}

static int make_port(struct rig_pf *pf, struct kobject *ports,
		     unsigned int port)
{
	struct rig_attr like = { .pf = pf, .port = port };
	struct kobject *dir = numbered(pf, ports, port + 1);
	int err;

	err = files(folder(pf, dir, "admin_guids"), like, RIG_ENTRIES,
		    admin_show, admin_store);
	if (!err)
		err = files(folder(pf, dir, "gids"), like, RIG_ENTRIES,
			    gid_show, NULL);
	if (!err)
		err = files(folder(pf, dir, "pkeys"), like, RIG_PKEYS - 1,
			    pkey_show, NULL);
	if (!err && !folder(pf, dir, "mcgs"))
		err = -ENOMEM;
	return err;
}

/*
 * The folder's name is made up from the PF's domain and bus and the number of
 * the slave, the latter in decimal: not always the VF's address.
 */
static int make_slave(struct rig_pf *pf, struct kobject *iov,
		      unsigned int slave)
{
	struct kobject *ports;
	unsigned int port;
	char name[16];
	int err = 0;

	snprintf(name, sizeof(name), "%.8s%02u.%u", pci_name(pf->pdev),
		 slave / 8, slave % 8);
	ports = folder(pf, folder(pf, iov, name), "ports");
	for (port = 0; !err && port < pf->hca->ports; port++) {
		struct rig_attr like = {
			.pf = pf, .port = port, .slave = slave,
		};
		struct kobject *dir = numbered(pf, ports, port + 1);

		err = files(folder(pf, dir, "gid_idx"), like, 1, gid_idx_show,
			    NULL);
		if (!err)
			err = files(folder(pf, dir, "pkey_idx"), like,
				    RIG_PKEYS - 1, pkey_idx_show,
				    pkey_idx_store);
		if (err || !slave)
			continue;
		err = file(dir, &like, "smi_enabled", smi_show, NULL);
		if (!err)
			err = file(dir, &like, "enable_smi_admin", smi_show,
				   smi_store);
	}
	return err;
}

/**
 * rig_iov_reset() - GUIDs and P_Key tables as the driver sets them up
 * @pf: the PF
 */
void rig_iov_reset(struct rig_pf *pf)
{
	struct rig_iov *iov = pf->iov;
	unsigned int port, n;

	for (port = 0; port < RIG_MAX_PORTS; port++) {
		for (n = 0; n < RIG_ENTRIES; n++) {
			struct rig_entry *entry = &iov->entry[port][n];

			cancel_delayed_work_sync(&entry->work);
			if (!n)
				entry->admin = pf->guid + port + 1;
			else if (n <= pf->hca->vfs && rig_mlx4_random)
				entry->admin = random_guid();
			else
				entry->admin = 0;
			entry->oper = entry->admin;
		}
		for (n = 0; n <= pf->hca->vfs; n++) {
			unsigned int *pkey = iov->slave[n].pkey[port];
			unsigned int i;

			for (i = 0; i < RIG_PKEYS; i++)
				pkey[i] = !n || !i ? i : RIG_PKEYS - 1;
		}
	}
}

/**
 * rig_iov_init() - make the folder "iov"
 * @pf: the PF, whose IB device is there
 *
 * Return: 0 or a negative errno; rig_iov_exit() is due in any case.
 */
int rig_iov_init(struct rig_pf *pf)
{
	struct kobject *root, *ports;
	unsigned int port, n;
	int err = 0;

	pf->iov = kvzalloc(sizeof(*pf->iov), GFP_KERNEL);
	if (!pf->iov)
		return -ENOMEM;
	mutex_init(&pf->iov->lock);
	pf->iov->slave = kcalloc(pf->hca->vfs + 1, sizeof(*pf->iov->slave),
				 GFP_KERNEL);
	if (!pf->iov->slave) {
		kvfree(pf->iov);
		pf->iov = NULL;
		return -ENOMEM;
	}
	for (port = 0; port < RIG_MAX_PORTS; port++) {
		for (n = 0; n < RIG_ENTRIES; n++) {
			struct rig_entry *entry = &pf->iov->entry[port][n];

			INIT_DELAYED_WORK(&entry->work, entry_work);
			entry->pf = pf;
			entry->n = n;
		}
	}
	rig_iov_reset(pf);
	root = folder(pf, &pf->ib->ibdev.dev.kobj, "iov");
	ports = folder(pf, root, "ports");
	for (n = 0; !err && n < pf->hca->ports; n++)
		err = make_port(pf, ports, n);
	for (n = 0; !err && n <= pf->hca->vfs; n++)
		err = make_slave(pf, root, n);
	return err;
}

void rig_iov_exit(struct rig_pf *pf)
{
	struct rig_iov *iov = pf->iov;
	unsigned int port, n;

	if (!iov)
		return;
	while (iov->folders) {
		struct rig_folder *made = iov->folders;

		iov->folders = made->next;
		/* Takes the files with it, waits for their users. */
		kobject_del(made->kobj);
		kobject_put(made->kobj);
		kfree(made);
	}
	while (iov->attrs) {
		struct rig_attr *attr = iov->attrs;

		iov->attrs = attr->next;
		kfree(attr);
	}
	for (port = 0; port < RIG_MAX_PORTS; port++)
		for (n = 0; n < RIG_ENTRIES; n++)
			cancel_delayed_work_sync(&iov->entry[port][n].work);
	kfree(iov->slave);
	kvfree(iov);
	pf->iov = NULL;
}

/**
 * rig_iov_guid() - the GUID that a VF finds at its probe
 * @pf: the PF
 * @vf: the VF
 * @port: port of the HCA, from 0
 *
 * Return: the admin GUID.
 */
u64 rig_iov_guid(struct rig_pf *pf, int vf, unsigned int port)
{
	return pf->iov->entry[port][vf + 1].admin;
}
