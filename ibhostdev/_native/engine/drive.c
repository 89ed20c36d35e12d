// SPDX-License-Identifier: Apache-2.0
/*
 * VFs given to drivers: by driver_override, which holds whatever the PF's
 * sriov_drivers_autoprobe says (drivers/pci/pci-driver.c), and many at once,
 * for a probe is 0.3 to 0.5 s of waiting for firmware.
 */
#include "batch.h"
#include "path.h"

#define AT_ONCE 32
/* Firmware may still be initialising the function. */
#define TRIES 5
#define PAUSE_MS 200
#define KERNELS_CHOICE "bus/pci/drivers_probe"
#define NOBODY "no driver"

struct drive {
	struct ibh_driving *public;
	struct ibh_pf pf;
	struct ibh_vf vf;
	char address[IBH_PCI_TEXT + 1];
	bool found;
};

struct drives {
	struct run *run;
	struct drive *all;
};

/* ---- a VF's files ------------------------------------------------------ */

static bool is_passing(int err)
{
	return err == -EIO || err == -EAGAIN || err == -EBUSY ||
	       err == -ETIMEDOUT;
}

static int write_patiently(struct ibh_host *host, const char *path,
			   const char *value)
{
	int tries, err;

	for (tries = 1;; tries++) {
		err = host_write(host, path, value);
		if (!is_passing(err) || tries == TRIES)
			return err;
		host->io->sleep(host->context, PAUSE_MS);
	}
}

int drive_poke(struct ibh_host *host, const char *driver, const char *action,
	       const char *address)
{
	struct path path = { 0 };

	path_add(&path, DRIVERS "/");
	path_add(&path, driver);
	path_add(&path, action);
	return write_patiently(host, path.text, address);
}

ssize_t drive_target(struct ibh_host *host, const char *address,
		     const char *link, char name[IBH_NAME])
{
	struct path path;

	path_device(&path, address, link);
	return host_base(host, path.text, name, IBH_NAME);
}

/* Sets what is to have a VF whatever else would; "" is nobody. */
static int override(struct ibh_host *host, const struct drive *drive,
		    const char *driver)
{
	char now[IBH_NAME];
	struct path path;

	path_device(&path, drive->address, "/driver_override");
	if (host_read(host, path.text, now, sizeof(now)) >= 0 &&
	    !strcmp(now, *driver ? driver : "(null)"))
		return 0;
	return host_write(host, path.text, *driver ? driver : "\n");
}

/* A call that was killed may have left the vendor's own driver there. */
static bool is_left(struct ibh_host *host, const struct drive *drive)
{
	char now[IBH_NAME];
	struct path path;

	path_device(&path, drive->address, "/driver_override");
	return drive->public->driver &&
	       !strcmp(drive->vf.driver, drive->pf.driver) &&
	       host_read(host, path.text, now, sizeof(now)) >= 0 &&
	       !strcmp(now, drive->pf.driver);
}

/* ---- one VF ------------------------------------------------------------ */

/* A driver takes its VF's identity when it is bound, and shows it. */
static bool is_stale(struct run *run, const struct drive *drive)
{
	uint64_t wanted = drive->public->node_guid, shown;

	if (!wanted || strcmp(drive->vf.driver, "mlx5_core"))
		return false;
	shown = vf_own_identity(run->host, &drive->vf);
	return shown && shown != wanted &&
	       !(guid_is_idle(shown) && guid_is_idle(wanted));
}

/* The driver that it is to be bound to: NULL leaves it as it is, "" is none,
 * and the path of a file the kernel's choice. */
static const char *next_driver(struct run *run, const struct drive *drive)
{
	const char *wanted = drive->public->driver;
	const char *now = drive->vf.driver;

	if (!wanted && !*now)
		return drive->pf.autoprobe ? KERNELS_CHOICE : NULL;
	if (wanted && strcmp(wanted, now) != 0)
		return wanted;
	return is_stale(run, drive) ? now : NULL;
}

static bool is_there(struct ibh_host *host, const char *driver)
{
	struct path path = { 0 };

	path_add(&path, DRIVERS "/");
	path_add(&path, driver);
	return !*driver || !strcmp(driver, KERNELS_CHOICE) ||
	       host_has_folder(host, path.text);
}

static struct ibh_error *release(struct ibh_host *host,
				 const struct drive *drive)
{
	char name[IBH_NAME];
	int err;

	/* Once more, right before: a PF has no physfn, and unbinding one
	 * takes the fabric from every guest of the host. */
	if (drive_target(host, drive->address, "/physfn", name) < 0 ||
	    strcmp(name, drive->pf.address))
		return fail(T_NO_LONGER_VF, drive->address, "physfn", 0,
			    drive->pf.address, NULL, NULL);
	if (!drive->vf.driver[0])
		return NULL;
	err = drive_poke(host, drive->vf.driver, "/unbind", drive->address);
	if (!err || drive_target(host, drive->address, "/driver", name) < 0)
		return NULL;
	return fail(T_NOT_RELEASED, drive->address, "unbind", err,
		    drive->vf.driver, NULL, NULL);
}

