#!/usr/bin/env bash
# The program and tests for Windows, cross-compiled, under Wine with Mesa's software driver for Vulkan. Needs root: Wine
# runs in target/drivers/sid, with this folder mounted there. `make test-windows` installs all of it. TESTS=names of some test programs.
# DX12=1 adds an answer by DX12, which fails so far: reports/windows-wine-10.md says why.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ -z "${INSIDE:-}" ]; then exec env INSIDE=1 unshare --mount "$0" "$@"; fi

here=$PWD sid=${SID:-$PWD/target/drivers/sid} out=$PWD/target/windows target=x86_64-pc-windows-gnu
read -r -a tests <<<"${TESTS:-text formats snapshot batch quantize}"
built=$(cargo test --quiet --target "$target" --no-run --lib --bin peregrine "${tests[@]/#/--test=}" --message-format=json \
  | sed -n 's|.*"executable":"\([^"]*\.exe\)".*|\1|p')
exe=target/$target/debug/peregrine.exe
# The program for this system.
native=${PEREGRINE:-}
[ -n "$native" ] || { cargo build --quiet && native=target/debug/peregrine; }

mkdir -p "$sid$here"
mount --bind "$here" "$sid$here"
mount -t proc proc "$sid/proc"
# Runs a program under Wine.
wine() {
  chroot "$sid" env -i -C "$here" PATH=/usr/bin:/bin HOME=/root WINEDEBUG=-all DISPLAY=:7 XDG_RUNTIME_DIR=/tmp RUST_BACKTRACE=0 \
    VK_DRIVER_FILES=/usr/share/vulkan/icd.d/lvp_icd.json CARGO_MANIFEST_DIR="$here" ${with:-WGPU_BACKEND=vulkan} wine "$@"
}
chroot "$sid" Xvfb :7 -screen 0 640x480x24 >/dev/null 2>&1 &
trap 'kill %1; chroot "$sid" env -i HOME=/root PATH=/usr/bin:/bin wineboot -k 2>/dev/null || true' EXIT

step() { echo; echo "## $*"; }
fail() { echo "FAILED: $*"; exit 1; }
place="$out/a folder with spaces"
rm -rf "$place"
mkdir -p "$place"

step "devices"
wine "$exe" devices | tr -d '\r' | sed -n 1,12p

step "an answer, the same as on this system"
ask=(run -p "Once upon a time" -n 24 --temp 0)
wine "$exe" "${ask[@]}" 2>/dev/null | tr -d '\r' >"$out/vulkan.txt"
"$native" "${ask[@]}" 2>/dev/null >"$out/here.txt"
cat "$out/vulkan.txt"
cmp "$out/vulkan.txt" "$out/here.txt" || fail "the answers differ"

step "chat through a pipe with CRLF, a state in a folder with spaces that this system reads"
printf 'Hello!\r\n/save a folder\\state one.state\r\n/quit\r\n' | sed "s|a folder|${place#"$here/"}|; s|target/windows|target\\\\windows|" \
  | wine "$exe" chat --temp 0 -n 16 2>/dev/null | tr -d '\r'
[ -s "$place/state one.state" ] || fail "no state was saved"
"$native" run --load-state "$place/state one.state" -cnv -p "What is 3 plus 4?" -n 12 --temp 0 2>/dev/null

step "quantize to a file and to a folder, and replace both"
for _ in 1 2; do
  wine "$exe" quantize -w q8_0 --force -o "${place#"$here/"}\\tiny q8.gguf" 2>&1 | tr -d '\r' | tail -n 1
  wine "$exe" quantize -w nf4 --force -o "${place#"$here/"}\\tiny nf4" 2>&1 | tr -d '\r' | tail -n 1
done
"$native" run -m "$place/tiny q8.gguf" "${ask[@]:1}" 2>/dev/null
"$native" run -m "$place/tiny nf4" "${ask[@]:1}" 2>/dev/null
left=$(find "$place" -name '.*' | wc -l)
[ "$left" = 0 ] || fail "$left temporary files are left over"

step "killed while it saves: the file is whole, and the next save leaves nothing behind"
for wait in 0.2 0.4 0.6 0.8 1.0 1.2 1.4 1.6 1.8 2.0; do
  { timeout -s KILL "$wait" chroot "$sid" env -i -C "$here" PATH=/usr/bin:/bin HOME=/root WINEDEBUG=-all DISPLAY=:7 \
    wine "$exe" quantize -w q8_0 --force -o "${place#"$here/"}\\tiny q8.gguf" || true; } >/dev/null 2>&1
  "$native" inspect -m "$place/tiny q8.gguf" >/dev/null 2>&1 || fail "a torn file after $wait s"
done
chroot "$sid" env -i HOME=/root PATH=/usr/bin:/bin wineboot -k || true
wine "$exe" quantize -w q8_0 --force -o "${place#"$here/"}\\tiny q8.gguf" >/dev/null 2>&1
left=$(find "$place" -name '.*' | wc -l)
[ "$left" = 0 ] || fail "$left temporary files are left over"
echo "10 kills, each file whole"

step "test programs"
for program in $built; do
  case $program in */peregrine.exe) continue ;; esac
  name=$(basename "$program" .exe)
  wine "$program" 2>&1 | tr -d '\r' >"$out/$name.log" || { tail -n 30 "$out/$name.log"; fail "$name"; }
  echo "$name: $(grep -a '^test result' "$out/$name.log")"
done

[ -n "${DX12:-}" ] || exit 0
step "DX12, with the shader compiler that is part of Windows"
cp "$out/d3dcompiler_47.dll" "$(dirname "$exe")/"
start=$SECONDS
with="WGPU_BACKEND=dx12 WINEDLLOVERRIDES=d3dcompiler_47=n" wine "$exe" "${ask[@]}" 2>"$out/dx12.log" | tr -d '\r' >"$out/dx12.txt"
cat "$out/dx12.txt"
cmp "$out/dx12.txt" "$out/here.txt" || fail "DX12's answer differs"
echo "$((SECONDS - start)) s"
