/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Comes before all that Cython writes for the limited API, which has no names
 * for the flags of code objects: what Cython writes has Python import inspect,
 * and with it ast, dis and tokenize, to look them up. That took longer than
 * anything else of "import ibhostdev". They are in every .pyc, and have been
 * the same in all of Python 3; tests/unit/test_import.py compares them.
 */
#ifndef IBHOSTDEV_LIMITED_H
#define IBHOSTDEV_LIMITED_H

#ifndef PY_SSIZE_T_CLEAN
#define PY_SSIZE_T_CLEAN
#endif
#include <Python.h>
#include <string.h>

#define CO_OPTIMIZED 0x1
#define CO_NEWLOCALS 0x2
#define CO_VARARGS 0x4
#define CO_VARKEYWORDS 0x8
#define CO_GENERATOR 0x20
#define CO_COROUTINE 0x80
#define CO_ASYNC_GENERATOR 0x200

/* With all of them defined nothing is looked up in it. */
static inline PyObject *without_inspect(const char *name)
{
	return PyImport_ImportModule(strcmp(name, "inspect") ? name : "sys");
}
#define PyImport_ImportModule without_inspect

#endif
