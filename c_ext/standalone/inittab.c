/* The modules in C that are in the binary: what ocirt needs, and what that needs. In the place of the config.c of
 * CPython's library, so that the linker leaves all others out. */
#include <Python.h>

/* clang-format off */
#define MODULES(X) \
    X(_abc) X(_bisect) X(_cffi_backend) X(_codecs) X(_collections) X(_contextvars) X(_functools) X(_heapq) X(_io) \
    X(_json) X(_locale) X(_ocirt_standalone) X(_opcode) X(_operator) X(_posixsubprocess) X(_prctl) X(_random) \
    X(_sha512) X(_signal) X(_socket) X(_sre) X(_stat) X(_string) X(_struct) X(_thread) X(_weakref) X(array) X(atexit) \
    X(binascii) X(errno) X(faulthandler) X(fcntl) X(itertools) X(math) X(posix) X(resource) X(select) X(termios) \
    X(time) X(zlib)
/* clang-format on */

#define DECLARE(name) extern PyObject *PyInit_##name(void);
MODULES(DECLARE)
extern PyObject *PyMarshal_Init(void), *PyInit__imp(void), *PyInit__ast(void), *PyInit__tokenize(void),
    *PyInit_gc(void), *_PyWarnings_Init(void);

#define ENTRY(name) {#name, PyInit_##name},
struct _inittab _PyImport_Inittab[] = {
    MODULES(ENTRY){"marshal", PyMarshal_Init},
    {"_imp", PyInit__imp},
    {"_ast", PyInit__ast},
    {"_tokenize", PyInit__tokenize},
    {"gc", PyInit_gc},
    {"_warnings", _PyWarnings_Init},
    {"builtins", NULL}, /* CPython's start makes these two */
    {"sys", NULL},
    {NULL, NULL},
};
