#!/bin/sh
# Installs the packages missing to build peregrine and to run it without a GPU; prints what to do if it cannot.
# `setup.sh drivers` installs a driver that runs cooperative matrices on the CPU, in target/drivers/sid. No released distribution
# has one yet, so this is a small Debian sid for use with chroot.
set -eu

say() { echo "setup: $*" >&2; }

drivers() {
  root=target/drivers/sid
  if [ -e "$root/complete" ]; then return; fi
  [ "$(uname -s)" = Linux ] || { say "the drivers for tests run on Linux only"; exit 1; }
  [ "$(id -u)" = 0 ] || { say "the drivers for tests need chroot: run this as root"; exit 1; }
  if ! command -v debootstrap >/dev/null 2>&1; then
    command -v apt-get >/dev/null 2>&1 || { say "debootstrap is missing"; exit 1; }
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq debootstrap >/dev/null
  fi
  say "fetching Debian sid with Mesa's drivers into $root (600 MB, some minutes)"
  rm -rf "$root"
  mkdir -p "$root"
  if ! debootstrap --variant=minbase --include=mesa-vulkan-drivers,libvulkan1 sid "$root" >target/drivers/log 2>&1; then
    tail -n 20 target/drivers/log >&2
    say "debootstrap failed; its output is in target/drivers/log"
    exit 1
  fi
  rm -rf "$root"/var/cache/apt/archives/*.deb
  touch "$root/complete"
}

if [ "${1:-}" = drivers ]; then
  cd "$(dirname "$0")"
  drivers
  exit 0
fi

if ! command -v cargo >/dev/null 2>&1; then
  say "Rust is missing. Install it from https://rustup.rs, then run make again."
  exit 1
fi

case "$(uname -s)" in
  Linux) ;;
  Darwin) exit 0 ;;  # Metal is part of the system
  *) say "on Windows the graphics driver is enough (DX12 or Vulkan); run the cargo commands of the Makefile"; exit 0 ;;
esac

missing=""
command -v cc >/dev/null 2>&1 || missing="$missing gcc libc6-dev"

# The Vulkan loader, and any driver for it: the GPU's, or Mesa's, which also runs on the CPU.
found=""
for so in /usr/lib/*/libvulkan.so.1 /usr/lib/libvulkan.so.1 /usr/lib64/libvulkan.so.1 /usr/local/lib/libvulkan.so.1; do
  if [ -e "$so" ]; then found=yes; fi
done
[ -n "$found" ] || missing="$missing libvulkan1"
found="${VK_DRIVER_FILES:-${VK_ICD_FILENAMES:-}}"
for icd in /usr/share/vulkan/icd.d/*.json /etc/vulkan/icd.d/*.json /usr/local/share/vulkan/icd.d/*.json; do
  if [ -e "$icd" ]; then found=yes; fi
done
[ -n "$found" ] || missing="$missing mesa-vulkan-drivers"
[ -n "$missing" ] || exit 0

if command -v apt-get >/dev/null 2>&1; then
  sudo=""
  if [ "$(id -u)" != 0 ]; then
    if ! command -v sudo >/dev/null 2>&1; then
      say "missing:$missing"
      say "installing them needs root, and there is no sudo. Have an administrator run this, then run make again:"
      say "  apt-get update && apt-get install -y$missing"
      exit 1
    fi
    sudo="sudo"
  fi
  say "installing$missing"
  # shellcheck disable=SC2086
  if ! { $sudo apt-get update -qq && $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $missing >/dev/null; }; then
    say "installation failed. To install them by hand, as root: apt-get update && apt-get install -y$missing"
    exit 1
  fi
else
  say "missing (Debian package names):$missing"
  say "Fedora: dnf install gcc vulkan-loader mesa-vulkan-drivers; Arch: pacman -S gcc vulkan-icd-loader vulkan-swrast"
  exit 1
fi
