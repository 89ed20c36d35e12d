// SPDX-License-Identifier: Apache-2.0
/*
 * mlx4 (ConnectX-3) by /sys/class/infiniband/<device>/iov.
 *
 * A GUID is a request here: ports/<p>/admin_guids/<i> takes anything and
 * always reports success, a work item asks the subnet manager, and only
 * ports/<p>/gids/<i> shows that it agreed (drivers/infiniband/hw/mlx4/
 * sysfs.c and alias_GUID.c). VFs have no policies, and the node GUIDs that
 * the driver makes up for them (mad.c, mlx4_ib_init_sriov).
 */
#include "batch.h"
#include "mlx4.h"

#define FIRST_PAUSE_MS 2
#define LONGEST_PAUSE_MS 200

/* ---- paths ------------------------------------------------------------- */

static void add_iov(struct path *path, const struct side *side)
{
	path_device(path, side->pf->address, "/infiniband/");
	path_add(path, side->pf->ib_device);
	path_add(path, "/iov/");
}

static void add_port(struct path *path, const struct side *side)
{
	path_add(path, "ports/");
	path_number(path, side->port);
	path_is_folder(path);
}

void iov_of_port(struct iov *iov, const struct side *side)
{
	iov->side = side;
	add_iov(&iov->port, side);
	add_port(&iov->port, side);
}

/* The driver makes the VFs' names up (sysfs.c, register_one_pkey_tree): the
 * PF's bus, and slave number in place of device and function. */
void iov_of_vf(struct iov *iov, unsigned int index)
{
	const struct side *side = iov->side;
	unsigned int slave = index + 1;

	iov->index = index;
	add_iov(&iov->vf, side);
	path_add(&iov->vf, side->pf->address);
	path_cut(&iov->vf, iov->vf.len - strlen("00.0"));
	if (slave < 80)
		path_add(&iov->vf, "0");
	path_number(&iov->vf, slave / 8);
	path_add(&iov->vf, ".");
	path_number(&iov->vf, slave % 8);
	path_add(&iov->vf, "/");
	add_port(&iov->vf, side);
}

/* ---- reading ----------------------------------------------------------- */

ssize_t iov_read(const struct iov *iov, const char *path, char *value,
		 size_t size)
{
	return host_read(iov->side->host, path, value, size);
}

/*
 * The VF's entry in admin_guids, 0 if the driver does not say: 0 is the PF's
 * own, which ignores what is written. There is a folder for each port that
 * the VF has, and no other.
 */
static unsigned int read_entry(struct iov *iov)
{
	char value[SHORT_VALUE], *end;
	unsigned long entry;

	if (iov_read(iov, path_file(&iov->vf, "gid_idx/0"), value,
		     sizeof(value)) <= 0 ||
	    value[0] < '0' || value[0] > '9')
		return 0;
	entry = strtoul(value, &end, 10);
	return *end || entry > INT32_MAX ? 0 : (unsigned int)entry;
}

/* admin_guids are hex without padding, gids 128 bits of which the GUID is
 * the second half. *found is false if it cannot be read. */
static struct ibh_error *read_guid(struct iov *iov, const char *kind,
				   unsigned int entry, uint64_t *guid,
				   bool *found)
{
	char value[SHORT_VALUE], address[IBH_PCI_TEXT + 1];

	*found = iov_read(iov, path_entry(&iov->port, kind, entry), value,
			  sizeof(value)) >= 0;
	if (!*found || !ibh_parse_digits(value, guid))
		return NULL;
	vf_address(iov->side->pf, iov->index, address);
	return fail(T_NO_GUID, address, iov->port.text, 0, value, "mlx4_core",
		    NULL);
}

/* The driver makes folders for the ports that a VF has, and no others
 * (sysfs.c, register_one_pkey_tree; num_vfs=4,4,0 gives VFs one port each).
 * Only where the VF's own folder is there does that say anything. */
static bool has_port(const struct iov *iov)
{
	struct path path = iov->vf;

	path_file(&path, "");
	if (host_has_folder(iov->side->host, path.text))
		return true;
	path_cut(&path, path.len - strlen("1/"));
	return !host_has_folder(iov->side->host, path.text);
}

bool mlx4_has_port(struct ibh_host *host, const struct ibh_pf *pf,
		   unsigned int index, unsigned int port)
{
	struct side side = { .host = host, .pf = pf, .port = port };
	struct iov iov;

	iov_of_port(&iov, &side);
	iov_of_vf(&iov, index);
	return has_port(&iov);
}

static struct ibh_error *survey_vf(struct side *side, struct iov *iov)
{
	unsigned int entry = read_entry(iov);
	struct ibh_state state = { 0 };
	struct ibh_error *error;
	uint64_t agreed;
	bool found;
	int err;