static struct ibh_error *bind_to(struct ibh_host *host,
				 const struct drive *drive, const char *driver)
{
	bool own = !strcmp(driver, drive->pf.driver);
	char name[IBH_NAME];
	int err = override(host, drive,
			   own && drive->pf.autoprobe ? "" : driver);

	if (err)
		return fail(T_NOT_DRIVEN, drive->address, "driver_override",
			    err, driver, NULL, NULL);
	err = drive_poke(host, driver, "/bind", drive->address);
	/* The vendor's own comes by itself; another is to come again. */
	if (own)
		(void)override(host, drive, "");
	if (drive_target(host, drive->address, "/driver", name) < 0) {
		if (err)
			return fail(T_NOT_DRIVEN, drive->address, "bind", err,
				    driver, NULL, NULL);
		format(name, sizeof(name), NOBODY);
	}
	return strcmp(name, driver) ?
		       fail(T_OTHER_DRIVER, drive->address, "driver", 0, name,
			    driver, NULL) :
		       NULL;
}

static struct ibh_error *drive_one(struct run *run, struct drive *drive)
{
	struct ibh_host *host = run->host;
	const char *driver;
	struct ibh_error *error;
	int err;

	/* It may have been taken while others were bound. */
	if (!vf_read(host, &drive->pf, drive->vf.index, &drive->vf))
		return fail(T_VANISHED, drive->address, NULL, 0, NULL, NULL,
			    NULL);
	driver = next_driver(run, drive);
	if (!driver && is_left(host, drive)) {
		drive->public->changed = true;
		err = override(host, drive, "");
		return err ? fail(T_REFUSED, drive->address, "driver_override",
				  err, NULL, NULL, NULL) :
			     NULL;
	}
	if (!driver)
		return NULL;
	if (drive->vf.in_use)
		return fail(T_GUEST_DRIVES, drive->address, "driver", 0,
			    drive->vf.driver, NULL, NULL);
	if (vf_is_lent(host, &drive->pf, &drive->vf,
		       vfs_have_netdevs(host, &drive->pf)))
		return fail(T_DRIVES_LENT, drive->address, "driver", 0,
			    drive->vf.driver, NULL, NULL);
	if (!is_there(host, driver))
		return fail(T_NO_DRIVER, drive->address, "driver", 0, driver,
			    NULL, NULL);
	drive->public->changed = true;
	error = release(host, drive);
	if (error || !*driver)
		return error;
	if (strcmp(driver, KERNELS_CHOICE) != 0)
		return bind_to(host, drive, driver);
	err = write_patiently(host, KERNELS_CHOICE, drive->address);
	return err ? fail(T_NOT_DRIVEN, drive->address, "drivers_probe", err,
			  drive->pf.driver, NULL, NULL) :
		     NULL;
}

static void drive_next(void *context, size_t i)
{
	struct drives *drives = context;
	struct drive *drive = &drives->all[i];

	if (drive->found && !drive->public->error)
		drive->public->error =
			stopped(drives->run) ?
				fail(T_REFUSED, drive->address, "driver",
				     EINTR, NULL, NULL, NULL) :
				drive_one(drives->run, drive);
	progress(drives->run, IBH_BIND, 1);
}

/* ---- all of them ------------------------------------------------------- */

/* One that becomes part of a path. */
static bool is_driver(const char *name)
{
	return !name || !*name ||
	       (strlen(name) < IBH_NAME && *name != '.' && *name != '-' &&
		!strchr(name, '/'));
}

static struct ibh_error *find(struct drives *drives, size_t count,
			      struct ibh_driving *public)
{
	struct run *run = drives->run;
	struct ibh_error *error = topology_get(run->host, true,
					       &run->topology);
	const struct ibh_pf *pf;
	size_t i;

	for (i = 0; i < count && !error; i++) {
		struct drive *drive = &drives->all[i];

		drive->public = &public[i];
		ibh_format_pci(public[i].vf, drive->address);
		if (!is_driver(public[i].driver)) {
			error = fail(T_NO_NAME, drive->address, "driver", 0,
				     public[i].driver, NULL, NULL);
			break;
		}
		public[i].error = vf_locate(run->host, &run->topology->public,
					    public[i].vf, NULL, &pf,
					    &drive->vf);
		drive->found = !public[i].error;
		if (drive->found)
			drive->pf = *pf;
	}
	return error;
}

int ibh_drive(struct ibh_host *host, struct ibh_driving *public, size_t count,
	      const struct ibh_how *how, struct ibh_error **error)
{
	static const struct ibh_how usual;
	unsigned int at_once = host->io->at_once;
	struct run run = {
		.host = host,
		.how = how ? how : &usual,
		.caller = pthread_self(),
		.due = count,
	};
	struct drives drives = { .run = &run };
	size_t i;

	drives.all = calloc(count + 1, sizeof(*drives.all));
	if (!drives.all) {
		*error = fail(T_MEMORY, NULL, NULL, 0, NULL, NULL, NULL);
		return -1;
	}
	for (i = 0; i < count; i++) {
		public[i].changed = false;
		public[i].error = NULL;
	}
	pthread_mutex_init(&run.mutex, NULL);
	*error = find(&drives, count, public);
	if (!*error)
		each(count, at_once < AT_ONCE ? at_once : AT_ONCE, drive_next,
		     &drives);
	for (i = 0; *error && i < count; i++) {
		ibh_error_free(public[i].error);
		public[i].error = NULL;
	}
	topology_put(run.topology);
	pthread_mutex_destroy(&run.mutex);
	free(drives.all);
	return *error ? -1 : 0;
}
