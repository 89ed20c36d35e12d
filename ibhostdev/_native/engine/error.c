// SPDX-License-Identifier: Apache-2.0
/* Errors as values. */
#include "error.h"

#define TEXT_SIZE 768

/* What is returned where an error itself finds no memory; never freed. */
static const struct ibh_error no_memory = {
	IBH_OTHER, ENOMEM, "no memory is left", NULL, NULL,
	"end something else, and try again",
};

static struct ibh_error *out_of_memory(void)
{
	return (struct ibh_error *)(uintptr_t)&no_memory;
}

/* {1} to {3} in `template` become the arguments. */
static void expand(char *text, size_t size, const char *template,
		   const char *const args[3])
{
	size_t used = 0;

	while (*template && used + 1 < size) {
		const char *arg;

		if (template[0] != '{' || template[1] < '1' ||
		    template[1] > '3' || template[2] != '}') {
			text[used++] = *template++;
			continue;
		}
		arg = args[template[1] - '1'];
		for (; arg && *arg && used + 1 < size; arg++)
			text[used++] = *arg;
		template += 3;
	}
	text[used] = '\0';
}

static char *put(char **at, const char *text)
{
	char *start = *at;

	if (!text)
		return NULL;
	*at = stpcpy(start, text) + 1;
	printable(start);
	return start;
}

static size_t room(const char *text)
{
	return text ? strlen(text) + 1 : 0;
}

/* One allocation: the texts lie behind the struct. */
struct ibh_error *ibh_error_new(enum ibh_kind kind, const char *message,
				const char *device, const char *attribute,
				int number, const char *cure)
{
	struct ibh_error *error =
		malloc(sizeof(*error) + room(message) + room(device) +
		       room(attribute) + room(cure));
	char *at;

	if (!error)
		return out_of_memory();
	at = (char *)(error + 1);
	error->kind = kind;
	error->number = number;
	error->message = put(&at, message);
	error->device = put(&at, device);
	error->attribute = put(&at, attribute);
	error->cure = put(&at, cure);
	return error;
}

struct ibh_error *fail(enum text what, const char *device,
		       const char *attribute, int number, const char *arg1,
		       const char *arg2, const char *arg3)
{
	const char *const args[3] = { arg1, arg2, arg3 };
	char message[TEXT_SIZE], cure[TEXT_SIZE];
	const struct words *how = &error_words[what];
	enum ibh_kind kind = how->kind;

	if (what == T_MEMORY)
		return out_of_memory();
	if (number < 0)
		number = -number;
	expand(message, sizeof(message), how->message, args);
	if (how->cure)
		expand(cure, sizeof(cure), how->cure, args);
	if (kind == BY_ERRNO)
		kind = usual_kind(number);
	return ibh_error_new(kind, message, device, attribute, number,
			     how->cure ? cure : usual_cure(number));
}

struct ibh_error *error_copy(const struct ibh_error *error)
{
	if (!error || error == &no_memory)
		return (struct ibh_error *)(uintptr_t)error;
	return ibh_error_new(error->kind, error->message, error->device,
			     error->attribute, error->number, error->cure);
}

struct ibh_error *error_of(struct ibh_error *error, const char *device,
			   const char *attribute)
{
	char message[TEXT_SIZE];
	struct ibh_error *other;

	if (!error || error == &no_memory)
		return error;
	format(message, sizeof(message), "%s%s%s",
	       error->device ? error->device : "", error->device ? " " : "",
	       error->message);
	other = ibh_error_new(error->kind, message, device,
			      attribute ? attribute : error->attribute,
			      error->number, error->cure);
	ibh_error_free(error);
	return other;
}

void ibh_error_free(struct ibh_error *error)
{
	if (error != &no_memory)
		free(error);
}

static void append(char *text, size_t size, const char *one, const char *two)
{
	size_t used = strlen(text);

	format(text + used, size - used, "%s%s", one, two);
}

