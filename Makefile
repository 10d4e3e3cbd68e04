# On a new machine, `make chat` and `make test` install, build and run everything needed.

# Mesa's drivers print errors if a session has no runtime folder.
export XDG_RUNTIME_DIR ?= /tmp

.PHONY: chat test quick test-coop test-windows test-web clients package drivers setup setup-test build c node web check deny report fuzz

## chat: chat with the small model that ships with the project
chat: build
	./target/release/peregrine chat

## test: run all tests, on the GPU if there is one, else on Mesa's software driver
test: setup-test
	@echo "test: compiles for about 12 minutes on 2 cores the first time, then tests for about 25 on a software driver"
	tests/run.sh

## quick: unit tests, layers, file formats and chat templates, for use while you work
quick: setup-test
	cargo test --lib --test layering --test formats --test jinja

# Matrices of 16, which GPUs have by Vulkan, take both tests; those of 8 take the one of every format.
## test-coop: test cooperative matrices of both sizes, side by side, on Mesa's newest software driver; needs root
test-coop: setup-test drivers
	@kernels=$$(cargo test --test kernels --no-run --message-format=json | sed -n 's|.*"executable":"\([^"]*/kernels-[^"]*\)".*|\1|p') \
	  && cp "$$kernels" target/drivers/sid/kernels
	@pids=; trap 'kill $$pids 2>/dev/null; exit 1' INT TERM; for size in 8 16; do \
	  [ $$size = 8 ] && more= || more=any_number_of_tokens; \
	  PEREGRINE_NEED_COOP=1 PEREGRINE_COOP_SIZE=$$size \
	    chroot target/drivers/sid /kernels --nocapture cooperative_matrices $$more >target/drivers/coop-$$size 2>&1 & \
	  pids="$$pids $$!"; \
	done; \
	failed=; for pid in $$pids; do wait $$pid || failed=1; done; \
	cat target/drivers/coop-8 target/drivers/coop-16; [ -z "$$failed" ]

## drivers: install a software driver with cooperative matrices, for test-coop
drivers:
	@./setup.sh drivers

## test-windows: cross-compile to Windows and test under Wine; needs root and rustup
test-windows: setup
	@./setup.sh windows
	tests/windows.sh

## test-web: test the page of examples/web in headless Chromium, beside the program of this system; needs root, rustup and the network
test-web: web
	@./setup.sh browser
	@cargo clippy --quiet -p peregrine-web --target wasm32-unknown-unknown -- -D warnings
	@cargo build --quiet
	tests/web.sh

## package: make the archive of a release for this system, in target/package; needs root to try it in a clean Debian
package: setup
	packaging/package.sh --try

## check: formatting, lints and documentation
check:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	cargo clippy --lib --no-default-features -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --quiet

## clients: run programs that use OpenAI's API against the server (CLIENTS=names of some); needs python3, npm and the network
clients: setup
	@cargo build --release --quiet --features s3
	tests/clients/run.sh $(CLIENTS)

## deny: check licenses, sources, versions and advisories of the dependencies by deny.toml; needs cargo-deny. NEED_ADVISORIES=1 fails
## without the network; else the rest is checked
deny:
	cargo deny --log-level error check bans licenses sources
	@if cargo deny --log-level off fetch db; then \
	  cargo deny --log-level error check --disable-fetch advisories; \
	else \
	  echo "deny: the advisory database cannot be fetched: known vulnerabilities were not checked" >&2; \
	  [ -z "$(NEED_ADVISORIES)" ]; \
	fi

## build: build target/release/peregrine
build: setup
	@[ -e target/release/peregrine ] || echo "build: compiles some 300 crates, several minutes on 2 cores, once"
	@cargo build --release --quiet

## c: build the C interface, and put header and libraries into target/c (PREFIX=another folder, such as /usr/local)
PREFIX ?= target/c
c: setup
	@cargo build --release --quiet -p peregrine-c
	@mkdir -p $(PREFIX)/include $(PREFIX)/lib/pkgconfig
	@cp bindings/c/include/peregrine.h $(PREFIX)/include
	@cp bindings/c/peregrine.pc $(PREFIX)/lib/pkgconfig
	@for end in a so dylib; do \
	  built=target/release/libperegrine_c.$$end; [ ! -e $$built ] || cp $$built $(PREFIX)/lib/libperegrine.$$end || exit 1; \
	done
	@ls -l $(PREFIX)/include/peregrine.h $(PREFIX)/lib/libperegrine.*

## node: build the Node package, into target/node/peregrine; needs node
node: setup
	@cargo build --release --quiet -p peregrine-node
	@for built in target/release/libperegrine_node.so target/release/libperegrine_node.dylib; do \
	  [ ! -e $$built ] || node bindings/node/pack.js $$built target/node || exit 1; \
	done
	@ls -l target/node/peregrine/*.node

## web: build the module for browsers and a page that chats, in target/web/site; needs rustup. Any web server serves the folder
web: setup
	@./setup.sh web
	@cargo build --profile web --quiet -p peregrine-web --target wasm32-unknown-unknown
	@packaging/web.sh

## fuzz: fuzz the file parsers (FUZZ=a folder of fuzz/corpus, RUNS=1000000); needs cargo-fuzz and a nightly compiler
FUZZ ?= config generation gguf index request safetensors state template tokenizer
RUNS ?= 1000000
# Files have at most 64 KiB and must not take 512 MB: this finds parsers that trust a length in a file.
fuzz:
	@for target in $(FUZZ); do \
	  cargo +nightly fuzz run $$target fuzz/corpus/$$target -- \
	    -runs=$(RUNS) -max_len=65536 -rss_limit_mb=512 -malloc_limit_mb=64 -timeout=10 -print_final_stats=1 || exit 1; \
	done

## report: print the numerical errors that the tests reach on this machine's adapter, as a markdown table
report: setup
	@echo "| what | driver | reached |"; echo "|---|---|---|"
	@PEREGRINE_LONG=1 cargo test --quiet --test model --test accuracy -- --nocapture 2>&1 | grep -a '^reached' | sed 's/^reached/|/; s/$$/ |/' | sort

## setup: install a missing compiler and Vulkan driver
setup:
	@./setup.sh

## setup-test: install what tests need as well
setup-test:
	@./setup.sh test
