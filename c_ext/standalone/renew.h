/* What belongs to a process is renewed at a real start of the saved image. */
#ifndef OCIRT_STANDALONE_RENEW_H
#define OCIRT_STANDALONE_RENEW_H

#include <Python.h>

/* A new reference to an attribute of a module, which is imported where it is not yet. NULL with a Python exception. */
PyObject *import_attribute(const char *module, const char *name);

/* Last thing before the save: drops what CPython would run after a fork(2), and finds the objects to renew. */
int renew_prepare(void);

/* First thing in a real start: the interpreter's thread and locks, os.environ, sys.argv. -1 with a Python exception. */
int renew_interpreter(int argc, char **argv);

/* The signals' dispositions, as CPython's own start sets them, and the signal module's idea of them. Likewise. */
int renew_signals(void);

#endif