/* libc knows their names since glibc 2.32, and a wheel is built for 2.28. */
#define ERRNOS(_) \
	_(EPERM) _(ENOENT) _(ESRCH) _(EINTR) _(EIO) _(ENXIO) _(E2BIG) \
	_(ENOEXEC) _(EBADF) _(ECHILD) _(EAGAIN) _(ENOMEM) _(EACCES) \
	_(EFAULT) _(ENOTBLK) _(EBUSY) _(EEXIST) _(EXDEV) _(ENODEV) \
	_(ENOTDIR) _(EISDIR) _(EINVAL) _(ENFILE) _(EMFILE) _(ENOTTY) \
	_(ETXTBSY) _(EFBIG) _(ENOSPC) _(ESPIPE) _(EROFS) _(EMLINK) \
	_(EPIPE) _(EDOM) _(ERANGE) _(EDEADLK) _(ENAMETOOLONG) \
	_(ENOLCK) _(ENOSYS) _(ENOTEMPTY) _(ELOOP) _(ENOMSG) _(EIDRM) \
	_(ECHRNG) _(EL2NSYNC) _(EL3HLT) _(EL3RST) _(ELNRNG) _(EUNATCH) \
	_(ENOCSI) _(EL2HLT) _(EBADE) _(EBADR) _(EXFULL) _(ENOANO) \
	_(EBADRQC) _(EBADSLT) _(EBFONT) _(ENOSTR) _(ENODATA) _(ETIME) \
	_(ENOSR) _(ENONET) _(ENOPKG) _(EREMOTE) _(ENOLINK) _(EADV) \
	_(ESRMNT) _(ECOMM) _(EPROTO) _(EMULTIHOP) _(EDOTDOT) \
	_(EBADMSG) _(EOVERFLOW) _(ENOTUNIQ) _(EBADFD) _(EREMCHG) \
	_(ELIBACC) _(ELIBBAD) _(ELIBSCN) _(ELIBMAX) _(ELIBEXEC) \
	_(EILSEQ) _(ERESTART) _(ESTRPIPE) _(EUSERS) _(ENOTSOCK) \
	_(EDESTADDRREQ) _(EMSGSIZE) _(EPROTOTYPE) _(ENOPROTOOPT) \
	_(EPROTONOSUPPORT) _(ESOCKTNOSUPPORT) _(EOPNOTSUPP) \
	_(EPFNOSUPPORT) _(EAFNOSUPPORT) _(EADDRINUSE) _(EADDRNOTAVAIL) \
	_(ENETDOWN) _(ENETUNREACH) _(ENETRESET) _(ECONNABORTED) \
	_(ECONNRESET) _(ENOBUFS) _(EISCONN) _(ENOTCONN) _(ESHUTDOWN) \
	_(ETOOMANYREFS) _(ETIMEDOUT) _(ECONNREFUSED) _(EHOSTDOWN) \
	_(EHOSTUNREACH) _(EALREADY) _(EINPROGRESS) _(ESTALE) \
	_(EUCLEAN) _(ENOTNAM) _(ENAVAIL) _(EISNAM) _(EREMOTEIO) \
	_(EDQUOT) _(ENOMEDIUM) _(EMEDIUMTYPE) _(ECANCELED) _(ENOKEY) \
	_(EKEYEXPIRED) _(EKEYREVOKED) _(EKEYREJECTED) _(EOWNERDEAD) \
	_(ENOTRECOVERABLE) _(ERFKILL) _(EHWPOISON)

static const char *errno_name(int number)
{
	switch (number) {
#define NAMED(name) case name: return #name;
		ERRNOS(NAMED)
#undef NAMED
	default:
		return NULL;
	}
}

void ibh_error_text(const struct ibh_error *error, char *text, size_t size)
{
	char name[64] = "", reason[128] = "";

	if (!size)
		return;
	text[0] = '\0';
	if (!error)
		error = &no_memory;
	if (error->device)
		append(text, size, error->device, "");
	if (error->attribute)
		append(text, size, error->device ? " " : "", error->attribute);
	append(text, size, text[0] ? ": " : "", error->message);
	if (error->number) {
		const char *known = errno_name(error->number);

		if (known)
			format(name, sizeof(name), " (%s)", known);
		else
			format(name, sizeof(name), " (%d)", error->number);
		append(text, size, ": ",
		       strerror_r(error->number, reason, sizeof(reason)));
		append(text, size, name, "");
	}
	if (error->cure)
		append(text, size, "; ", error->cure);
}
