#!/bin/sh
# Installs the packages missing to build peregrine and to run it without a GPU; prints what to do if it cannot.
# `setup.sh test` also installs what tests need: a C++ compiler, Python and NumPy, Node.
# `setup.sh drivers` installs a driver that runs cooperative matrices on the CPU, in target/drivers/sid. No released distribution
# has one yet, so this is a small Debian sid for use with chroot.
# `setup.sh web` installs what builds the module for browsers, and `setup.sh browser` what tests it: Chromium, and Playwright to drive it.
# `setup.sh windows` installs what cross-compiles to Windows, and Wine in that sid.
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

# Rust's library for Windows, the linker and import libraries of MinGW, Wine 10, and Microsoft's shader compiler: the one for DX12 that
# is part of Windows, from a Python package that distributes it.
windows() {
  drivers
  if [ -e target/windows/complete ]; then return; fi
  say "fetching MinGW, Wine and Microsoft's shader compiler (1.5 GB, some minutes)"
  mkdir -p target/windows
  if ! {
    rustup target add x86_64-pc-windows-gnu \
      && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends gcc-mingw-w64-x86-64 g++-mingw-w64-x86-64 unzip \
      && chroot "$root" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends wine wine64 xvfb xauth \
      && python3 -m pip download --quiet --no-deps --platform win_amd64 --only-binary=:all: -d target/windows kivy_deps.angle==0.5.0 \
      && unzip -o -j target/windows/kivy_deps_angle-*.whl '*/d3dcompiler_47.dll' -d target/windows
  } >target/windows/log 2>&1; then
    tail -n 20 target/windows/log >&2
    say "that failed; its output is in target/windows/log"
    exit 1
  fi
  touch target/windows/complete
}

# Rust's library for WebAssembly, and the program that writes its JavaScript: of the version in Cargo.lock, which it must have.
web() {
  command -v rustup >/dev/null 2>&1 || { say "rustup is missing: it installs Rust's library for WebAssembly"; exit 1; }
  rustup target add wasm32-unknown-unknown >/dev/null 2>&1
  version=$(sed -n '/^name = "wasm-bindgen"$/{n;s/version = "\(.*\)"/\1/p;}' Cargo.lock)
  tool=target/web/tools/bin/wasm-bindgen
  if [ "$($tool --version 2>/dev/null)" = "wasm-bindgen $version" ]; then return; fi
  say "building wasm-bindgen $version (some minutes, once)"
  CARGO_TARGET_DIR=target/web/build cargo install --quiet wasm-bindgen-cli --version "$version" --root target/web/tools
  rm -rf target/web/build
}

browser() {
  if ! { command -v chromium && command -v npm; } >/dev/null 2>&1; then
    say "installing Chromium and npm"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium npm >/dev/null
  fi
  npm install --prefix target/web/node --silent --no-fund --no-audit playwright-core@1.65
}

case "${1:-}" in
  drivers | windows | web | browser)
    cd "$(dirname "$0")"
    "$1"
    exit 0
    ;;
esac

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
if [ "${1:-}" = test ]; then
  command -v c++ >/dev/null 2>&1 || missing="$missing g++"
  # A Python of the user's own comes first on the path, and packages are installed for the system's: either will do.
  python="missing"
  for candidate in python3 "${SYSTEM_PYTHON:-/usr/bin/python3}"; do
    if "$candidate" -c 'import numpy, sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then python="found"; fi
  done
  [ "$python" = found ] || missing="$missing python3 python3-numpy"
  # The same for Node.
  node="missing"
  for candidate in node "${SYSTEM_NODE:-/usr/bin/node}"; do
    if "$candidate" -e 'process.exit(Number(process.versions.node.split(".")[0] < 18))' >/dev/null 2>&1; then node="found"; fi
  done
  [ "$node" = found ] || missing="$missing nodejs"
fi
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
