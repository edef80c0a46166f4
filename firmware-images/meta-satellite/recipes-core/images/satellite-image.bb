SUMMARY = "Example gateway: a satellite on a read-only root, with a data partition"
DESCRIPTION = "Two roots of the same size and a data partition. What boots them is the machine's: see meta-satellite/README.md."
LICENSE = "Apache-2.0"

inherit core-image

# satellite-bin for the prebuilt program.
SATELLITE_PACKAGE ?= "satellite"

IMAGE_FEATURES += "read-only-rootfs"
IMAGE_INSTALL += "\
    ${SATELLITE_PACKAGE} \
    ${SATELLITE_PACKAGE}-data \
    ca-certificates \
    e2fsprogs-e2fsck \
"

IMAGE_FSTYPES = "wic"
WKS_FILE = "satellite-ab.wks.in"
# The roots know of the data partition by themselves, so that an updated one does too.
WIC_CREATE_EXTRA_ARGS:append = " --no-fstab-update"

# The line of the boot partition, if the machine boots from one.
# nooelint: oelint.vars.mispell.unknown
SATELLITE_WKS_BOOT ?= ""
# Of each root, and of the data partition at least; in MiB.
# nooelint: oelint.vars.mispell.unknown
SATELLITE_ROOT_SIZE ?= "256"
# nooelint: oelint.vars.mispell.unknown
SATELLITE_DATA_SIZE ?= "1024"

ROOTFS_POSTPROCESS_COMMAND += "data_partition"

data_partition() {
    install -d ${IMAGE_ROOTFS}/data
    echo 'LABEL=data /data ext4 noatime,nodev,nosuid 0 2' >>${IMAGE_ROOTFS}${sysconfdir}/fstab
}
