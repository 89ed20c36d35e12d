/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ebrctl, as Nova runs it, with no daemon behind it:
 *
 *   ebrctl add-port MAC DEVICE_ID FABRIC VNIC_TYPE DEV_NAME
 *   ebrctl del-port FABRIC MAC
 *
 * Arguments, output and exit codes are those of networking-mlnx's program of
 * this name where Nova or a script can see them, but that a port which is not
 * there is no error to del-port. The identity goes straight to the kernel, by
 * the engine, for one VIF and without an interpreter to start.
 *
 * Environment, both ignored if the program has more rights than its caller:
 * IBHOSTDEV_HOST is the folder of a simulated host, the caller's own or root's;
 * IBHOSTDEV_PHYSICAL_DEVICE_MAPPINGS stands for /etc/ibhostdev/fabrics.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ibhostdev/engine.h"

#define HOST "IBHOSTDEV_HOST"
#define MAPPINGS "IBHOSTDEV_PHYSICAL_DEVICE_MAPPINGS"
#define FABRICS "/etc/ibhostdev/fabrics"
#define FABRICS_SIZE (1 << 16)
#define TEXT_SIZE 2048

#ifndef VERSION
#define VERSION "of a version that was not told"
#endif

/* By this the package knows its own program from the vendor's. */
static const char about[] = "ibhostdev's stand-in for ebrctl " VERSION "\n";

static const char usage[] =
	"usage: ebrctl add-port MAC DEVICE_ID FABRIC VNIC_TYPE DEV_NAME\n"
	"       ebrctl del-port FABRIC MAC\n";

/* ---- errors ----------------------------------------------------------- */

__attribute__((format(printf, 4, 5))) static struct ibh_error *
bad(const char *where, int number, const char *cure, const char *what, ...)
{
	char text[TEXT_SIZE / 2];
	va_list args;

	va_start(args, what);
	vsnprintf(text, sizeof(text), what, args);
	va_end(args);
	return ibh_error_new(IBH_INVALID_INPUT, text, where, NULL, number, cure);
}

static int tell(const char *action, struct ibh_error *error)
{
	char text[TEXT_SIZE], message[TEXT_SIZE];
	struct ibh_error told = *error;

	if (told.kind == IBH_ROLLBACK_FAILED && told.device) {
		/* As a sentence: it is about more than one thing. */
		snprintf(message, sizeof(message), "%s %s", told.device,
			 told.message);
		told.message = message;
		told.device = NULL;
	}
	ibh_error_text(&told, text, sizeof(text));
	fprintf(stderr, "Error in %s command %s\n", action, text);
	ibh_error_free(error);
	return 1;
}

/* ---- arguments -------------------------------------------------------- */

/* A del-port has no `dev_name`. */
static struct ibh_error *parse_port(const char *text, const char *vnic_type,
				    const char *dev_name, struct ibh_vif *vif)
{
	uint64_t mac;

	if (ibh_parse_octets(text, strlen(text), 6, &mac))
		return bad("mac", 0, "write six octets as in fa:16:3e:12:34:56",
			   "'%s' is not a MAC address", text);
	if (mac == 0)
		return bad("mac", 0, "use the MAC address of the Neutron port",
			   "%s is zero and cannot identify a VF", text);
	vif->port_guid = ibh_guid_from_mac(mac);
	if (!dev_name)
		return NULL;
	if (ibh_read_pci(dev_name, strlen(dev_name), &vif->pci))
		return bad("dev_name", 0,
			   "write domain:bus:device.function as in 0000:3b:00.2",
			   "'%s' is not a PCI address", dev_name);
	if (strcmp(vnic_type, "ib_hostdev"))
		return bad("vnic_type", 0, "write ib_hostdev",
			   "'%s' is no type of port that is known", vnic_type);
	vif->has_pci = true;
	return NULL;
}

/* ---- environment ------------------------------------------------------ */

/* Of an ordinary file, so that nothing is waited for: its length, or a
 * negative errno. */
