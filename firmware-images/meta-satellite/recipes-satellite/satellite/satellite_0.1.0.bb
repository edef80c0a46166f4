# nooelint: oelint.var.mandatoryvar.HOMEPAGE
require satellite-source.inc
require satellite-service.inc

CARGO_BUILD_FLAGS:append = " --package satellite-bin --bin satellite"

do_install() {
    install_satellite ${B}/target/${CARGO_TARGET_SUBDIR}/satellite \
        ${S}/satellite-bin/deploy/systemd/satellite.service ${S}/satellite-bin/README.md
}
