/* SPDX-License-Identifier: Apache-2.0
 *
 * What a PKCS#11 v2.40 module on a platform without structure packing looks like from outside: the functions in the
 * order of CK_FUNCTION_LIST with the kinds of their arguments, and the few structures and numbers the shims touch.
 *
 * P11_FUNCTIONS(F) expands F(name, (parameters), (their names), where it reports lengths) once per function, in order;
 * `U` is CK_ULONG, and so are handles, flags and results; what is behind a pointer is the caller's business.
 */
#ifndef TALLYSTICK_TESTS_P11_ABI_H
#define TALLYSTICK_TESTS_P11_ABI_H

#include <stddef.h>

typedef unsigned long U;
typedef unsigned char B;

struct attribute { U type; void *value; U length; };
struct mechanism { U mechanism; void *parameter; U length; };
struct token_info { B label[32], manufacturer[32], model[16], serial[16]; U flags; U counts[10]; B rest[20]; };
struct nss_initialize_args { void *mutexes[4]; U flags; char *parameters; void *reserved; };

/* Where a function reports how much it wrote: one number, with the room there was for it, or a number per attribute. */
struct lengths { U *one; U room; struct attribute *template; U count; };

enum {
    CKR_OK = 0x00, CKR_GENERAL_ERROR = 0x05, CKR_ARGUMENTS_BAD = 0x07, CKR_ATTRIBUTE_VALUE_INVALID = 0x13,
    CKR_DEVICE_MEMORY = 0x31, CKR_MECHANISM_INVALID = 0x70,
    CKA_CLASS = 0x00, CKO_DATA = 0x00, CKM_ECDH1_DERIVE = 0x1050, CKF_OS_LOCKING_OK = 0x02
};

#define P11_NONE ((struct lengths){0, 0, 0, 0})
#define P11_ROOM(length, room) ((struct lengths){length, room, 0, 0})
#define P11_OUT(out, length) P11_ROOM(length, (out) && (length) ? *(length) : 0)
#define P11_TEMPLATE(template, count) ((struct lengths){0, 0, template, count})

#define P11_WHOLE(F, name) \
    F(name, (U s, void *in, U n, void *out, U *length), (s, in, n, out, length), P11_OUT(out, length))
#define P11_LAST(F, name) F(name, (U s, void *out, U *length), (s, out, length), P11_OUT(out, length))
#define P11_PART(F, name) F(name, (U s, void *in, U n), (s, in, n), P11_NONE)
#define P11_START(F, name) F(name, (U s, void *mechanism, U key), (s, mechanism, key), P11_NONE)
#define P11_SESSION(F, name) F(name, (U s), (s), P11_NONE)

