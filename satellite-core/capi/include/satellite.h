/* satellite: a content-addressed store of OCI images, replication into it, a registry over it.
 *
 * Made by cbindgen from satellite-core/capi/src; `SATELLITE_BLESS=1 cargo test -p satellite-capi header` renews it.
 *
 * ERRORS. Functions that return int return SATELLITE_OK (0) or another code; satellite_last_error has the text, for
 * each thread its own. A function that fails leaves its results at 0 or as they were.
 *
 * HANDLES are numbers, never 0 and never given twice: one that is closed, made up, or of another kind of object gives
 * SATELLITE_HANDLE. Closing twice is an error and no harm.
 *
 * THREADS. Any function may be called on any thread, several at a time on one store, and closing a store while others
 * are in a call is safe. What writes or takes long runs on a thread of the library, of 2 MiB stack, while the caller's
 * thread waits; call-backs are called on the caller's thread (the log's alone on any). The library has further threads
 * of its own: the index's, up to `threads` for file work, one that waits for sockets, one for each registry that is
 * served. Do not use handles in the child of a fork.
 *
 * SIGNALS. No handler is set, no disposition and no mask of the caller's is changed. All threads of the library block
 * all signals, so that a handler runs on a thread of the program, and SIGPIPE ends nobody.
 *
 * STATE of the process: the table of handles, the last error of each thread, and one log call-back. Nothing is printed,
 * no environment variable is read but SSL_CERT_FILE and SSL_CERT_DIR (where the system's authorities are) and
 * BLOCKING_MAX_THREADS (the most threads for file work, if that is fewer than `threads`).
 *
 * DEFECTS. A panic gives SATELLITE_PANIC in builds that unwind. The profiles `release` and `small` are built to abort
 * the process instead, after telling the log.
 *
 * STRINGS end with a zero, are UTF-8 and at most 16384 bytes long. Digests are "sha256:" and 64 hex digits, or
 * "sha512:" and 128. Structures that the caller fills begin with their size: set it by sizeof, and all else to 0 that is
 * not wanted. Call-backs must return: no exception and no longjmp may leave them.
 *
 * FEATURES. A library may be built without `serve` or `replicate`: functions marked so are missing then.
 */


#ifndef SATELLITE_H
#define SATELLITE_H

#include <stddef.h>
#include <stdint.h>

/**
 * Rises when something changes that a compiled program would notice. It is in the shared object's name.
 */
#define SATELLITE_ABI_VERSION 1

/**
 * Room that any digest takes with its zero.
 */
#define SATELLITE_DIGEST_ROOM 136

/**
 * Room that any media type takes with its zero.
 */
#define SATELLITE_MEDIA_TYPE_ROOM 256

/**
 * In satellite_features: satellite_serve and what belongs to it.
 */
#define SATELLITE_HAS_SERVE 1

/**
 * In satellite_features: satellite_replicate and what belongs to it.
 */
#define SATELLITE_HAS_REPLICATE 2

/**
 * It worked.
 */
#define SATELLITE_OK 0

/**
 * An argument is NULL, not UTF-8, too long, or not of the form asked for.
 */
#define SATELLITE_ARGUMENT 1

/**
 * The handle is of nothing that is open, or of something else.
 */
#define SATELLITE_HANDLE 2

/**
 * The store, or the registry, does not have it.
 */
#define SATELLITE_NOT_FOUND 3

/**
 * Another process has the store, or this one a second time.
 */
#define SATELLITE_LOCKED 4

/**
 * There is no room.
 */
#define SATELLITE_NO_SPACE 5

/**
 * Bytes are not what their digest says, or a manifest is none, or not all that it names is there.
 */
#define SATELLITE_CONTENT 6

/**
 * The store failed: see the text. After a failed write it works again once it is closed and opened.
 */
#define SATELLITE_STORE 7

/**
 * A text does not fit in the room given.
 */
#define SATELLITE_TOO_SMALL 8

/**
 * A defect of the library.
 */
#define SATELLITE_PANIC 9

/**
 * The registry, or the way to it.
 */
#define SATELLITE_NETWORK 10

/**
 * The registry refused who we are.
 */
#define SATELLITE_UNAUTHORIZED 11

/**
 * The call-back returned other than 0, or the cancel was raised.
 */
