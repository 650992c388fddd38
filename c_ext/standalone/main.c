/* The standalone ocirt: CPython and everything that ocirt needs in one static executable.
 *
 * As it is linked, it starts an interpreter whose modules come from the archive behind it (the plain form), and
 * `--save-image PATH` makes of itself the saved form: the interpreter started, ocirt imported, memory written to PATH.
 * There main() finds the interpreter as it was, and renews what belongs to a process (renew.c). */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "alloc.h"
#include "renew.h"
#include "save.h"
#include "window.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

#define ARCHIVE "/proc/self/exe"

static PyObject *program; /* ocirt.cli.main, in the saved image */

/* ---- the module _ocirt_standalone: what ocirt can ask about its own form, and a word of the image's builder ---- */

static PyObject *begin_step(PyObject *module, PyObject *nothing) {
    (void)module, (void)nothing;
    if (image_is_being_made)
        image_heap_begin_step();
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"begin_step", begin_step, METH_NOARGS, "Blocks are counted from a round number on."},
    {NULL, NULL, 0, NULL},
};

static int exec_module(PyObject *module) {
    return PyModule_AddStringConstant(module, "form", image_can_be_saved() ? "saved" : "plain");
}

static PyModuleDef_Slot slots[] = {{Py_mod_exec, exec_module}, {0, NULL}};
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = "_ocirt_standalone",
                                        .m_doc = "The form of this binary.", .m_methods = functions, .m_slots = slots};

PyMODINIT_FUNC PyInit__ocirt_standalone(void) { return PyModuleDef_Init(&definition); }

/* ocirt._native, which CPython's importer of built-in modules would not look for: it is inside of a package. */
extern PyObject *PyInit__native(void);

static int add_native(void) {
    PyObject *module = PyInit__native(), *modules = PyImport_GetModuleDict();
    int failed = !module || PyDict_SetItemString(modules, "ocirt._native", module) != 0;
    Py_XDECREF(module);
    return failed ? -1 : 0;
}

/* ---- the interpreter's start ---- */

static void *new_arena(void *context, size_t bytes) {
    (void)context;
    return arena_alloc(bytes);
}

static void free_arena(void *context, void *arena, size_t bytes) {
    (void)context;
    arena_free(arena, bytes);
}

static void check(PyStatus status) {
    if (PyStatus_Exception(status))
        Py_ExitStatusException(status);
}

/* While the image is made, every block comes from malloc, and so from the image heap with a number of its own. */
static PyMemAllocatorEx pymalloc[2];
static const PyMemAllocatorDomain domains[2] = {PYMEM_DOMAIN_OBJ, PYMEM_DOMAIN_MEM};

static void set_aside_pymalloc(void) {
    PyMemAllocatorEx raw;
    PyMem_GetAllocator(PYMEM_DOMAIN_RAW, &raw);
    for (int i = 0; i < 2; i++) {
        PyMem_GetAllocator(domains[i], &pymalloc[i]);
        PyMem_SetAllocator(domains[i], &raw);
    }
}

static void use_pymalloc(void) {
    for (int i = 0; i < 2; i++)
        PyMem_SetAllocator(domains[i], &pymalloc[i]);
}

/* Isolated: nothing of the environment, no site, no path but the archive. UTF-8 whatever the locale is: paths and
 * arguments are bytes that come out as they went in (surrogateescape). The hash seed is fixed, since the image's
 * dictionaries are built with it; docs/standalone.md says why that will do. */
