// SPDX-License-Identifier: GPL-2.0-only
/*
 * Linux 5.5 to 6.14 (and stable kernels before April 2025) underestimate the
 * size of a link's message by the GUIDs of its VFs, 40 bytes a VF, and refuse
 * a GETLINK with EMSGSIZE and a warning.  Here the kernel's own estimate is
 * lessened, so that all that follows from it is the kernel's, too.
 */
#include <linux/kprobes.h>
#include <linux/module.h>
#include <linux/netdevice.h>
#include <linux/rtnetlink.h>

#include "rig.h"

static uint lacks;
static bool probed;

/* if_nlmsg_size(dev, ext_filter_mask); 1: its return is of no interest */
static int size_entry(struct kretprobe_instance *instance,
		      struct pt_regs *regs)
{
	struct net_device *netdev = (void *)regs_get_kernel_argument(regs, 0);
	u32 mask = regs_get_kernel_argument(regs, 1);
	size_t *less = (size_t *)instance->data;

	if (!(mask & RTEXT_FILTER_VF) || !rig_netdev_has_vfs(netdev))
		return 1;
	*less = (size_t)READ_ONCE(lacks) * dev_num_vf(netdev->dev.parent);
	return 0;
}

static int size_return(struct kretprobe_instance *instance,
		       struct pt_regs *regs)
{
	size_t size = regs_return_value(regs);
	size_t *less = (size_t *)instance->data;

	regs_set_return_value(regs, size - min(size, *less));
	return 0;
}

static struct kretprobe size_probe = {
	.kp.symbol_name	= "if_nlmsg_size",
	.entry_handler	= size_entry,
	.handler	= size_return,
	.data_size	= sizeof(size_t),
};

/* No probe before it is wanted: what is measured here is to be the kernel. */
static int lacks_set(const char *value, const struct kernel_param *kp)
{
	uint wanted;
	int err = kstrtouint(value, 0, &wanted);

	if (err)
		return err;
	if (wanted && !probed) {
		err = register_kretprobe(&size_probe);
		if (err)
			return err;
		probed = true;
	}
	WRITE_ONCE(lacks, wanted);
	return 0;
}

static const struct kernel_param_ops lacks_ops = {
	.set = lacks_set,
	.get = param_get_uint,
};
module_param_cb(estimate_lacks, &lacks_ops, &lacks, 0644);
MODULE_PARM_DESC(estimate_lacks, "bytes a VF that the kernel's estimate of a PF's GETLINK lacks; 40 as in Linux 5.5 to 6.14");

void rig_estimate_exit(void)
{
	if (probed)
		unregister_kretprobe(&size_probe);
}
