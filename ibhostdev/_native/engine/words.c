// SPDX-License-Identifier: Apache-2.0
/* What is said of errors, and with which cure: all the words of the engine. */
#include "host.h"

#define MAPPINGS "the physical device mappings"
#define HCA_LOG "look into the kernel log for the health of the HCA"
#define LISTED "see 'ibhostdev list' for the VFs of this host"

const struct words error_words[T_LAST] = {
	[T_REFUSED] = { BY_ERRNO, "refused", NULL },
	[T_UNREADABLE] = { BY_ERRNO, "cannot be read", NULL },
	[T_STATE_UNREADABLE] = { BY_ERRNO, "the VFs' state cannot be read",
				 NULL },
	[T_UNLISTED] = { BY_ERRNO, "cannot be listed", NULL },
	[T_NO_NUMBER] = { BY_ERRNO, "'{1}' is no number", NULL },
	[T_TOO_MANY] = { BY_ERRNO, "cannot be {1}", NULL },
	[T_NO_LOCK] = { BY_ERRNO, "cannot be taken", NULL },
	[T_LOCK_DENIED] = { IBH_ACCESS_DENIED, "cannot be taken",
			    "{2}, or have a folder in the place of {1} that "
			    "you may write to ('--run-dir'), for all that "
			    "plug on this host" },
	[T_LOCK_HELD] = { IBH_TIMED_OUT,
			  "is held by another batch, and was not to be had "
			  "within {1} s",
			  "see with 'lslocks' who has it: a batch takes that "
			  "long when firmware does not answer" },
	[T_LOCK_FOLDER] = { BY_ERRNO, "cannot be taken",
			    "make {1} a folder that locks can be made in, or "
			    "have another ('--run-dir') for all that plug on "
			    "this host" },
	[T_LOCK_READ_ONLY] = { IBH_ACCESS_DENIED, "cannot be taken",
			       "{1} is on a read-only file system: mount a "
			       "writable one there, or have another folder "
			       "('--run-dir') for all that plug on this host" },
	[T_NO_HOST] = { BY_ERRNO, "cannot be opened", NULL },

	[T_NO_IDENTITY] = { IBH_INVALID_INPUT,
			    "{1} is {2} and cannot identify a VF",
			    "use the MAC address of the port" },
	[T_NO_VF_NAMED] = { IBH_INVALID_INPUT, "no VF was named for GUID {1}",
			    "name the VF by its PCI address" },
	[T_GUID_TWICE] = { IBH_INVALID_INPUT, "GUID {1} is named twice{2}",
			   "give each VIF a GUID of its own" },
	[T_VF_TWICE] = { IBH_INVALID_INPUT, "the VF is named twice{1}",
			 "give each VIF a VF of its own" },
	[T_NO_POLICY] = { IBH_INVALID_INPUT,
			  "mlx4 VFs have no policy to set to {1}",
			  "leave the policy out: the port comes up with its "
			  "GUID" },
	[T_FOREIGN_POLICY] = { IBH_INVALID_INPUT,
			       "ebrctl cannot set a policy ({1})",
			       "leave the policy out: the Neutron agent raises "
			       "it" },
	[T_ONE_GUID] = { IBH_INVALID_INPUT,
			 "{1} gives a VF one GUID, and not two",
			 "leave the node GUID out" },
	[T_PF_HAS] = { IBH_GUID_CONFLICT, "GUID {1} is that of PF {2}",
		       "give the VF a GUID that nobody else has" },
	[T_NO_PARTITION] = { IBH_INVALID_INPUT,
			     "{1} is reserved and no partition's P_Key",
			     "1 to 0x7fff are, with 0x8000 added for full "
			     "members" },
	[T_FOREIGN_PKEY] = { IBH_INVALID_INPUT,
			     "ebrctl cannot give P_Key {1}",
			     "leave the P_Key out, or the mechanism to be "
			     "chosen: mlx4_sysfs gives it" },
	[T_NO_MAPPING] = { IBH_INVALID_INPUT,
			   "'{1}' is not of the form NETWORK:DEVICE",
			   "write as in default:ib0,default:ib1,storage:"
			   "mlx5_2" },
	[T_UNPAIRED] = { IBH_INVALID_INPUT,
			 "a quote is none of a pair: {1}",
			 "write quotes around each mapping or around all, or "
			 "none" },
	[T_AUTO_DEVICE] = { IBH_INVALID_INPUT,
			    "'{1}' names no device: {2} is eswitchd's word for "
			    "whichever it finds",
			    "name the device; 'ibhostdev list' shows them" },
	[T_NO_NAME] = { IBH_INVALID_INPUT,
			"'{1}' is no name of a physical network or a device",
			"leave out blanks, quotes, brackets, semicolons and "
			"the like, and a - in front" },
	[T_NETWORK_UNMAPPED] = { IBH_WRONG_NETWORK,
				 "physical network '{1}' is mapped to no PF",
				 "add it to " MAPPINGS ", which have {2}" },

	[T_NO_VF_GIVEN] = { IBH_DEVICE_NOT_FOUND, "no VF was named", NULL },
	[T_NO_DEVICE] = { IBH_DEVICE_NOT_FOUND, "there is no such PCI device",
			  LISTED },
	[T_NO_PHYSFN] = { IBH_DEVICE_NOT_FOUND, "is {1}: it has no physfn",
			  "name one of its VFs; see 'ibhostdev list'" },
	[T_NO_IB_PORT] = { IBH_DEVICE_NOT_FOUND,
			   "its PF {1} has no InfiniBand port",
			   "load the InfiniBand driver (mlx5_ib, mlx4_ib), or "
			   "name a VF of an InfiniBand adapter" },
	[T_ELSEWHERE] = { IBH_DEVICE_NOT_FOUND,
			  "its InfiniBand device is in another RDMA namespace",
			  "have it given back to this one, by 'rdma dev set "
			  "DEVICE netns NAME'" },
	[T_NOT_ENABLED] = { IBH_DEVICE_NOT_FOUND,
			    "is no VF below the {1} that {2} has enabled",
			    "write the number of VFs to " DEVICES
			    "/{2}/sriov_numvfs" },
	[T_NOT_LISTED] = { IBH_DEVICE_NOT_FOUND,
			   "its PF {1} does not list it as VF {2}",
			   "enable the PF's VFs anew" },
	[T_NO_SUCH_PORT] = { IBH_DEVICE_NOT_FOUND,
			     "has no port {1}: its driver gave it another one "
			     "(num_vfs of mlx4_core)",
			     "name the physical network of a port that it "
			     "has" },
	[T_NOT_HERE] = { IBH_WRONG_NETWORK,
			 "physical network '{1}' is mapped to {2}, and no "
			 "InfiniBand PF here has that name",
			 "correct " MAPPINGS "; there are: {3}" },
	[T_OTHER_NETWORK] = { IBH_WRONG_NETWORK,
			      "PF {1} is not on physical network '{2}', which "
			      "is mapped to {3}",
			      "correct the port's binding or " MAPPINGS },
	[T_NO_MECHANISM] = { IBH_NO_MECHANISM,
			     "nothing can set the identities of its VFs ({1})",
			     "load ib_ipoib, or install MLNX_OFED" },
	[T_NOT_FORCED] = { IBH_NO_MECHANISM,
			   "the mechanism that was asked for does not serve "
			   "it ({1})",
			   "leave it to be chosen: 'ibhostdev list' tells "
			   "which" },

	[T_NO_TRAFFIC] = { IBH_NO_MECHANISM,
			   "does not tell what its VFs send and receive "
			   "({1})",
			   "it takes mlx5 and the PF's IPoIB network device" },
	[T_MUCH_TRAFFIC] = { BY_ERRNO,
			     "what its VFs send and receive cannot be read",
			     "the kernel's message has no room for that of "
			     "more than 195 VFs of a PF: enable fewer, or do "
			     "without" },

	[T_GUEST_HAS] = { IBH_DEVICE_IN_USE,
			  "a guest has the VF, with GUID {1}",
			  "detach it from that guest and unplug it first" },
	[T_GUEST_HAS_HOLDER] = { IBH_GUID_CONFLICT,
				 "GUID {1} is held by {2}, which a guest has",
				 "detach {2} from its guest and unplug it "
				 "first" },
	[T_GUEST_HAS_GUID] = { IBH_DEVICE_IN_USE,
			       "a guest has the VF with GUID {1}",
			       "detach it from the guest first" },
	[T_GUEST_HAS_UNTOLD] = { IBH_DEVICE_IN_USE,
				 "a guest has the VF, and nothing tells with "
				 "which GUID",
				 "detach it from the guest first" },
	[T_GIVEN_MEANWHILE] = { IBH_DEVICE_IN_USE,
				"has been given GUID {1} meanwhile",
				"see whose it is; nothing was written" },
	[T_TAKEN_MEANWHILE] = { IBH_DEVICE_IN_USE,
				"a guest has taken the VF meanwhile",
				"detach it from the guest, then unplug it" },
	[T_NOT_ITS] = { IBH_DEVICE_NOT_FOUND, "does not have GUID {1}",
			LISTED },
	[T_UNTOLD] = { IBH_NOT_VERIFIED,
		       "the driver cannot tell the state of the VF", HCA_LOG },
	[T_LINK_UP] = { IBH_NOT_VERIFIED,
			"has its link up, and the kernel does not tell with "
			"which GUID",
			"see whose it is; then plug it for him, and unplug "
			"it" },
	[T_VANISHED] = { IBH_DEVICE_NOT_FOUND, "the VF vanished",
			 "try again" },
	[T_GONE] = { IBH_DEVICE_NOT_FOUND,
		     "vanished: its PF {1} has {2} VFs now",
		     "enable the PF's VFs and try again" },

	[T_NO_ENTRY] = { IBH_COMMAND_FAILED,
			 "the driver does not say which GUID entry is this "
			 "VF's",
			 "look into the kernel log of mlx4_core" },
	[T_NO_CONSENT] = { IBH_TIMED_OUT,
			   "the subnet manager did not take the GUID within "
			   "{1} s",
			   "check that the port is active and the subnet "
			   "manager supports alias GUIDs" },
	[T_NO_PKEY] = { IBH_TIMED_OUT,
			"the subnet manager has not given P_Key {1} to the "
			"port of the PF within {2} s{3}",
			"it is the subnet manager's turn: have it put the "
			"port of the PF into that partition (see 'ibhostdev "
			"fabric export' and 'apply'), then plug again" },
	[T_NO_GUID] = { IBH_NOT_VERIFIED, "'{1}' is not a GUID",
			"look into the kernel log of {2}" },
	[T_DIFFERS] = { IBH_NOT_VERIFIED,
			"{1} reads {2} after {3} was accepted",
			"see whether another program writes to this PF's "
			"VFs" },
	[T_NOTHING_SET] = { IBH_NOT_VERIFIED,
			    "no GUID was set, though ebrctl reported success",
			    "restart eswitchd: it does not know VFs that were "
			    "enabled after it had started" },
	[T_ROLLED_BACK] = { IBH_ROLLED_BACK, "rolled back because of {1}",
			    NULL },
	[T_LEFT_ALONE] = { IBH_ROLLED_BACK, "left alone because of {1}",
			   NULL },
	[T_LEFT_TO_FOREIGN] = { IBH_ROLLED_BACK,
				"left alone because another VF failed", NULL },
	[T_NOT_PUT_BACK] = { IBH_ROLLBACK_FAILED,
			     "could not be put back to what it was ({1}) "
			     "after {2}",
			     "see what it is now with 'ibhostdev list', then "
			     "plug or unplug it again" },

	[T_NO_LONGER_VF] = { IBH_REBIND_FAILED, "is no longer a VF of {1}",
			     NULL },
	[T_NOT_BOUND] = { IBH_REBIND_FAILED,
			  "is idle, but could not be bound to {1} again",
			  "echo {2} > /sys/" DRIVERS "/{1}/bind" },
	[T_NOT_UNBOUND] = { IBH_REBIND_FAILED,
			    "is idle, but {1} has it and shows its old "
			    "identity",
			    "echo {2} > /sys/" DRIVERS "/{1}/unbind, and to "
			    "bind then" },
	[T_VFS_KEPT] = { IBH_DEVICE_IN_USE,
			 "cannot have {1} VFs in place of {2}: a guest has {3}",
			 "detach the VFs from their guests first" },
	[T_VFS_LENT] = { IBH_DEVICE_IN_USE,
			 "cannot have {1} VFs in place of {2}: {3} may be a "
			 "container's, for it has no network device here, "
			 "while others have",
			 "take it back from its container, or its driver from "
			 "it" },
	[T_NOT_MADE] = { BY_ERRNO, "cannot be {1}",
			 "see in the kernel log what was missing: firmware "
			 "(SRIOV_EN, NUM_OF_VFS of mlxconfig), or room on the "
			 "PCI bus (pci=realloc)" },
	[T_NOT_SHOWN] = { IBH_TIMED_OUT,
			  "{1} of {2} VFs have shown up within {3} s",
			  "look into the kernel log, and try again" },
	[T_GUEST_DRIVES] = { IBH_DEVICE_IN_USE,
			     "a guest has the VF: it stays on {1}",
			     "detach it from the guest first" },
	[T_DRIVES_LENT] = { IBH_DEVICE_IN_USE,
			    "stays on {1}: it may be a container's, for it "
			    "has no network device here, while others have",
			    "take it back from its container, or its driver "
			    "from it" },
	[T_NO_DRIVER] = { IBH_COMMAND_FAILED, "there is no driver {1}",
			  "modprobe {1}" },
	[T_NOT_DRIVEN] = { BY_ERRNO, "could not be bound to {1}", HCA_LOG },
	[T_NOT_RELEASED] = { BY_ERRNO, "{1} does not let go of it", HCA_LOG },
	[T_OTHER_DRIVER] = { IBH_NOT_VERIFIED,
			     "is on {1}, though {2} was to have it",
			     "see who else binds VFs on this host" },
	[T_NO_SERVER] = { IBH_NOT_RUNNING,
			  "no server answers for this simulated host",
			  "start it: ibhostdev simulate {1}" },
};

