// SPDX-License-Identifier: Apache-2.0
/*
 * What VFs have sent and received: IFLA_VF_STATS, which IPoIB has of mlx5
 * (ipoib_get_vf_stats() of drivers/infiniband/ulp/ipoib, mlx5_ib_get_vf_stats()
 * of hw/mlx5/ib_virt.c): packets, octets and multicast, and what is dropped
 * only where a driver tells it.
 */
#include "mechanism.h"
#include "rtnetlink.h"

static struct ibh_error *count(const struct side *side,
			       struct ibh_traffic *traffic, bool *told)
{
	char why[160], attribute[IBH_NAME + 32];
	struct vf_info *infos;
	size_t found, i;
	int err;

	if (mlx5_netlink.obstacle(side, why, sizeof(why)))
		return fail(T_NO_TRAFFIC, side->pf->address, NULL, 0, why,
			    NULL, NULL);
	err = netlink_traffic(side->host, side->netdev->ifindex, &infos,
			      &found);
	format(attribute, sizeof(attribute), "RTM_GETLINK of %s",
	       side->netdev->name);
	/* There is less room for VFs with this than without. */
	if (err)
		return fail(err == -EBADMSG || err == -EMSGSIZE ?
				    T_MUCH_TRAFFIC :
				    T_STATE_UNREADABLE,
			    side->pf->address, attribute, err, NULL, NULL,
			    NULL);
	for (i = 0; i < found; i++) {
		if (infos[i].vf >= side->pf->numvfs || !infos[i].counted)
			continue;
		traffic[infos[i].vf] = infos[i].traffic;
		told[infos[i].vf] = true;
	}
	free(infos);
	return NULL;
}

int ibh_count_traffic(struct ibh_host *host, const struct ibh_pf *pf,
		      unsigned int port, struct ibh_traffic *traffic,
		      bool *told, struct ibh_error **error)
{
	struct side side;

	side_init(&side, host, pf, port);
	memset(told, 0, pf->numvfs * sizeof(*told));
	*error = count(&side, traffic, told);
	host_sockets_close(host);
	return *error ? -1 : 0;
}