	side->told[iov->index] = UNTOLD;
	if (!entry) {
		if (!has_port(iov))
			side->told[iov->index] = NO_PORT;
		return NULL;
	}
	error = read_guid(iov, "admin_guids/", entry, &state.port, &found);
	if (error || !found)
		return error;
	state.have = IBH_HAVE_PORT;
	if (side->mine && side->mine[iov->index]) {
		/* What was only asked for is asked for again: the driver
		 * gives a request up when the VF's own driver goes. */
		error = read_guid(iov, "gids/", entry, &agreed, &found);
		if (error)
			return error;
		state.pending = !found || agreed != state.port;
	}
	/* They are written with the GUID, and could not be put back. */
	err = mlx4_read_places(iov, &state);
	if (err && err != -ENOENT)
		return NULL;
	side->states[iov->index] = state;
	side->told[iov->index] = TOLD;
	return NULL;
}

static struct ibh_error *survey_all(struct side *side)
{
	struct ibh_error *error = NULL;
	struct iov iov;
	unsigned int i;

	iov_of_port(&iov, side);
	for (i = 0; i < side->pf->numvfs && !error; i++) {
		iov_of_vf(&iov, i);
		error = survey_vf(side, &iov);
	}
	return error;
}

/* ---- what there is to be ----------------------------------------------- */

static bool obstacle(const struct side *side, char *why, size_t size)
{
	struct iov iov;

	if (side->pf->family != IBH_MLX4) {
		format(why, size, "the PF's driver is not mlx4_core");
		return true;
	}
	iov_of_port(&iov, side);
	if (host_exists(side->host, path_entry(&iov.port, "admin_guids/", 0)))
		return false;
	format(why, size,
	       "the driver shows no iov folder: it has no VFs enabled");
	return true;
}

static struct ibh_error *plugged(const struct side *side,
				 const struct ibh_vif *vif,
				 const struct ibh_how *how,
				 struct ibh_state *wanted)
{
	(void)side;
	if (how && how->set_policy && how->policy != IBH_FOLLOW)
		return fail(T_NO_POLICY, NULL, "policy", 0,
			    how->policy == IBH_UP ? "up" : "down", NULL, NULL);
	*wanted = (struct ibh_state){ .port = vif->port_guid,
				      .pkey = vif->pkey,
				      .have = IBH_HAVE_PORT };
	if (vif->pkey)
		wanted->have |= IBH_HAVE_PKEY;
	return NULL;
}

static struct ibh_state idle(const struct side *side)
{
	(void)side;
	return (struct ibh_state){ .port = IBH_GUID_IDLE,
				   .have = IBH_HAVE_PORT };
}

/* ---- writing ----------------------------------------------------------- */

static bool wants_default_pkey(const struct ibh_state *state)
{
	return state->have & IBH_HAVE_PORT &&
	       !(state->have & IBH_HAVE_PKEYS) && !guid_is_idle(state->port);
}

bool iov_put(const struct iov *iov, struct change *change, const char *path,
	     const char *value)
{
	int err = host_write(iov->side->host, path, value);

	if (err)
		change->refusal = fail(T_REFUSED, change->address, path, err,
				       NULL, NULL, NULL);
	return !err;
}

static bool put_guid(struct iov *iov, struct change *change,
		     unsigned int entry)
{
	char text[17]; /* hex, as the driver reads it */

	format(text, sizeof(text), "%llx",
	       (unsigned long long)change->put.port);
	return iov_put(iov, change,
		       path_entry(&iov->port, "admin_guids/", entry), text);
}

/*
 * No partition while the GUID changes, and the default partition in the
 * second entry, as the Neutron agent expects it: it puts the network's own
 * into the first, unless the VIF has named it. The GUID last of what is found
 * right away: one that is there says that all of that is.
 */
static void write_vf(struct iov *iov, struct change *change,
		     const char *default_pkey)
{
	const struct ibh_state *state = &change->put;
	bool places = state->have & IBH_HAVE_PKEYS;
	const char *second = NULL;
	unsigned int entry = read_entry(iov);

	if (!entry) {
		change->refusal = fail(T_NO_ENTRY, change->address,
				       iov->vf.text, 0, NULL, NULL, NULL);
		return;
	}
	if (places)
		second = state->pkeys[1];
	else if (wants_default_pkey(state))
		second = default_pkey;
	if (state->have & IBH_HAVE_PORT &&
	    (!mlx4_put_place(iov, change, 0, no_place) ||
	     (second && !mlx4_put_place(iov, change, 1, second)) ||
	     !put_guid(iov, change, entry)))
		return;
	/* Without the GUID it is adjusted, or put back. */
	if (places && (!(state->have & IBH_HAVE_PORT) ||
		       strcmp(state->pkeys[0], no_place)))
		mlx4_put_place(iov, change, 0, state->pkeys[0]);
}

