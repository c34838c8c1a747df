/* SPDX-License-Identifier: Apache-2.0
 *
 * NSS softokn as an ordinary PKCS#11 module: C_Initialize gets the parameters it insists on, the rest is its own.
 *
 *     NSS_SHIM_DB      the folder of the database (certutil -N -d sql:FOLDER)
 *     NSS_SHIM_LABEL   what its token is called
 */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

#include "p11_abi.h"

static struct function_list *real, ours;

static U initialize(void *ignored) {
    char parameters[4096];
    const char *folder = getenv("NSS_SHIM_DB"), *label = getenv("NSS_SHIM_LABEL");
    struct nss_initialize_args args = {{0}, CKF_OS_LOCKING_OK, parameters, 0};
    (void)ignored;
    if (!folder || !label) return CKR_ARGUMENTS_BAD;
    snprintf(parameters, sizeof parameters,
             "configdir='sql:%s' certPrefix='' keyPrefix='' secmod='' flags= dbTokenDescription='%s' "
             "updatedir='' updateCertPrefix='' updateKeyPrefix='' updateid='' updateTokenDescription=''",
             folder, label);
    return real->C_Initialize(&args);
}

U C_GetFunctionList(void **list) {
    void *library = dlopen("libsoftokn3.so", RTLD_NOW | RTLD_LOCAL);
    U (*get)(void **) = library ? (U (*)(void **))dlsym(library, "C_GetFunctionList") : 0;
    U rv = get ? get((void **)&real) : CKR_GENERAL_ERROR;
    if (rv != CKR_OK) return rv;
    ours = *real;
    ours.C_Initialize = initialize;
    *list = &ours;
    return CKR_OK;
}
