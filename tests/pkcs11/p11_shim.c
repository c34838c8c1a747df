/* SPDX-License-Identifier: Apache-2.0
 *
 * A PKCS#11 module that passes every call on to another one, and misbehaves where a test wants it to.
 *
 *     P11_SHIM_REAL         the module behind it; read at C_Initialize
 *     P11_SHIM_STATE        a file shared by all processes: `struct state` below, made if need be
 *     P11_SHIM_LOG          a file to which the name of every function called is appended, a line each, before it runs
 *     P11_SHIM_AT=N         at the N-th call (1 is the first; C_GetFunctionList is not one) it does
 *     P11_SHIM_DO=ACTION      error:HEX         says so, without calling
 *                             error-after:HEX   calls, then says so
 *                             short             calls, then reports each length one less
 *                             long              calls, then reports each length 16 more than there was room for
 *                             huge              calls, then reports each length as the largest number
 *                             hang, crash       does not come back, dies by SIGSEGV
 *                             scribble          writes over memory that is not its own, calls, dies of it
 *     P11_SHIM_REPEAT=1     from the N-th call on, each time
 *     P11_SHIM_ONLY=NAME    only calls of this function are counted and hit
 * The same four stand in the state file; if its `at` is not 0, it decides instead.
 *     P11_SHIM_TOKENFLAGS=HEX   these flags are set in every token's information
 *     P11_SHIM_SERIAL=TEXT      every token's serial number
 *     P11_SHIM_PADPIN=PIN       what a PIN pad would deliver: used where C_Login gets none
 *     P11_SHIM_NODATA=1         takes no data objects
 *     P11_SHIM_NODERIVE=1       knows no CKM_ECDH1_DERIVE
 *     P11_SHIM_FULL=1           has no memory for new objects and key pairs
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "p11_abi.h"

enum { MOST_ATTRIBUTES = 64, OVER = 16 };

struct state { uint64_t calls, at, repeat; char action[48], only[48]; };

struct call {
    const char *action;     /* of the test, or "" */
    U rv;                   /* of an error */
    struct lengths lengths;
    U room[MOST_ATTRIBUTES];
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct function_list *real, behind;    /* the module as it is, and with what is special about ours */
static struct state own_state, *state = &own_state;
static char state_path[4096], real_path[4096];

static const char *setting(const char *name) {
    const char *value = getenv(name);
    return value ? value : "";
}

static void fail(const char *what) {
    fprintf(stderr, "p11_shim: %s\n", what);
    abort();
}

/* ------------------------------------------------------------------------------------------- what is special */

static U special_GetTokenInfo(U slot, void *out) {
    struct token_info *info = out;
    const char *serial = setting("P11_SHIM_SERIAL");
    U rv = real->C_GetTokenInfo(slot, out);
    if (rv != CKR_OK) return rv;
    info->flags |= strtoul(setting("P11_SHIM_TOKENFLAGS"), 0, 16);
    if (*serial) {
        memset(info->serial, ' ', sizeof info->serial);
        memcpy(info->serial, serial, strnlen(serial, sizeof info->serial));
    }
    return rv;
}

static U special_Login(U s, U who, void *pin, U n) {
    const char *typed = setting("P11_SHIM_PADPIN");
    if (!pin && *typed) return real->C_Login(s, who, (void *)typed, strlen(typed));
    return real->C_Login(s, who, pin, n);
}

static U special_CreateObject(U s, struct attribute *t, U n, U *object) {
    if (*setting("P11_SHIM_FULL")) return CKR_DEVICE_MEMORY;
    for (U i = 0; i < n && *setting("P11_SHIM_NODATA"); i++)
        if (t[i].type == CKA_CLASS && t[i].length == sizeof(U) && *(U *)t[i].value == CKO_DATA)
            return CKR_ATTRIBUTE_VALUE_INVALID;
    return real->C_CreateObject(s, t, n, object);
}

static U special_GenerateKeyPair(U s, void *m, struct attribute *t, U n, struct attribute *v, U k, U *a, U *b) {
    return *setting("P11_SHIM_FULL") ? CKR_DEVICE_MEMORY : real->C_GenerateKeyPair(s, m, t, n, v, k, a, b);
}

static int hidden(U mechanism) { return mechanism == CKM_ECDH1_DERIVE && *setting("P11_SHIM_NODERIVE"); }

static U special_GetMechanismList(U slot, U *out, U *length) {
    U rv = real->C_GetMechanismList(slot, out, length), kept = 0;
    if (rv != CKR_OK || !out) return rv;    /* asked for the count only, one too many is allowed */
    for (U i = 0; i < *length; i++)
        if (!hidden(out[i])) out[kept++] = out[i];
    *length = kept;
    return rv;
}

static U special_GetMechanismInfo(U slot, U type, void *info) {
    return hidden(type) ? CKR_MECHANISM_INVALID : real->C_GetMechanismInfo(slot, type, info);
}

static U special_DeriveKey(U s, void *m, U base, struct attribute *t, U n, U *key) {
    if (hidden(((struct mechanism *)m)->mechanism)) return CKR_MECHANISM_INVALID;
    return real->C_DeriveKey(s, m, base, t, n, key);
}

