#!/usr/bin/env python3
"""A link with a rate, a delay and losses, between two network namespaces: shaper.py UP EDGE CONTROL.

A TUN device in each (10.77.0.1 and 10.77.0.2), and this program as the wire: not every kernel has `tc netem`, and this
one behaves the same everywhere. CONTROL is a file with `MBIT DELAY-MS LOSS-PERCENT`, read again when it changes; the
delay is one way, both directions are shaped alike, and a queue longer than 300 ms drops at its tail, as routers do.
"""
import ctypes, fcntl, heapq, os, random, select, struct, subprocess, sys, time

up, edge, control = sys.argv[1:]
libc = ctypes.CDLL(None, use_errno=True)
QUEUE = 0.3


def device(namespace, name, address):
    with open(f"/run/netns/{namespace}") as handle:
        if libc.setns(handle.fileno(), 0) != 0:
            raise OSError(ctypes.get_errno(), "setns")
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(fd, 0x400454CA, struct.pack("16sH", name.encode(), 0x1001))  # TUNSETIFF: IFF_TUN | IFF_NO_PI
    for line in (f"addr add {address}/24 dev {name}", f"link set {name} mtu 1500 txqueuelen 5000 up", "link set lo up"):
        subprocess.run(["ip", *line.split()], check=True)
    return fd


fds = [device(up, "shape-up", "10.77.0.1"), device(edge, "shape-edge", "10.77.0.2")]
free = {fds[0]: 0.0, fds[1]: 0.0}
other = {fds[0]: fds[1], fds[1]: fds[0]}
waiting, count, changed, chance = [], 0, None, random.Random(7)
rate = delay = loss = 0.0
print("ready", flush=True)
while True:
    now = time.monotonic()
    stamp = os.stat(control).st_mtime_ns
    if stamp != changed:
        changed = stamp
        words = open(control).read().split()
        if len(words) == 3:
            rate, delay, loss = float(words[0]) * 1e6, float(words[1]) / 1e3, float(words[2]) / 100
    while waiting and waiting[0][0] <= now:
        _, _, fd, packet = heapq.heappop(waiting)
        try:
            os.write(fd, packet)
        except BlockingIOError:
            pass
    pause = min(0.05, max(0.0, waiting[0][0] - now)) if waiting else 0.05
    for fd in select.select(fds, [], [], pause)[0]:
        for _ in range(64):
            try:
                packet = os.read(fd, 2048)
            except BlockingIOError:
                break
            now = time.monotonic()
            if not rate:
                os.write(other[fd], packet)
                continue
            start = max(now, free[fd])
            if start - now > QUEUE:
                continue
            free[fd] = start + len(packet) * 8 / rate
            if chance.random() >= loss:
                count += 1
                heapq.heappush(waiting, (free[fd] + delay, count, other[fd], packet))
