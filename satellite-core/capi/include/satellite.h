/* The content-addressed store of satellite-core for programs in C.
 *
 * Every function but satellite_abi_version and satellite_last_error returns 0 or a code of enum satellite_code.
 * Every function may be called from any thread, on one store by several threads at a time. A close while others
 * are in a call is safe: the store closes when the last of them returns.
 *
 * Handles are numbers, never 0 and never given twice: one that is closed or made up gives SATELLITE_HANDLE. A table
 * of them is all the state the process shares. The last error belongs to the thread.
 *
 * The library sets no signal handler and prints nothing. A panic (a defect) gives SATELLITE_PANIC in a build that
 * unwinds; the profiles `release` and `small` of the workspace abort the process instead.
 *
 * Strings end with a zero, are UTF-8 and at most 4096 bytes long. Digests are "sha256:" and 64 hex digits.
 */
#ifndef SATELLITE_H
#define SATELLITE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SATELLITE_ABI_VERSION 1

enum satellite_code {
    SATELLITE_OK = 0,
    SATELLITE_ARGUMENT = 1,  /* NULL, not UTF-8, too long, or not of the form asked for */
    SATELLITE_HANDLE = 2,    /* not of an open store */
    SATELLITE_NOT_FOUND = 3, /* the store does not have it */
    SATELLITE_LOCKED = 4,    /* another process has the store */
    SATELLITE_NO_SPACE = 5,
    SATELLITE_CONTENT = 6,   /* bytes are not what their digest says, or a manifest is none or incomplete */
    SATELLITE_STORE = 7,     /* the store or the operating system failed: see the text */
    SATELLITE_TOO_SMALL = 8, /* a text does not fit in the room given */
    SATELLITE_PANIC = 9      /* a defect of the library */
};

/* Compare with SATELLITE_ABI_VERSION. */
uint32_t satellite_abi_version(void);

/* The text of this thread's last call, empty if that succeeded: cut to `room` with its zero. Returns its whole
 * length without the zero. `buffer` may be NULL. */
size_t satellite_last_error(char *buffer, size_t room);

/* Opens the store in `dir`, or makes one. One process at a time has it. */
int satellite_store_open(const char *dir, uint64_t *handle);
int satellite_store_close(uint64_t handle);

/* Stores `length` bytes as a blob of `repository`, durably. They must have the (SHA-256) digest. */
int satellite_blob_put(uint64_t handle, const char *repository, const char *digest, const uint8_t *data, size_t length);

/* Stores a manifest and moves `tag` to it, durably. All it names must be in the store; it must have the digest. */
int satellite_manifest_put(uint64_t handle, const char *repository, const char *digest, const char *tag,
                           const uint8_t *data, size_t length);

/* What a tag or digest of `repository` names. 72 bytes hold a SHA-256 digest; media types are shorter than 256. */
int satellite_resolve(uint64_t handle, const char *repository, const char *reference, char *digest,
                      size_t digest_room, char *media_type, size_t media_type_room, uint64_t *size);

/* Reads up to `room` bytes of a blob from `offset` on, at most 256 KiB a call. `*read` 0 is the end. */
int satellite_blob_read(uint64_t handle, const char *digest, uint64_t offset, uint8_t *buffer, size_t room,
                        size_t *read);

/* Deletes what nothing refers to and is older than `grace_seconds`. `*freed`: bytes. */
int satellite_store_gc(uint64_t handle, uint64_t grace_seconds, uint64_t *freed);

#ifdef __cplusplus
}
#endif
#endif