#define SATELLITE_CANCELLED 12

/**
 * The operating system refused a thread or a socket.
 */
#define SATELLITE_SYSTEM 13

/**
 * Called from within the log call-back.
 */
#define SATELLITE_REENTRANT 14

/**
 * Something failed that has to be looked at.
 */
#define SATELLITE_LOG_ERROR 1

/**
 * Something failed that mends itself.
 */
#define SATELLITE_LOG_WARN 2

/**
 * Something happened.
 */
#define SATELLITE_LOG_INFO 3

/**
 * For whoever looks for a fault.
 */
#define SATELLITE_LOG_DEBUG 4

/**
 * All there is.
 */
#define SATELLITE_LOG_TRACE 5

/**
 * In satellite_store_verify: nothing is changed.
 */
#define SATELLITE_MEND_NOTHING 0

/**
 * Damaged and stray files are set aside: nobody gets them, and replicating their images fetches them again.
 */
#define SATELLITE_MEND_SET_ASIDE 1

/**
 * Besides, what leads nowhere is removed: tags and manifests whose content is lost.
 */
#define SATELLITE_MEND_ALL 2

/**
 * In satellite_source: plain HTTP, passwords included. Without it only loopback is spoken to so.
 */
#define SATELLITE_PLAIN_HTTP 1

/**
 * In satellite_source: signatures, SBOMs and what else is about the image is left.
 */
#define SATELLITE_NO_REFERRERS 2

/**
 * In satellite_service: clients on this machine may push and delete without credentials.
 */
#define SATELLITE_TRUST_LOOPBACK 1

/**
 * In satellite_service: pulling needs credentials, too.
 */
#define SATELLITE_PRIVATE 2

/**
 * In satellite_service: nobody may push or delete.
 */
#define SATELLITE_READ_ONLY 4

/**
 * Called for a line of the log; `target` says what part of the library says it. The strings are gone afterwards.
 * Called on whichever thread has something to say, on several at a time: it must be quick, must not throw, and may call
 * no function of this library but satellite_last_error and those that tell versions.
 */
typedef void (*satellite_log_callback)(void *context, int level, const char *target, const char *message);

/**
 * How a store is kept. Zero for everything but `size` is right for a gateway.
 */
struct satellite_store_options {
  /**
   * sizeof(struct satellite_store_options).
   */
  size_t size;
  /**
   * Most bytes of blobs. 0: as many as the disk has.
   */
  uint64_t cap;
  /**
   * Free bytes of the file system that are never used. 0: 32 MiB.
   */
  uint64_t floor;
  /**
   * Seconds that unreferenced content is safe from satellite_store_gc. 0: an hour.
   */
  uint64_t grace_seconds;
  /**
   * Threads for file work, at most. 0: 8.
   */
  uint32_t threads;
  /**
   * 0.
   */
  uint32_t reserved;
};

/**
 * An open store; 0 is none.
 */
typedef uint64_t satellite_store;

/**
 * Called for each thing that is wrong, on the thread that verifies. Other than 0: no more of them.
 */
typedef int (*satellite_finding_callback)(void *context, const char *finding);

/**
 * What a store holds.
 */
struct satellite_usage {
  /**
   * Blobs, manifests included.
   */
  uint64_t blobs;
  /**
   * Their bytes.
   */
  uint64_t bytes;
  /**
   * Bytes free on the file system.
   */
  uint64_t free;
  /**
   * Bytes that blobs may still take, under the cap and above the floor.
   */
  uint64_t available;
  /**
   * 0.
   */
  uint64_t reserved[4];
};

/**
 * What a tag or digest names.
 */
struct satellite_manifest {
  /**
   * Its digest, by which satellite_blob_read reads it.
   */
  char digest[SATELLITE_DIGEST_ROOM];
  /**
   * Its media type.
   */
  char media_type[SATELLITE_MEDIA_TYPE_ROOM];
  /**
   * Its bytes.
   */
  uint64_t size;
  /**
   * 0.
   */
  uint64_t reserved[4];
};

/**
 * An image as it is listed. The strings are gone when the call-back returns.
 */
