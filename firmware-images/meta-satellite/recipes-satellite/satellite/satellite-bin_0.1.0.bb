# nooelint: oelint.var.mandatoryvar.HOMEPAGE
# The static program as cross/build made it, out of its Debian package: for builds without a Rust that is new enough.

LICENSE = "Apache-2.0"
LIC_FILES_CHKSUM = "file://usr/share/doc/satellite/copyright;md5=3b83ef96387f14655fc854ddc3c6bd57"

# The architecture as Debian calls it; nothing where no program is made for it.
def satellite_architecture(d):
    known = {'aarch64': 'arm64', 'riscv64': 'riscv64', 'x86_64': 'amd64'}
    if bb.utils.contains_any('TUNE_FEATURES', 'armv7a armv7ve', True, False, d):
        known['arm'] = 'armhf'
    return known.get(d.getVar('TARGET_ARCH'), '')

# Where the packages are, a folder or an HTTPS server, and the sum of each; written by scripts/prepare.
SATELLITE_DIST ??= ""
# nooelint: oelint.file.includenotfound,oelint.file.requireinclude
include generated/packages.inc
SATELLITE_SUM = "${@d.getVarFlag('SATELLITE_SUMS', satellite_architecture(d)) or ''}"

SRC_URI = "${SATELLITE_DIST}/satellite_${PV}_${@satellite_architecture(d)}.deb;name=package;subdir=${BP}"
SRC_URI[package.sha256sum] = "${SATELLITE_SUM}"

SATELLITE_UNPACKED = "${@d.getVar('UNPACKDIR') or d.getVar('WORKDIR')}"
S = "${SATELLITE_UNPACKED}/${BP}"

require satellite-service.inc

# The source of a file:// URI is not compared with its sum by bitbake.
python do_unpack:prepend() {
    fetcher = bb.fetch2.Fetch([d.getVar('SRC_URI').split()[0]], d)
    package = fetcher.localpath(fetcher.urls[0])
    if bb.utils.sha256_file(package) != d.getVar('SATELLITE_SUM'):
        bb.fatal('%s is not the one that meta-satellite/scripts/prepare saw: run it again' % package)
}

do_configure[noexec] = "1"
do_compile[noexec] = "1"

do_install() {
    # Debian's place of units.
    # nooelint: oelint.vars.pathhardcode.systemd_system_unitdir
    install_satellite ${S}/usr/bin/satellite ${S}/lib/systemd/system/satellite.service ${S}/usr/share/doc/satellite/README.md
}

RPROVIDES:${PN} = "satellite"
RCONFLICTS:${PN} = "satellite"
RREPLACES:${PN} = "satellite"
# It has no symbols that OE-core could keep.
# nooelint: oelint.vars.insaneskip
INSANE_SKIP:${PN} = "already-stripped"

# nooelint: oelint.task.noanonpython
python () {
    architecture = satellite_architecture(d)
    if not architecture:
        raise bb.parse.SkipRecipe('no program is made for %s: aarch64, armv7, riscv64 and x86_64 have one' % d.getVar('TARGET_ARCH'))
    if not d.getVar('SATELLITE_SUM'):
        raise bb.parse.SkipRecipe('no package for %s is known yet: run cross/build --deb and meta-satellite/scripts/prepare' % architecture)
}
