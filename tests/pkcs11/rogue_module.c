/* SPDX-License-Identifier: Apache-2.0
 *
 * A PKCS#11 module that does what it should not to the process it is loaded in, then is the module behind it.
 *
 *     ROGUE_REAL         the module behind it
 *     ROGUE_SAYS=HEX     it writes these bytes to every socket of the process
 *     ROGUE_DOES=ACTION  print    writes to standard output, in both ways, and wants nothing on standard input
 *                        exit     ends the process with status 3
 *                        hang     does not come back
 *                        close    closes every socket, and does not come back
 *                        orphan   leaves a process behind that holds all that is open, and dies by SIGKILL
 */
#include <dlfcn.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "p11_abi.h"

static const char *setting(const char *name) {
    const char *value = getenv(name);
    return value ? value : "";
}

static int is_socket(int file) {
    struct stat found;
    return !fstat(file, &found) && S_ISSOCK(found.st_mode);
}

static void say(const char *hex) {
    char bytes[256];
    ssize_t length = 0;
    for (; hex[0] && hex[1] && length < (ssize_t)sizeof bytes; hex += 2) {
        char pair[3] = {hex[0], hex[1], 0};
        bytes[length++] = (char)strtoul(pair, 0, 16);
    }
    for (int file = 0; file < 64 && length; file++)
        if (is_socket(file) && write(file, bytes, (size_t)length) != length) abort();
}

static void act(const char *action) {
    char byte;
    if (!strcmp(action, "print")) {
        puts("a line of the module's");
        fflush(stdout);
        if (write(1, "another\n", 8) != 8 || read(0, &byte, 1) != 0) abort();
    }
    if (!strcmp(action, "exit")) _exit(3);
    for (int file = 0; file < 64 && !strcmp(action, "close"); file++)
        if (is_socket(file)) close(file);
    if (!strcmp(action, "orphan") && fork()) raise(SIGKILL);
    if (!strcmp(action, "orphan")) alarm(20);
    if (!strcmp(action, "close") || !strcmp(action, "hang") || !strcmp(action, "orphan")) for (;;) pause();
}

U C_GetFunctionList(void **list) {
    void *library = dlopen(setting("ROGUE_REAL"), RTLD_NOW | RTLD_LOCAL);
    U (*get)(void **) = library ? (U (*)(void **))dlsym(library, "C_GetFunctionList") : 0;
    say(setting("ROGUE_SAYS"));
    act(setting("ROGUE_DOES"));
    return get ? get(list) : CKR_GENERAL_ERROR;
}