struct satellite_image {
  /**
   * Where it is.
   */
  const char *repository;
  /**
   * Its tag; NULL if it is held by its digest.
   */
  const char *tag;
  /**
   * The digest of its manifest.
   */
  const char *digest;
  /**
   * The manifest's media type.
   */
  const char *media_type;
  /**
   * The manifest's bytes.
   */
  uint64_t size;
};

/**
 * Called for each image, on the thread that lists. Other than 0: no more of them.
 */
typedef int (*satellite_image_callback)(void *context, const struct satellite_image *image);

/**
 * What another thread ends a replication by; 0 is none.
 */
typedef uint64_t satellite_cancel;

/**
 * How far a replication is.
 */
struct satellite_progress {
  /**
   * Bytes to fetch; 0 until the manifests are read.
   */
  uint64_t bytes_total;
  /**
   * Of these, how many are here.
   */
  uint64_t bytes_done;
  /**
   * Bytes that were here before and need not be fetched.
   */
  uint64_t bytes_present;
  /**
   * Blobs to fetch.
   */
  uint64_t blobs_total;
  /**
   * Of these, how many are here whole.
   */
  uint64_t blobs_done;
  /**
   * Tries that failed and were followed by another.
   */
  uint64_t retries;
};

/**
 * Called with how far it is, about ten times a second while bytes come and twice a second while none do, on the thread
 * that called satellite_replicate. Other than 0 cancels, unless all is there already. It may call any function of this
 * library; it must not throw.
 */
typedef int (*satellite_progress_callback)(void *context, const struct satellite_progress *progress);

/**
 * What is to be replicated, and how. Zero and NULL for what has a default.
 */
struct satellite_source {
  /**
   * sizeof(struct satellite_source).
   */
  size_t size;
  /**
   * "HOST[:PORT]/REPOSITORY[:TAG][@DIGEST]".
   */
  const char *image;
  /**
   * Name of the account at the registry; NULL: none.
   */
  const char *user;
  /**
   * Its password.
   */
  const char *password;
  /**
   * File of certification authorities in PEM, trusted besides the system's; with it loopback is spoken to by TLS, too.
   */
  const char *ca_file;
  /**
   * "http://[USER:PASSWORD@]HOST[:PORT]" of a proxy; NULL: none. The environment is not read.
   */
  const char *proxy;
  /**
   * Platforms of an index to fetch, "linux/arm64,linux/arm/v7" or "all"; NULL: this machine's.
   */
  const char *platforms;
  /**
   * SATELLITE_PLAIN_HTTP, SATELLITE_NO_REFERRERS.
   */
  uint32_t flags;
  /**
   * Blobs fetched at once, 64 at most. 0: 4.
   */
  uint32_t concurrency;
  /**
   * Without a byte for so many seconds a connection is given up and another is made. 0: 60.
   */
  uint32_t stall_seconds;
  /**
   * 0.
   */
  uint32_t reserved;
  /**
   * Most bytes a second. 0: no limit.
   */
  uint64_t bytes_per_second;
  /**
   * What another thread can end it by; 0: nothing.
   */
  satellite_cancel cancel;
  /**
   * Who is told how far it is; NULL: nobody.
   */
  satellite_progress_callback progress;
  /**
   * For the call-back.
   */
  void *context;
};

/**
 * What was replicated.
 */
struct satellite_replicated {
  /**
   * The digest of the image.
   */
  char digest[SATELLITE_DIGEST_ROOM];
  /**
   * Bytes of blobs that came over the wire.
   */
  uint64_t received;
  /**
   * Bytes that earlier tries had left.
   */
  uint64_t resumed;
  /**
   * Bytes that were here.
   */
  uint64_t present;
  /**
   * 1 if nothing had to be fetched.
   */
  uint32_t unchanged;
  /**
   * 0.
   */
  uint32_t reserved[7];
};

/**
 * How a store is served. Zero and NULL for what has a default: anybody may pull, and nobody may change anything.
 */