static ssize_t read_file(const char *path, char *text, size_t size)
{
	int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	struct stat found;
	ssize_t n;

	if (fd < 0)
		return -errno;
	if (fstat(fd, &found) || !S_ISREG(found.st_mode))
		n = -EINVAL;
	else if ((n = read(fd, text, size)) < 0)
		n = -errno;
	else if ((size_t)n == size)
		n = -EFBIG;
	else
		text[n] = '\0';
	close(fd);
	return n;
}

static uint32_t port_in(const char *state, const char *key)
{
	const char *at = strstr(state, key);

	return at ? (uint32_t)strtoul(at + strlen(key), NULL, 10) : 0;
}

/* For trying and testing without rights or hardware. The folder becomes the
 * current one, so that what was looked at is what is used. */
static struct ibh_error *open_simulated(const char *path,
					struct ibh_options *options)
{
	char state[4096];
	struct stat found;

	if (chdir(path) || stat(".", &found))
		return bad(*path ? path : HOST, errno, "unset or correct " HOST,
			   "no such simulated host");
	if (found.st_uid && found.st_uid != geteuid())
		return bad(path, EPERM, "unset " HOST,
			   "the simulated host is somebody else's");
	if (!lstat("run", &found) &&
	    (!S_ISDIR(found.st_mode) ||
	     (found.st_uid && found.st_uid != geteuid())))
		return bad(path, EPERM, "unset " HOST,
			   "run is no folder of this simulated host's own");
	if (read_file("host.json", state, sizeof(state)) <= 0 ||
	    !strstr(state, "\"simulated_host\":"))
		return bad(path, 0, "unset or correct " HOST,
			   "is no simulated host");
	options->netlink_port = port_in(state, "\"netlink_port\":");
	options->sysfs_port = port_in(state, "\"sysfs_port\":");
	if (!options->netlink_port || !options->sysfs_port)
		return bad(path, 0, "start it: ibhostdev simulate FOLDER",
			   "is no simulated host that is being served");
	options->sysfs = "sys";
	options->run_dir = "run";
	return NULL;
}

static struct ibh_error *read_environment(struct ibh_options *options)
{
	static char text[FABRICS_SIZE];
	static struct ibh_mapping mappings[FABRICS_SIZE / IBH_MAPPING_TEXT];
	const char *simulated = secure_getenv(HOST);
	const char *given = secure_getenv(MAPPINGS);
	const char *source = given ? MAPPINGS : FABRICS;
	struct ibh_error *error = NULL;
	ssize_t n = 0;

	if (simulated)
		error = open_simulated(simulated, options);
	if (error)
		return error;
	if (given && strlen(given) < sizeof(text))
		strcpy(text, given);
	else if (given)
		n = -E2BIG;
	else if (!simulated) /* the machine's own is about the machine */
		n = read_file(FABRICS, text, sizeof(text));
	if (n < 0 && n != -ENOENT)
		return bad(source, (int)-n, NULL, "cannot be read");
	options->mappings = mappings;
	ibh_read_mappings(text, source, mappings, &options->mapping_count,
			  &error);
	return error;
}

/* ---- the command ------------------------------------------------------ */

struct ending {
	sigset_t before; /* blocked, by whoever started it */
	bool asked;
};

/*
 * No signal comes between: what is begun is finished or taken back. The
 * engine is told of those that end the program, unless they were blocked or
 * ignored from the start, as nohup does.
 */