static void start_interpreter(int argc, char **argv) {
    PyPreConfig before;
    PyPreConfig_InitIsolatedConfig(&before);
    before.utf8_mode = 1;
    before.configure_locale = 0;
    check(Py_PreInitialize(&before));
    PyObjectArenaAllocator arenas = {NULL, new_arena, free_arena};
    PyObject_SetArenaAllocator(&arenas);
    if (image_is_being_made)
        set_aside_pymalloc();
    PyConfig config;
    PyConfig_InitIsolatedConfig(&config);
    config.install_signal_handlers = 1;
    config.use_frozen_modules = 0; /* their objects could not be placed */
    config.site_import = 0;
    config.parse_argv = 0;
    config.pathconfig_warnings = 0;
    config.write_bytecode = 0;
    config.use_hash_seed = 1;
    config.hash_seed = 0;
    config.buffered_stdio = 1;
    check(PyConfig_SetBytesArgv(&config, argc, argv));
    wchar_t **const names[] = {&config.program_name, &config.executable, &config.base_executable};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        check(PyConfig_SetString(&config, names[i], L"ocirt"));
    wchar_t **const places[] = {&config.prefix, &config.base_prefix, &config.exec_prefix, &config.base_exec_prefix,
                                &config.stdlib_dir};
    for (size_t i = 0; i < sizeof places / sizeof *places; i++)
        check(PyConfig_SetString(&config, places[i], L"/"));
    config.module_search_paths_set = 1;
    check(PyWideStringList_Append(&config.module_search_paths, L"" ARCHIVE));
    check(Py_InitializeFromConfig(&config));
    PyConfig_Clear(&config);
}

/* Python's error, if there is one, on the standard error. */
static int fail(void) {
    if (PyErr_Occurred())
        PyErr_Print();
    return 1;
}

/* The standard descriptors and the working directory as they are wherever an image is made: CPython looks at them when
 * it starts. A pipe is what a stream may be least sure of: no terminal, no position. Returns the standard error, for
 * later. */
static int hide_surroundings(void) {
    int ends[2], error_fd = fcntl(2, F_DUPFD_CLOEXEC, 10);
    if (error_fd < 0 || pipe(ends) != 0 || dup2(ends[0], 0) < 0 || dup2(ends[1], 1) < 0 || dup2(ends[1], 2) < 0)
        return -1;
    if (ends[0] > 2)
        close(ends[0]);
    if (ends[1] > 2)
        close(ends[1]);
    return chdir("/") == 0 ? error_fd : -1;
}

/* Import everything, forget what was only needed for that, and save. */
static int make_image(const char *path) {
    PyObject *prepare = import_attribute("_ocirt_image", "prepare");
    program = prepare ? PyObject_CallNoArgs(prepare) : NULL;
    Py_XDECREF(prepare);
    if (!program)
        return fail();
    if (renew_prepare() != 0)
        return fail();
    int error = save_image(path);
    if (error)
        fprintf(stderr, "ocirt: the image cannot be saved: %s\n", strerror(-error));
    return error ? 1 : 0;
}

/* What a start will write to, in one go: a third cheaper than a fault for each page. An old kernel (before 5.14)
 * knows no such advice, and nothing depends on it. */
static void populate(int usual) {
    size_t bytes;
    if (window_is_huge)
        return;
    char *start = image_heap_hot(usual, &bytes);
    madvise(start, bytes, MADV_POPULATE_WRITE);
}

int main(int argc, char **argv) {
    int error_fd = -1;
    if (image_saved) {
        populate(argc > 2); /* --version is not usual */
        use_pymalloc();
        if (renew_interpreter(argc, argv) != 0 || renew_signals() != 0)
            _exit(fail());
    } else {
        image_is_being_made = (argc == 3 || argc == 4) && !strcmp(argv[1], "--save-image");
        if (!image_is_being_made)
            runtime_heap_begin(NULL, 0), image_heap_sealed = 1;
        else if (image_heap_place(argc == 4 ? argv[3] : NULL) != 0)
            return 2;
        if (image_is_being_made && (error_fd = hide_surroundings()) < 0)
            return 2;
        start_interpreter(image_is_being_made ? 1 : argc, image_is_being_made ? (char *[]){"ocirt", NULL} : argv);
        if (image_is_being_made)
            dup2(error_fd, 2);
        if (add_native() != 0)
            _exit(fail());
        if (image_is_being_made)
            _exit(make_image(argv[2]));
        program = import_attribute("ocirt.cli", "main");
        if (!program)
            _exit(fail());
    }
    PyObject_CallNoArgs(program); /* it leaves with _exit */
    _exit(fail());
}
