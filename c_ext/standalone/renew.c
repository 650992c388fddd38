/* libc starts anew by itself; CPython is as it was when it was saved. A start is to it as the child's side of fork(2):
 * another process, one thread, locks in an unknown state. Beyond that there is what it read from the process at its
 * start: environment, arguments, dispositions of signals. docs/standalone.md lists what is not renewed, and why. */
#define PY_SSIZE_T_CLEAN
#define Py_BUILD_CORE 1
#include "renew.h"

#include <Python.h>
#include <internal/pycore_interp.h>
#include <internal/pycore_pystate.h>
#include <internal/pycore_runtime.h>

#include <signal.h>
#include <string.h>
#include <unistd.h>

static PyObject *environment; /* posix.environ, which is what os.environ holds */
static PyObject *system_dict; /* of the module sys */
static PyObject *argument_names[2];
static PyObject *set_handler; /* signal.signal */
static PyObject *int_handler; /* signal.default_int_handler */

PyObject *import_attribute(const char *module, const char *name) {
    PyObject *object = PyImport_ImportModule(module), *attribute = NULL;
    if (object)
        attribute = PyObject_GetAttrString(object, name);
    Py_XDECREF(object);
    return attribute;
}

int renew_prepare(void) {
    /* random, threading, logging: what matters of theirs, the Python side of the start does. */
    Py_CLEAR(PyInterpreterState_Get()->after_forkers_child);
    _PyThreadState_GET()->native_thread_id = 0;
    environment = import_attribute("posix", "environ");
    system_dict = import_attribute("sys", "__dict__");
    set_handler = import_attribute("_signal", "signal");
    int_handler = import_attribute("_signal", "default_int_handler");
    argument_names[0] = PyUnicode_InternFromString("argv");
    argument_names[1] = PyUnicode_InternFromString("orig_argv");
    if (!environment || !system_dict || !set_handler || !int_handler || !argument_names[0] || !argument_names[1])
        return -1;
    PyDict_Clear(environment);
    return 0;
}

/* As posixmodule.c reads it: bytes, the first of a name counts, what has no "=" does not. */
static int renew_environment(void) {
    for (char **at = environ; at && *at; at++) {
        const char *equals = strchr(*at, '=');
        if (!equals)
            continue;
        PyObject *name = PyBytes_FromStringAndSize(*at, equals - *at), *value = PyBytes_FromString(equals + 1);
        PyObject *kept = name && value ? PyDict_SetDefault(environment, name, value) : NULL;
        Py_XDECREF(name);
        Py_XDECREF(value);
        if (!kept)
            return -1;
    }
    return 0;
}

static PyObject *decoded(int argc, char **argv) {
    PyObject *list = PyList_New(argc);
    for (int i = 0; list && i < argc; i++) {
        PyObject *text = PyUnicode_DecodeUTF8(argv[i], (Py_ssize_t)strlen(argv[i]), "surrogateescape");
        if (!text)
            Py_CLEAR(list);
        else
            PyList_SET_ITEM(list, i, text);
    }
    return list;
}

static int renew_arguments(int argc, char **argv) {
    for (size_t i = 0; i < sizeof argument_names / sizeof *argument_names; i++) {
        PyObject *list = decoded(argc, argv);
        int failed = !list || PyDict_SetItem(system_dict, argument_names[i], list) != 0;
        Py_XDECREF(list);
        if (failed)
            return -1;
    }
    return 0;
}

int renew_interpreter(int argc, char **argv) {
    PyOS_AfterFork_Child();
    /* Unlike a child's, the address of the thread's descriptor is another. */
    _PyThreadState_GET()->thread_id = PyThread_get_thread_ident();
    return renew_environment() || renew_arguments(argc, argv) ? -1 : 0;
}

static int set(int number, PyObject *handler) {
    PyObject *before = PyObject_CallFunction(set_handler, "iO", number, handler);
    Py_XDECREF(before);
    return before ? 0 : -1;
}

/* The image was made with every signal at its default; what the caller ignores of those that ocirt handles must stay
 * so. */
int renew_signals(void) {
    static const int handled[] = {SIGINT, SIGALRM};
    PyOS_setsig(SIGPIPE, SIG_IGN);
    PyOS_setsig(SIGXFSZ, SIG_IGN);
    PyObject *ignore = PyLong_FromVoidPtr((void *)SIG_IGN);
    int failed = !ignore;
    for (size_t i = 0; i < sizeof handled / sizeof *handled && !failed; i++) {
        struct sigaction action;
        if (sigaction(handled[i], NULL, &action) != 0)
            continue;
        if (action.sa_handler == SIG_IGN)
            failed = set(handled[i], ignore);
        else if (handled[i] == SIGINT)
            failed = set(SIGINT, int_handler);
    }
    Py_XDECREF(ignore);
    return failed ? -1 : 0;
}