static int stop(void *context)
{
	static const int numbers[] = { SIGHUP, SIGINT, SIGTERM };
	struct ending *ending = context;
	struct sigaction action;
	sigset_t pending;
	size_t i;

	sigpending(&pending);
	for (i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
		if (sigismember(&pending, numbers[i]) &&
		    !sigismember(&ending->before, numbers[i]) &&
		    !sigaction(numbers[i], NULL, &action) &&
		    action.sa_handler != SIG_IGN)
			ending->asked = true;
	return ending->asked;
}

static struct ibh_error *print(const char *text)
{
	if (fputs(text, stdout) != EOF && !fflush(stdout))
		return NULL;
	return bad("standard output", errno, NULL, "cannot be written");
}

/* What became of the VIF. */
static struct ibh_error *report(const struct ibh_vif *vif,
				struct ibh_result *result)
{
	struct ibh_error *error = result->error;
	char name[IBH_GUID_TEXT + 1];

	result->error = NULL; /* the caller's now */
	if (error || result->verified)
		return error;
	if (result->changed) {
		ibh_format_pci(result->pci, name);
		fprintf(stderr,
			"ebrctl: warning: %s has taken it, but the kernel "
			"cannot show it\n",
			name);
	} else if (!vif->has_pci) {
		ibh_format_guid(vif->port_guid, name);
		error = bad("guid", 0,
			    "see 'ibhostdev doctor' for what cannot be asked",
			    "%s is on none of the VFs that could be asked, "
			    "but not all could",
			    name);
	}
	return error;
}

/* Nothing is written to a descriptor of the caller's before the engine has
 * returned, and with it the locks. */
static struct ibh_error *run(const struct ibh_vif *vif, struct ending *ending)
{
	struct ibh_how how = { .context = ending, .stop = stop };
	struct ibh_options options = { 0 };
	struct ibh_batch *batch = NULL;
	struct ibh_error *error = read_environment(&options);
	struct ibh_host *host;
	sigset_t all;
	size_t i;

	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &ending->before);
	if (error || ibh_host_open(&options, &host, &error))
		return error;
	(vif->has_pci ? ibh_plug : ibh_unplug)(host, vif, 1, &how, &batch,
					       &error);
	ibh_host_close(host);
	if (!batch)
		return error;
	for (i = 0; i < batch->warning_count; i++)
		fprintf(stderr, "ebrctl: warning: %s\n", batch->warnings[i]);
	error = report(vif, &batch->results[0]);
	ibh_batch_free(batch);
	return error;
}

/* Whoever started it, by sudo maybe anybody, has no say in whether it comes to
 * an end, nor in how long it has its locks. */
static void take_all_there_is(void)
{
	static const int kinds[] = { RLIMIT_AS, RLIMIT_CPU, RLIMIT_DATA,
				     RLIMIT_FSIZE, RLIMIT_NOFILE };
	size_t i;

	for (i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		rlim_t most = kinds[i] == RLIMIT_NOFILE ? 4096 : RLIM_INFINITY;
		struct rlimit all = { most, most };

		if (!setrlimit(kinds[i], &all) || getrlimit(kinds[i], &all))
			continue;
		all.rlim_cur = all.rlim_max;
		setrlimit(kinds[i], &all);
	}
	if (getpriority(PRIO_PROCESS, 0) > 0)
		setpriority(PRIO_PROCESS, 0, 0);
}

int main(int argc, char **argv)
{
	const char *action = argc > 1 ? argv[1] : "", *answer = "";
	struct ending ending = { .asked = false };
	struct ibh_vif vif = { 0 };
	struct ibh_error *error = NULL;
	int fd, code;

	/* Else what is opened first would be taken for one of these. */
	for (fd = 0; fd <= 2; fd++)
		if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) != fd)
			return 1;
	take_all_there_is();
	if (!strcmp(action, "-h") || !strcmp(action, "--help")) {
		answer = usage;
	} else if (!strcmp(action, "--version")) {
		answer = about;
	} else if (!strcmp(action, "add-port") && argc == 7) {
		vif.network = argv[4];
		answer = argv[6];
		error = parse_port(argv[2], argv[5], argv[6], &vif);
	} else if (!strcmp(action, "del-port") && argc == 4) {
		vif.network = argv[2];
		error = parse_port(argv[3], NULL, NULL, &vif);
	} else {
		fputs(usage, stderr);
		fputs("ebrctl: error: what it is to do is not clear\n", stderr);
		return 2;
	}
	if (!error && vif.port_guid)
		error = run(&vif, &ending);
	if (!error)
		error = print(answer);
	code = error ? tell(action, error) : 0;
	if (ending.asked) /* by a signal, which is let through now */
		sigprocmask(SIG_SETMASK, &ending.before, NULL);
	return code;
}