#define P11_FUNCTIONS(F) \
    F(C_Initialize, (void *args), (args), P11_NONE) \
    F(C_Finalize, (void *reserved), (reserved), P11_NONE) \
    F(C_GetInfo, (void *info), (info), P11_NONE) \
    F(C_GetFunctionList, (void **list), (list), P11_NONE) \
    F(C_GetSlotList, (B present, U *slots, U *length), (present, slots, length), P11_OUT(slots, length)) \
    F(C_GetSlotInfo, (U slot, void *info), (slot, info), P11_NONE) \
    F(C_GetTokenInfo, (U slot, void *info), (slot, info), P11_NONE) \
    F(C_GetMechanismList, (U slot, U *out, U *length), (slot, out, length), P11_OUT(out, length)) \
    F(C_GetMechanismInfo, (U slot, U type, void *info), (slot, type, info), P11_NONE) \
    F(C_InitToken, (U slot, void *pin, U n, void *label), (slot, pin, n, label), P11_NONE) \
    P11_PART(F, C_InitPIN) \
    F(C_SetPIN, (U s, void *old, U n, void *pin, U m), (s, old, n, pin, m), P11_NONE) \
    F(C_OpenSession, (U slot, U flags, void *app, void *notify, U *s), (slot, flags, app, notify, s), P11_NONE) \
    P11_SESSION(F, C_CloseSession) \
    F(C_CloseAllSessions, (U slot), (slot), P11_NONE) \
    F(C_GetSessionInfo, (U s, void *info), (s, info), P11_NONE) \
    P11_LAST(F, C_GetOperationState) \
    F(C_SetOperationState, (U s, void *in, U n, U key, U other), (s, in, n, key, other), P11_NONE) \
    F(C_Login, (U s, U who, void *pin, U n), (s, who, pin, n), P11_NONE) \
    P11_SESSION(F, C_Logout) \
    F(C_CreateObject, (U s, struct attribute *t, U n, U *object), (s, t, n, object), P11_NONE) \
    F(C_CopyObject, (U s, U from, struct attribute *t, U n, U *object), (s, from, t, n, object), P11_NONE) \
    F(C_DestroyObject, (U s, U object), (s, object), P11_NONE) \
    F(C_GetObjectSize, (U s, U object, U *size), (s, object, size), P11_NONE) \
    F(C_GetAttributeValue, (U s, U object, struct attribute *t, U n), (s, object, t, n), P11_TEMPLATE(t, n)) \
    F(C_SetAttributeValue, (U s, U object, struct attribute *t, U n), (s, object, t, n), P11_NONE) \
    F(C_FindObjectsInit, (U s, struct attribute *t, U n), (s, t, n), P11_NONE) \
    F(C_FindObjects, (U s, U *out, U n, U *length), (s, out, n, length), P11_ROOM(length, n)) \
    P11_SESSION(F, C_FindObjectsFinal) \
    P11_START(F, C_EncryptInit) \
    P11_WHOLE(F, C_Encrypt) \
    P11_WHOLE(F, C_EncryptUpdate) \
    P11_LAST(F, C_EncryptFinal) \
    P11_START(F, C_DecryptInit) \
    P11_WHOLE(F, C_Decrypt) \
    P11_WHOLE(F, C_DecryptUpdate) \
    P11_LAST(F, C_DecryptFinal) \
    F(C_DigestInit, (U s, void *mechanism), (s, mechanism), P11_NONE) \
    P11_WHOLE(F, C_Digest) \
    P11_PART(F, C_DigestUpdate) \
    F(C_DigestKey, (U s, U key), (s, key), P11_NONE) \
    P11_LAST(F, C_DigestFinal) \
    P11_START(F, C_SignInit) \
    P11_WHOLE(F, C_Sign) \
    P11_PART(F, C_SignUpdate) \
    P11_LAST(F, C_SignFinal) \
    P11_START(F, C_SignRecoverInit) \
    P11_WHOLE(F, C_SignRecover) \
    P11_START(F, C_VerifyInit) \
    F(C_Verify, (U s, void *in, U n, void *signature, U m), (s, in, n, signature, m), P11_NONE) \
    P11_PART(F, C_VerifyUpdate) \
    P11_PART(F, C_VerifyFinal) \
    P11_START(F, C_VerifyRecoverInit) \
    P11_WHOLE(F, C_VerifyRecover) \
    P11_WHOLE(F, C_DigestEncryptUpdate) \
    P11_WHOLE(F, C_DecryptDigestUpdate) \
    P11_WHOLE(F, C_SignEncryptUpdate) \
    P11_WHOLE(F, C_DecryptVerifyUpdate) \
    F(C_GenerateKey, (U s, void *mechanism, struct attribute *t, U n, U *key), (s, mechanism, t, n, key), P11_NONE) \
    F(C_GenerateKeyPair, (U s, void *mechanism, struct attribute *t, U n, struct attribute *v, U m, U *a, U *b), \
      (s, mechanism, t, n, v, m, a, b), P11_NONE) \
    F(C_WrapKey, (U s, void *mechanism, U with, U key, void *out, U *length), \
      (s, mechanism, with, key, out, length), P11_OUT(out, length)) \
    F(C_UnwrapKey, (U s, void *mechanism, U with, void *in, U m, struct attribute *t, U n, U *key), \
      (s, mechanism, with, in, m, t, n, key), P11_NONE) \
    F(C_DeriveKey, (U s, void *mechanism, U base, struct attribute *t, U n, U *key), \
      (s, mechanism, base, t, n, key), P11_NONE) \
    P11_PART(F, C_SeedRandom) \
    P11_PART(F, C_GenerateRandom) \
    P11_SESSION(F, C_GetFunctionStatus) \
    P11_SESSION(F, C_CancelFunction) \
    F(C_WaitForSlotEvent, (U flags, U *slot, void *reserved), (flags, slot, reserved), P11_NONE)

#define P11_MEMBER(name, parameters, arguments, lengths) U (*name) parameters;
struct function_list {
    B version[2];
    P11_FUNCTIONS(P11_MEMBER)
};

#endif
