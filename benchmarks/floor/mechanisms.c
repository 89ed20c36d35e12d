// SPDX-License-Identifier: Apache-2.0
/* The floor: the three mechanisms, asked and written. */
#include "floor.h"

static uint32_t seq;

static int ask_once(struct pf *pf)
{
	static unsigned char buf[IBH_NL_ANSWER];
	static struct ibh_vf_info vfs[MAX_VFS];
	unsigned char request[64] __attribute__((aligned(NLMSG_ALIGNTO)));
	struct ibh_link link;
	struct nlmsghdr nlh;
	int err, found = 0;
	size_t at;

	err = ibh_nl_send(sock, 0, request,
			  ibh_build_getlink(request, ++seq, pf->ifindex,
					    pf->dump, 1));
	while (!err) {
		ssize_t n = ibh_nl_recv(sock, 0, buf, sizeof(buf));

		if (n < 0)
			return (int)n;
		for (at = 0; at + NLMSG_HDRLEN <= (size_t)n;
		     at += NLMSG_ALIGN(nlh.nlmsg_len)) {
			memcpy(&nlh, buf + at, sizeof(nlh));
			if (nlh.nlmsg_type == NLMSG_ERROR)
				memcpy(&err, buf + at + NLMSG_HDRLEN, 4);
			if (nlh.nlmsg_type == NLMSG_ERROR ||
			    nlh.nlmsg_type == NLMSG_DONE)
				return err ? err : found ? 0 : -ENODEV;
			memcpy(&link.ifindex, buf + at + NLMSG_HDRLEN + 4, 4);
			if (link.ifindex != pf->ifindex)
				continue;
			err = ibh_parse_link(buf + at + NLMSG_HDRLEN,
					     nlh.nlmsg_len - NLMSG_HDRLEN,
					     &link, vfs, MAX_VFS);
			for (uint32_t i = 0; i < link.vfs; i++)
				pf->now[vfs[i].vf] = (struct state){
					vfs[i].node_guid, vfs[i].port_guid,
					vfs[i].link_state
				};
			found = 1;
			if (!pf->dump)
				return err;
		}
	}
	return err;
}

static void ask_files(struct pf *pf, unsigned int i, bool policy)
{
	char path[128], value[32];
	int n = snprintf(path, sizeof(path), DEVICES "%s/sriov/%u/", pf->pci, i);

	strcpy(path + n, "node");
	pf->now[i].node = get_guid(path);
	strcpy(path + n, "port");
	pf->now[i].port = get_guid(path);
	if (!policy)
		return;
	strcpy(path + n, "policy");
	get(value, sizeof(value), path);
	pf->now[i].policy = *value == 'F' ? FOLLOW : *value == 'U' ? UP : DOWN;
}

static int mlx4_path(char path[160], const struct pf *pf, unsigned int slave)
{
	if (!slave)
		return snprintf(path, 160,
				DEVICES "%s/infiniband/%s/iov/ports/1/",
				pf->pci, pf->ib);
	return snprintf(path, 160,
			DEVICES "%s/infiniband/%s/iov/%.*s:%02u.%u/ports/1/",
			pf->pci, pf->ib, (int)strlen(pf->pci) - 5, pf->pci,
			slave / 8, slave % 8);
}

static void ask_mlx4(struct pf *pf, unsigned int i)
{
	char path[160], value[16];
	int n;

	if (!pf->entry[i]) {
		n = mlx4_path(path, pf, i + 1);
		strcpy(path + n, "gid_idx/0");
		get(value, sizeof(value), path);
		pf->entry[i] = (uint32_t)strtoul(value, NULL, 10);
	}
	n = mlx4_path(path, pf, 0);
	sprintf(path + n, "admin_guids/%u", pf->entry[i]);
	pf->now[i].port = get_guid(path);
}