struct satellite_service {
  /**
   * sizeof(struct satellite_service).
   */
  size_t size;
  /**
   * "ADDRESS:PORT" to listen on, "127.0.0.1:0" for any port, "[::]:5000" for all; NULL: `socket` is used.
   */
  const char *address;
  /**
   * A TCP socket that listens already, if `address` is NULL. It stays the caller's, who may close it at once; as
   * long as it is not closed, clients may wait in it after the registry has stopped. It becomes non-blocking.
   */
  int socket;
  /**
   * SATELLITE_TRUST_LOOPBACK, SATELLITE_PRIVATE, SATELLITE_READ_ONLY.
   */
  uint32_t flags;
  /**
   * Connections at once; each takes two descriptors. 0: 500, or as many as the limit on open files leaves.
   */
  uint32_t connections;
  /**
   * Seconds that running answers may take after satellite_server_stop. 0: 20.
   */
  uint32_t drain_seconds;
  /**
   * File of names and passwords as `htpasswd -B` makes it, for those who may push and delete; NULL: nobody.
   */
  const char *htpasswd;
  /**
   * File of a certificate and its intermediates in PEM; NULL: plain HTTP.
   */
  const char *tls_certificate;
  /**
   * File of its key.
   */
  const char *tls_key;
};

/**
 * A registry that runs; 0 is none.
 */
typedef uint64_t satellite_server;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * The library's ABI version: what was compiled against another SATELLITE_ABI_VERSION must not go on.
 *
 * Threads: any. Never fails.
 */
uint32_t satellite_abi_version(void);

/**
 * The library's version, e.g. "0.1.0"; never freed.
 *
 * Threads: any. Never fails.
 */
const char *satellite_version(void);

/**
 * What was built in: SATELLITE_HAS_…, or-ed. Functions that are not there are missing when a program is linked.
 *
 * Threads: any. Never fails.
 */
uint32_t satellite_features(void);

/**
 * The text of this thread's last call that returns a code, empty if that succeeded: cut to `room` with its zero.
 * Returns its whole length without the zero. `buffer` may be NULL.
 *
 * Threads: any; each has its own text. Never fails.
 */
size_t satellite_last_error(char *buffer,
                            size_t room);

/**
 * The SHA-256 digest of `length` bytes as "sha256:…", into `digest`, which has SATELLITE_DIGEST_ROOM bytes or
 * whatever `room` says.
 *
 * Threads: any.
 */
int satellite_digest(const uint8_t *data,
                     size_t length,
                     char *digest,
                     size_t room);

/**
 * Sends the log, down to `level` (SATELLITE_LOG_…), to `callback`; NULL ends that. When it returns, the call-back
 * before is not running any more and never called again, so that its context may go. Secrets are not in the log.
 *
 * There is one log for the process, whichever store it is about.
 *
 * Threads: any.
 */
int satellite_log(satellite_log_callback callback,
                  void *context,
                  int level);

/**
 * Opens the store in the folder `dir`, or makes one. `options` may be NULL. One process at a time has a store.
 *
 * Threads: any.
 */
int satellite_store_open(const char *dir,
                         const struct satellite_store_options *options,
                         satellite_store *store);

/**
 * Closes a store. Calls on other threads that are using it end as they would have, and a registry over it goes on: the
 * folder is free for another process when the last of them has ended.
 *
 * Threads: any.
 */
int satellite_store_close(satellite_store store);

/**
 * Deletes what nothing refers to and is older than `grace_seconds`; below 0: than the store's own. `freed`, which may
 * be NULL, gets the bytes. Safe at any time, also while the store is served and replicated into.
 *
 * Threads: any; a second call meanwhile waits its turn.
 */
int satellite_store_gc(satellite_store handle,
                       int64_t grace_seconds,
                       uint64_t *freed);

/**
 * Reads every blob and checks every record, and mends as `mend` (SATELLITE_MEND_…) says. `callback`, which may be
 * NULL, is told what is wrong, and `findings`, which may be NULL, gets how many there are.
 *
 * Threads: any. Takes as long as reading the whole store.
 */
int satellite_store_verify(satellite_store handle,
                           int mend,
                           satellite_finding_callback callback,
                           void *context,
                           uint64_t *findings);

/**
 * Counts blobs and bytes. Reads the store's folders, so it is not for every second.
 *
 * Threads: any.
 */
int satellite_store_usage(satellite_store handle, struct satellite_usage *usage);

/**
 * The size of a blob in bytes; SATELLITE_NOT_FOUND if it is not there whole. Manifests are blobs, too.
 *
 * Threads: any.
 */