const char *usual_cure(int number)
{
	switch (number) {
	case EPERM:
		return "needs CAP_NET_ADMIN in the network namespace of the "
		       "PF: run as root, or see '--privilege'";
	case EACCES:
		return "run as root or with CAP_DAC_OVERRIDE, or see "
		       "'--privilege'";
	case EROFS:
		return "/sys is mounted read-only here: mount it writable, or "
		       "give the PF an IPoIB netdev so that netlink serves";
	case ENODEV:
		return "the device went away: check that the PF's driver is "
		       "bound and its VFs are enabled";
	case ENOENT:
		return "the device went away or its driver does not offer "
		       "this: check that the PF's driver is bound and its VFs "
		       "are enabled";
	case EOPNOTSUPP:
		return "the driver of this PF cannot do it: see 'ibhostdev "
		       "doctor'";
	case ETIMEDOUT:
		return "firmware does not answer: " HCA_LOG;
	case EIO:
		return "firmware refused: look into the kernel log";
	case EINVAL:
		return "driver or firmware took the request for malformed: "
		       "look into the kernel log";
	case EBUSY:
		return "something else holds the device: try again";
	case EAGAIN:
		return "firmware is busy: try again";
	case ENOBUFS:
		return "the kernel is out of socket memory: try again";
	case EMSGSIZE:
		return "the kernel cannot put this many VFs into a message: "
		       "update it, or install MLNX_OFED";
	case EBADMSG:
		return "the kernel's message has no room for more than 277 "
		       "VFs of a PF: enable fewer, or install MLNX_OFED";
	default:
		return NULL;
	}
}

enum ibh_kind usual_kind(int number)
{
	switch (number) {
	case EPERM:
	case EACCES:
	case EROFS:
		return IBH_ACCESS_DENIED;
	case ETIMEDOUT:
		return IBH_TIMED_OUT;
	default:
		return IBH_COMMAND_FAILED;
	}
}