void ask(struct pf *pf, bool survey)
{
	unsigned int i;
	int err;

	if (mechanism == NETLINK) {
		err = ask_once(pf);
		if (err == -EMSGSIZE && !pf->dump) {
			/* Linux 5.5 to 6.14: many VFs only fit into a dump. */
			pf->dump = true;
			err = ask_once(pf);
		}
		if (err)
			fail("GETLINK", pf->pci, err);
		return;
	}
	for (i = 0; survey && i < pf->numvfs; i++) {
		if (mechanism == FILES)
			ask_files(pf, i, false);
		else
			ask_mlx4(pf, i);
	}
	for (i = 0; i < count; i++) {
		if (items[i].pf != pf || (!survey && !items[i].needed))
			continue;
		if (mechanism == FILES)
			ask_files(pf, items[i].index, true);
		else if (!survey)
			ask_mlx4(pf, items[i].index);
	}
}

static void write_netlink(struct pf *pf, uint64_t idle)
{
	static unsigned char buf[IBH_SET_HEAD + IBH_SET_MAX * IBH_SET_SIZE]
		__attribute__((aligned(NLMSG_ALIGNTO)));
	struct ibh_vf_set sets[IBH_SET_MAX];
	size_t n = 0;
	ssize_t len;
	int err, answer;

	for (unsigned int i = 0; i < count; i++) {
		uint64_t guid = idle ? idle : items[i].guid;
		uint32_t vf = items[i].index;

		if (items[i].pf != pf || !items[i].needed)
			continue;
		if (idle)
			sets[n++] = (struct ibh_vf_set){
				vf, IBH_VF_LINK_STATE, DOWN
			};
		sets[n++] = (struct ibh_vf_set){ vf, IBH_VF_IB_NODE_GUID,
						 guid };
		sets[n++] = (struct ibh_vf_set){ vf, IBH_VF_IB_PORT_GUID,
						 guid };
		if (!idle)
			sets[n++] = (struct ibh_vf_set){
				vf, IBH_VF_LINK_STATE, FOLLOW
			};
	}
	if (!n)
		return;
	len = ibh_build_setlink(buf, sizeof(buf), ++seq, pf->ifindex, sets, n);
	err = len < 0 ? (int)len : ibh_nl_send(sock, 0, buf, (size_t)len);
	if (!err)
		err = ibh_nl_acks(sock, 0, seq, 1, &answer);
	if (err || answer)
		fail("SETLINK", pf->pci, err ? err : answer);
}

static void write_files(struct item *item, uint64_t idle)
{
	char path[128], text[IBH_GUID_TEXT + 1];
	int n = snprintf(path, sizeof(path), DEVICES "%s/sriov/%u/",
			 item->pf->pci, item->index);

	ibh_format_guid(idle ? idle : item->guid, text);
	if (idle) {
		strcpy(path + n, "policy");
		set(path, words[DOWN]);
	}
	strcpy(path + n, "node");
	set(path, text);
	strcpy(path + n, "port");
	set(path, text);
	if (!idle) {
		strcpy(path + n, "policy");
		set(path, words[FOLLOW]);
	}
}

static void write_mlx4(struct item *item, uint64_t idle)
{
	char path[160], text[17];
	int n = mlx4_path(path, item->pf, 0);

	if (!*pkey) {
		for (int i = 0; i < 128 && !*pkey; i++) {
			sprintf(path + n, "pkeys/%d", i);
			get(text, sizeof(text), path);
			if ((strtoul(text, NULL, 16) & 0x7fff) == 0x7fff)
				sprintf(pkey, "%d", i);
		}
	}
	if (!item->pf->entry[item->index])
		ask_mlx4(item->pf, item->index);
	n = mlx4_path(path, item->pf, item->index + 1);
	strcpy(path + n, "pkey_idx/0");
	set(path, "none");
	if (!idle) {
		strcpy(path + n, "pkey_idx/1");
		set(path, pkey);
	}
	n = mlx4_path(path, item->pf, 0);
	sprintf(path + n, "admin_guids/%u", item->pf->entry[item->index]);
	sprintf(text, "%llx", (unsigned long long)(idle ? idle : item->guid));
	set(path, text);
}

void write_pf(struct pf *pf, uint64_t idle)
{
	if (mechanism == NETLINK) {
		write_netlink(pf, idle);
		return;
	}
	for (unsigned int i = 0; i < count; i++) {
		if (items[i].pf != pf || !items[i].needed)
			continue;
		if (mechanism == FILES)
			write_files(&items[i], idle);
		else
			write_mlx4(&items[i], idle);
	}
}
