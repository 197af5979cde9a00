/* Answers the nine entry points that the TensorRT bindings need with those of TensorRT-RTX.
 *
 * TensorRT-RTX has the same C++ interfaces, comes in an ordinary wheel and builds engines without
 * a GPU. Only the version that a caller states differs, so each call is passed on with the
 * version that TensorRT-RTX gives of itself. Without RTX_CORE every factory returns NULL: enough
 * to import the bindings and read their names.
 */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

#ifndef RTX_CORE
#define RTX_CORE NULL
#define RTX_PARSER NULL
#endif

typedef void *(*function)();

static function find(const char *path, const char *name) {
    if (!path)
        return NULL;
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    function found = library ? (function)dlsym(library, name) : NULL;
    if (!found) {
        fprintf(stderr, "forward.c: no %s: %s\n", name, dlerror());
        exit(70);
    }
    return found;
}

static int version(void) {
    function ask = find(RTX_CORE, "getInferLibVersion");
    return ask ? ((int (*)(void))ask)() : 0;
}

#define FORWARD_1(path, name)                                                   \
    void *name(void *a, int stated) {                                           \
        function f = find(path, #name);                                         \
        (void)stated;                                                           \
        return f ? ((void *(*)(void *, int))f)(a, version()) : NULL;            \
    }
#define FORWARD_2(path, name)                                                   \
    void *name(void *a, void *b, int stated) {                                  \
        function f = find(path, #name);                                         \
        (void)stated;                                                           \
        return f ? ((void *(*)(void *, void *, int))f)(a, b, version()) : NULL; \
    }

FORWARD_1(RTX_CORE, createInferBuilder_INTERNAL)
FORWARD_1(RTX_CORE, createInferRuntime_INTERNAL)
FORWARD_2(RTX_CORE, createInferRefitter_INTERNAL)
FORWARD_2(RTX_PARSER, createNvOnnxParser_INTERNAL)
FORWARD_2(RTX_PARSER, createNvOnnxParserRefitter_INTERNAL)

void *getPluginRegistry(void) {
    function f = find(RTX_CORE, "getPluginRegistry");
    return f ? f() : NULL;
}

void *getBuilderPluginRegistry(int capability) {
    function f = find(RTX_CORE, "getBuilderPluginRegistry");
    return f ? ((void *(*)(int))f)(capability) : NULL;
}

int getNvOnnxParserVersion(void) {
    function f = find(RTX_PARSER, "getNvOnnxParserVersion");
    return f ? ((int (*)(void))f)() : 0;
}

int initLibNvInferPlugins(void *logger, const char *names) {
    (void)logger, (void)names;
    return 1;
}
