#!/bin/busybox sh
# First program in the VM: inserts the modules, finds the disks by their serials, and hands over to
# guard-guest. Nothing of Guard is decided here.
export PATH=/bin
mkdir -p /proc /sys /dev /root
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
while read -r module; do
  insmod "/modules/$module" || echo "initramfs: insmod $module failed"
done </modules/order

disk() { # SERIAL → name of the block device; probing may take a moment
  tries=0
  while [ "$tries" -lt 100 ]; do
    for folder in /sys/block/vd*; do
      [ "$(cat "$folder/serial" 2>/dev/null)" = "$1" ] && { echo "/dev/${folder##*/}"; return; }
    done
    tries=$((tries + 1))
    sleep 0.05
  done
  echo "initramfs: no disk with the serial $1" >&2
}

mount -t ext4 "$(disk guard-root)" /root
mount -t tmpfs -o mode=755 tmpfs /root/run
mkdir /root/run/guard-payload
mount -t ext4 -o ro "$(disk guard-payload)" /root/run/guard-payload
for folder in dev proc sys; do mount --move "/$folder" "/root/$folder"; done
exec switch_root -c /dev/console /root /run/guard-payload/bin/guard-guest
echo "initramfs: nothing to hand over to"
poweroff -f