static void write_all(struct side *side, struct change **changes,
		      size_t count, struct run *run)
{
	const char *default_pkey = NULL;
	struct iov iov;
	char text[IBH_PKEY];
	size_t i;

	iov_of_port(&iov, side);
	for (i = 0; i < count; i++) {
		if (wants_default_pkey(&changes[i]->put)) {
			if (mlx4_find_default(&iov, text))
				default_pkey = text;
			break;
		}
	}
	for (i = 0; i < count; i++) {
		iov_of_vf(&iov, changes[i]->vf.index);
		if (run && stopped(run)) {
			changes[i]->tried = false;
			changes[i]->refusal =
				fail(T_REFUSED, changes[i]->address,
				     path_file(&iov.vf, "pkey_idx/0"), EINTR,
				     NULL, NULL, NULL);
			continue;
		}
		write_vf(&iov, changes[i], default_pkey);
	}
	/* Behind the GUIDs: a subnet manager may have to see those first. */
	mlx4_give_pkeys(side, changes, count, run);
}

/* ---- reading back ------------------------------------------------------ */

/* A VF for whose GUID the subnet manager's consent is awaited. */
struct awaited {
	struct change *change;
	unsigned int entry;
};

static struct ibh_error *read_back_vf(struct iov *iov, struct change *change,
				      unsigned int entry)
{
	struct ibh_error *error;

	change->told = false;
	change->seen = (struct ibh_state){ .have = IBH_HAVE_PORT };
	if (!entry)
		return NULL;
	error = read_guid(iov, "admin_guids/", entry, &change->seen.port,
			  &change->told);
	change->told &= !error;
	/* Those that are put back, or were named; else who plugs leaves the
	 * first entry to the Neutron agent. */
	if (change->put.have & (IBH_HAVE_PKEYS | IBH_HAVE_PKEY) &&
	    !mlx4_read_places(iov, &change->seen) &&
	    (change->put.have | change->before.have) & IBH_HAVE_PKEY)
		mlx4_see_pkey(iov->side, &change->seen);
	/* One that is to be the subnet manager's choice is right as it is. */
	if (change->put.have & IBH_HAVE_PORT && !change->put.port &&
	    !change->refusal)
		change->seen.port = 0;
	return error;
}

/* An idle VF needs no consent: nobody is to use it, and the subnet manager
 * may be away. */
static bool needs_consent(const struct change *change)
{
	return change->told && change->put.have & IBH_HAVE_PORT &&
	       !guid_is_idle(change->put.port) &&
	       change->seen.port == change->put.port;
}

/* Takes those out of the list that have it. */
static struct ibh_error *look(struct iov *iov, struct awaited *awaited,
			      size_t *count)
{
	struct ibh_error *error;
	size_t i, left = 0;
	uint64_t guid;
	bool found;

	for (i = 0; i < *count; i++) {
		const struct change *change = awaited[i].change;

		iov->index = change->vf.index;
		error = read_guid(iov, "gids/", awaited[i].entry, &guid,
				  &found);
		if (error)
			return error;
		if (!found || guid != change->put.port)
			awaited[left++] = awaited[i];
	}
	*count = left;
	return NULL;
}

static struct ibh_error *wait_for_consent(struct iov *iov,
					  struct awaited *awaited,
					  size_t count)
{
	struct ibh_host *host = iov->side->host;
	uint64_t deadline = host->io->now(host->context) + host->patience_ms;
	unsigned int pause = FIRST_PAUSE_MS;
	struct ibh_error *error;
	char seconds[24];
	size_t i;

	for (;;) {
		error = look(iov, awaited, &count);
		if (error || !count)
			return error;
		if (host->io->now(host->context) > deadline)
			break;
		host->io->sleep(host->context, pause);
		pause = 2 * pause < LONGEST_PAUSE_MS ? 2 * pause :
						       LONGEST_PAUSE_MS;
	}
	format(seconds, sizeof(seconds), "%g", host->patience_ms / 1000.0);
	for (i = 0; i < count; i++) {
		struct change *change = awaited[i].change;

		change->told = false;
		change->doubt = fail(T_NO_CONSENT, change->address,
				     path_entry(&iov->port, "gids/",
						awaited[i].entry),
				     0, seconds, NULL, NULL);
	}
	return NULL;
}

static struct ibh_error *read_back(struct side *side, struct change **changes,
				   size_t count, bool settle)
{
	struct awaited *awaited = calloc(count, sizeof(*awaited));
	struct ibh_error *error = NULL;
	size_t i, waiting = 0;
	struct iov iov;

	if (!awaited)
		return fail(T_MEMORY, NULL, NULL, 0, NULL, NULL, NULL);
	iov_of_port(&iov, side);
	for (i = 0; i < count && !error; i++) {
		unsigned int entry;

		iov_of_vf(&iov, changes[i]->vf.index);
		entry = read_entry(&iov);
		error = read_back_vf(&iov, changes[i], entry);
		if (!error && settle && needs_consent(changes[i]))
			awaited[waiting++] =
				(struct awaited){ changes[i], entry };
	}
	if (!error && waiting)
		error = wait_for_consent(&iov, awaited, waiting);
	free(awaited);
	return error;
}

const struct mechanism mlx4_sysfs = {
	.id = IBH_MLX4_SYSFS,
	.name = "mlx4_sysfs",
	.obstacle = obstacle,
	.plugged = plugged,
	.idle = idle,
	.survey = survey_all,
	.write = write_all,
	.read_back = read_back,
};