static void load(void) {
    const char *path = setting("P11_SHIM_REAL");
    if (real && !strcmp(path, real_path)) return;
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    U (*get)(void **) = library ? (U (*)(void **))dlsym(library, "C_GetFunctionList") : 0;
    if (!get || get((void **)&real) != CKR_OK) fail("P11_SHIM_REAL is not a module");
    snprintf(real_path, sizeof real_path, "%s", path);
    behind = *real;
    behind.C_GetTokenInfo = special_GetTokenInfo;
    behind.C_Login = special_Login;
    behind.C_CreateObject = special_CreateObject;
    behind.C_GenerateKeyPair = special_GenerateKeyPair;
    behind.C_GetMechanismList = special_GetMechanismList;
    behind.C_GetMechanismInfo = special_GetMechanismInfo;
    behind.C_DeriveKey = special_DeriveKey;
}

/* ------------------------------------------------------------------------------------------ counted, and hit */

static void share(void) {
    const char *path = setting("P11_SHIM_STATE");
    if (!strcmp(path, state_path)) return;
    state = &own_state;
    memset(state, 0, sizeof *state);
    if (*path) {
        int file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        if (file < 0 || ftruncate(file, sizeof *state)) fail("P11_SHIM_STATE cannot be written");
        state = mmap(0, sizeof *state, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
        if (state == MAP_FAILED) fail("P11_SHIM_STATE cannot be mapped");
        close(file);
    }
    snprintf(state_path, sizeof state_path, "%s", path);
}

static void note(const char *name) {
    const char *path = setting("P11_SHIM_LOG");
    char line[64];
    int file = *path ? open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600) : -1;
    if (file < 0) return;
    int length = snprintf(line, sizeof line, "%s\n", name);
    if (write(file, line, (size_t)length) != length) fail("P11_SHIM_LOG cannot be written");
    close(file);
}

/* Count a call; what the test wants of it. */
static const char *due(const char *name) {
    int told = state->at != 0;
    uint64_t at = told ? state->at : strtoull(setting("P11_SHIM_AT"), 0, 10);
    const char *only = told ? state->only : setting("P11_SHIM_ONLY");
    if (*only && strcmp(only, name)) return "";
    uint64_t number = __atomic_add_fetch(&state->calls, 1, __ATOMIC_SEQ_CST);
    int again = told ? state->repeat != 0 : *setting("P11_SHIM_REPEAT") == '1';
    if (!at || !(number == at || (again && number > at))) return "";
    return told ? state->action : setting("P11_SHIM_DO");
}

static void scribble(void) {
    volatile char *mine = malloc(64);
    for (size_t i = 0; i < 65536; i++) mine[i] = 0x41;
}

/* Whether to go on to the module. */
static int enter(struct call *call, const char *name, struct lengths lengths) {
    pthread_mutex_lock(&lock);
    share();
    if (!real || !strcmp(name, "C_Initialize")) load();
    pthread_mutex_unlock(&lock);
    note(name);
    call->action = due(name);
    call->lengths = lengths;
    for (U i = 0; i < lengths.count && i < MOST_ATTRIBUTES; i++)
        call->room[i] = lengths.template[i].value ? lengths.template[i].length : 0;
    if (!strncmp(call->action, "error:", 6)) {
        call->rv = strtoul(call->action + 6, 0, 16);
        return 0;
    }
    if (!strcmp(call->action, "hang")) for (;;) pause();
    if (!strcmp(call->action, "crash")) *(volatile int *)16 = 1;
    if (!strcmp(call->action, "scribble")) scribble();
    return 1;
}

static void bend(const char *action, U *length, U room) {
    if (*length == (U)-1) return;
    if (!strcmp(action, "short") && *length) *length -= 1;
    if (!strcmp(action, "long")) *length = (*length > room ? *length : room) + OVER;
    if (!strcmp(action, "huge")) *length = (U)-1;
}

static U leave(struct call *call, U rv) {
    if (!strncmp(call->action, "error-after:", 12)) return strtoul(call->action + 12, 0, 16);
    if (!strcmp(call->action, "scribble")) abort();
    if (rv != CKR_OK) return rv;
    if (call->lengths.one) bend(call->action, call->lengths.one, call->lengths.room);
    for (U i = 0; i < call->lengths.count && i < MOST_ATTRIBUTES; i++)
        bend(call->action, &call->lengths.template[i].length, call->room[i]);
    return rv;
}

U C_GetFunctionList(void **list);

#define SHIM(name, parameters, arguments, lengths) \
    static U shim_##name parameters { \
        struct call call; \
        if (!enter(&call, #name, lengths)) return call.rv; \
        return leave(&call, behind.name arguments); \
    }
P11_FUNCTIONS(SHIM)

#define ENTRY(name, parameters, arguments, lengths) shim_##name,
static struct function_list ours = {{2, 40}, P11_FUNCTIONS(ENTRY)};

U C_GetFunctionList(void **list) {
    ours.C_GetFunctionList = C_GetFunctionList;
    *list = &ours;
    return CKR_OK;
}
