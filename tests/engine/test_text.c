// SPDX-License-Identifier: Apache-2.0
/* Text that is fit to be shown. */
#include "error.h"

#include "check.h"

static void becomes(const char *text, const char *shown)
{
	char seen[64];

	snprintf(seen, sizeof(seen), "%s", text);
	printable(seen);
	if (strcmp(seen, shown)) {
		fprintf(stderr, "%s is shown as %s, not %s\n", text, seen,
			shown);
		_exit(1);
	}
	/* What follows is read for itself. */
	snprintf(seen, sizeof(seen), "%s \xc3\xa9\x1bz", text);
	printable(seen);
	CHECK(!strncmp(seen, shown, strlen(shown)));
	CHECK(!strcmp(seen + strlen(shown), " \xc3\xa9?z"));
}

TEST(plain_text_stays)
{
	becomes("", "");
	becomes(" ib0: ~", " ib0: ~");
	becomes("\xc2\xa0\xdf\xbf", "\xc2\xa0\xdf\xbf");
	becomes("\xe0\xa0\x80\xe2\x82\xac\xef\xbf\xbf",
		"\xe0\xa0\x80\xe2\x82\xac\xef\xbf\xbf");
	becomes("\xed\x9f\xbf", "\xed\x9f\xbf");
	becomes("\xf0\x90\x80\x80\xf1\x80\x80\x80\xf4\x8f\xbf\xbf",
		"\xf0\x90\x80\x80\xf1\x80\x80\x80\xf4\x8f\xbf\xbf");
}

TEST(controls_go)
{
	becomes("\x01\t\n\x1b[31m\x1f\x7f", "????[31m??");
	becomes("\xc2\x80\xc2\x9b\xc2\x9f", "??????");
}

/* A terminal that goes by bytes takes some of them for controls. */
TEST(what_is_no_character_goes)
{
	becomes("\x80\x9b\xbf", "???");
	becomes("\xc0\xaf\xc1\xbf", "????"); /* longer than need be */
	becomes("\xe0\x80\xaf\xe0\x9f\xbf", "??????");
	becomes("\xf0\x80\x80\xaf\xf0\x8f\xbf\xbf", "????????");
	becomes("\xed\xa0\x80\xed\xbf\xbf", "??????"); /* surrogates */
	becomes("\xf4\x90\x80\x80", "????"); /* beyond the last */
	becomes("\xf5\x80\x80\x80\xff", "?????");
	becomes("\xc3+\xe2+\xa1\xe2\x82+\xf0\x90\x80+", "?+?+???+???+");
	becomes("\xc3\xff\xe2\xff\x80\xe2\x82\xff", "????" "????");
	becomes("\xe2\x82\xc0\xf1\x80\x80\xc0", "???????");
	becomes("\xc3", "?"); /* cut off */
	becomes("\xe2\x82", "??");
	becomes("\xf0\x90\x80", "???");
}

TEST(what_does_not_fit_is_cut)
{
	char text[4] = "xyz";

	format(text, sizeof(text), "%s%d", "ab", 12345);
	CHECK(!strcmp(text, "ab1"));
	format(text, sizeof(text), "%s", "");
	CHECK(!strcmp(text, ""));
}
