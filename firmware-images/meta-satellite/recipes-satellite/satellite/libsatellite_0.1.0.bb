# nooelint: oelint.var.mandatoryvar.HOMEPAGE
require satellite-source.inc

SUMMARY = "A store of OCI images with replication and registry, for programs in C"
DESCRIPTION = "Shared and static library, header and pkg-config file of the satellite's store, for programs of the device's maker."
SECTION = "libs"

# Of serve and replicate, with a comma between; empty for the store alone, which has no network.
LIBSATELLITE_FEATURES ?= "serve,replicate"
CARGO_BUILD_FLAGS:append = " --package satellite-capi --no-default-features --features=${LIBSATELLITE_FEATURES}"

do_install() {
    DESTDIR=${D} PREFIX=${prefix} LIBDIR=${libdir} \
        ${S}/satellite-core/capi/install --from ${B}/target/${CARGO_TARGET_SUBDIR}
}
