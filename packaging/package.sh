#!/usr/bin/env bash
# Makes the archive of a release for this system in target/package: the program, man pages, shell completions, licenses. With --try it
# then unpacks the archive in a clean Debian (`setup.sh drivers` makes one; root) and runs the program there.
set -euo pipefail
cd "$(dirname "$0")/.."
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
grep -q "^## \[\?$version\|^## Unreleased" CHANGELOG.md || { echo "package: CHANGELOG.md has no entry for $version" >&2; exit 1; }
system=$(rustc -vV | sed -n 's/^host: //p')
name=peregrine-$version-$system
program=target/release/peregrine

cargo build --release --quiet --locked
rm -rf "target/package/$name"
mkdir -p "target/package/$name/man/man1" "target/package/$name/completions"
place=target/package/$name
cp "$program" README.md CHANGELOG.md LICENSE-MIT LICENSE-APACHE "$place/"
strip "$place/peregrine"
"$program" man >"$place/man/man1/peregrine.1"
for command in $("$program" --help | sed -n '/^Commands:/,/^$/s/^  \([a-z]*\) .*/\1/p'); do
  [ "$command" = help ] || "$program" man "$command" >"$place/man/man1/peregrine-$command.1"
done
for shell in bash zsh fish powershell elvish; do "$program" completions "$shell" >"$place/completions/peregrine.$shell"; done
tar -C target/package -czf "target/package/$name.tar.gz" "$name"
(cd target/package && sha256sum "$name.tar.gz" >"$name.tar.gz.sha256")
ls -l "target/package/$name.tar.gz" | awk '{ print "package: " $NF ", " int($5 / 1000) / 1000 " MB" }'

[ "${1:-}" = --try ] || exit 0
./setup.sh drivers
sid=target/drivers/sid
rm -rf "$sid/opt/peregrine"
mkdir -p "$sid/opt/peregrine"
tar -C "$sid/opt/peregrine" --strip-components 1 -xzf "target/package/$name.tar.gz"
inside() { chroot "$sid" env -i PATH=/usr/bin:/bin HOME=/root XDG_RUNTIME_DIR=/tmp /opt/peregrine/peregrine "$@"; }
inside --version
start=$(date +%s%N)
inside run -p "Once upon a time" -n 24 --temp 0
echo "package: from start to the end of 24 tokens: $((($(date +%s%N) - start) / 1000000)) ms"
