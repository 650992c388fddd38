/* The three modules that CPython needs before it can import: as bytes, not as the static objects that its library has
 * for them. Those are strings and code that the whole image then shares; strewn over 800 KB of data, which nothing can
 * place. In the place of the frozen.c and deepfreeze.c of the library, so that the linker leaves both out. */
#include <Python.h>
#include <internal/pycore_import.h>

/* FROZEN: the directory into which tools/standalone/archive.py has written them. */
#define BYTES(name, file)                                                                                              \
    __asm__(".section .rodata\n.global " #name "_begin\n" #name "_begin:\n.incbin \"" FROZEN "/" file                  \
            "\"\n.global " #name "_end\n" #name "_end:\n.byte 0\n.previous\n");                                        \
    extern const unsigned char name##_begin[], name##_end[];

BYTES(frozen_importlib, "_frozen_importlib")
BYTES(frozen_importlib_external, "_frozen_importlib_external")
BYTES(frozen_zipimport, "zipimport")

static struct _frozen modules[] = {
    {"_frozen_importlib", frozen_importlib_begin, 0, 0, NULL},
    {"_frozen_importlib_external", frozen_importlib_external_begin, 0, 0, NULL},
    {"zipimport", frozen_zipimport_begin, 0, 0, NULL},
    {NULL, NULL, 0, 0, NULL},
};
static const struct _frozen none[] = {{NULL, NULL, 0, 0, NULL}};
static const struct _module_alias no_aliases[] = {{NULL, NULL}};

const struct _frozen *_PyImport_FrozenBootstrap = modules, *_PyImport_FrozenStdlib = none, *_PyImport_FrozenTest = none;
const struct _frozen *PyImport_FrozenModules; /* an embedding program's own */
const struct _module_alias *_PyImport_FrozenAliases = no_aliases;

/* Sizes that only the linker knows. */
__attribute__((constructor)) static void measure(void) {
    modules[0].size = (int)(frozen_importlib_end - frozen_importlib_begin);
    modules[1].size = (int)(frozen_importlib_external_end - frozen_importlib_external_begin);
    modules[2].size = (int)(frozen_zipimport_end - frozen_zipimport_begin);
}

extern int _Py_Deepfreeze_Init(void);
extern void _Py_Deepfreeze_Fini(void);

int _Py_Deepfreeze_Init(void) { return 0; }

void _Py_Deepfreeze_Fini(void) {}
