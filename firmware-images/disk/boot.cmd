# U-Boot's script: boots the good slot, or one that is on trial as long as it has tries left (see `slot` in the root).
part number virtio 0 state n
part start virtio 0 ${n} start
virtio read ${kernel_addr_r} ${start} 1
setenv good; setenv next; setenv tries
env import -t ${kernel_addr_r} 200 good next tries
if test "${good}" != b; then setenv good a; fi
setenv slot ${good}
if test "${tries}" = 1 || test "${tries}" = 2 || test "${tries}" = 3; then
    setexpr tries ${tries} - 1
    setenv slot ${next}
    env export -t -s 200 ${kernel_addr_r} good next tries
    virtio write ${kernel_addr_r} ${start} 1
fi
if test "${slot}" != b; then setenv slot a; fi
part number virtio 0 root-${slot} n
part uuid virtio 0:${n} uuid
setenv bootargs console=@CONSOLE@ root=PARTUUID=${uuid} rootfstype=ext4 ro rootwait panic=5 quiet slot=${slot} end
echo "boot: slot ${slot}, tries left ${tries}"
load virtio 0:${n} ${kernel_addr_r} /boot/Image
booti ${kernel_addr_r} - ${fdtcontroladdr}
# Nothing to boot there: once more, with a try less.
sleep 1
reset