int satellite_blob_size(satellite_store handle, const char *digest, uint64_t *size);

/**
 * Reads a blob from `offset` on into `buffer`: as much as it has and `room` takes. `read` gets how much; 0 is the end.
 * Bytes are as they are on the disk: satellite_store_verify finds those that have rotted.
 *
 * Threads: any.
 */
int satellite_blob_read(satellite_store handle,
                        const char *digest,
                        uint64_t offset,
                        uint8_t *buffer,
                        size_t room,
                        size_t *read);

/**
 * Stores `length` bytes as a blob of `repository`, durably. They must have the digest, or nothing is stored. Until a
 * manifest names the blob, satellite_store_gc may collect it once its grace is over.
 *
 * Threads: any.
 */
int satellite_blob_put(satellite_store handle,
                       const char *repository,
                       const char *digest,
                       const uint8_t *data,
                       size_t length);

/**
 * As satellite_blob_put, with all that can be read from the open descriptor `fd`, which stays the caller's.
 *
 * Threads: any.
 */
int satellite_blob_put_fd(satellite_store handle, const char *repository, const char *digest, int fd);

/**
 * Stores a manifest of `length` bytes and moves `tag` to it, durably, all or nothing; without a tag (NULL) it is held by
 * its digest. All it names must be in the store, and it must have the digest.
 *
 * Threads: any.
 */
int satellite_manifest_put(satellite_store handle,
                           const char *repository,
                           const char *digest,
                           const char *tag,
                           const uint8_t *data,
                           size_t length);

/**
 * What a tag or digest of `repository` names.
 *
 * Threads: any.
 */
int satellite_manifest_resolve(satellite_store handle,
                               const char *repository,
                               const char *reference,
                               struct satellite_manifest *manifest);

/**
 * Lists tags, and images that are held by their digest, in no order that can be relied on.
 *
 * Threads: any. The call-back may call any function of this library.
 */
int satellite_image_list(satellite_store handle, satellite_image_callback callback, void *context);

/**
 * Removes a tag, or by its digest a manifest with all its tags, durably. Content that nothing refers to any more goes
 * with satellite_store_gc.
 *
 * Threads: any.
 */
int satellite_image_remove(satellite_store handle,
                           const char *repository,
                           const char *reference);

/**
 * Makes a cancel, for any number of replications.
 *
 * Feature: replicate. Threads: any.
 */
int satellite_cancel_new(satellite_cancel *cancel);

/**
 * Ends all replications that were given it, now and later, with SATELLITE_CANCELLED. It cannot be taken back.
 *
 * Feature: replicate. Threads: any. Not for signal handlers.
 */
int satellite_cancel_raise(satellite_cancel cancel);

/**
 * Frees it. Replications that were given it go on, and nothing ends them any more.
 *
 * Feature: replicate. Threads: any.
 */
int satellite_cancel_free(satellite_cancel cancel);

/**
 * Fetches an image into the store and returns when it is there, whole and durable, its tag moved last; or when that
 * failed: what has come of blobs is kept, and the next call goes on from there. `replicated` may be NULL.
 *
 * A registry that does not answer is tried for some seconds, a blob whose transfer breaks for some minutes.
 *
 * Feature: replicate. Threads: any; any number at a time, and of two that want the same blob one fetches it. The store may be closed
 * meanwhile: this goes on with it.
 */
int satellite_replicate(satellite_store handle,
                        const struct satellite_source *source,
                        struct satellite_replicated *replicated);

/**
 * Serves the store as an OCI registry, on a thread of the library, until satellite_server_stop. When it returns, clients
 * can connect. It keeps the store open; satellite_store_gc is the caller's to call.
 *
 * Feature: serve. Threads: any; a store may be served several times.
 */
int satellite_serve(satellite_store handle,
                    const struct satellite_service *service,
                    satellite_server *server);

/**
 * The port that it listens on.
 *
 * Feature: serve. Threads: any.
 */
int satellite_server_port(satellite_server server, uint16_t *port);

/**
 * Stops it: new clients are refused, idle connections closed, running answers may end within `drain_seconds`. Returns
 * when all have ended.
 *
 * Feature: serve. Threads: any.
 */
int satellite_server_stop(satellite_server server);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* SATELLITE_H */
