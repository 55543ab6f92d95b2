# The front door. `make` alone says what there is; each target is a line or two of cargo.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

CARGO ?= cargo
PREFIX ?= /usr/local
DESTDIR ?=
TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)

# What `make check` needs and the machine does not have is built here, and only here.
TOOLS := $(abspath $(TARGET_DIR))/tools
CARGO_DENY_VERSION := 0.20.2
export PATH := $(PATH):$(TOOLS)/bin

.PHONY: help deps build demo test test-6.1 soak check schema screenshots bench install clean

help: ## print this
	@sed -n 's/^\([a-z0-9.-]*\):.*## \(.*\)/  make \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 20

deps: ## install what building and testing need, if it is missing (Debian, root)
	@.ci/deps

build: deps ## build netd for use: target/release/netd
	$(CARGO) build --locked --release -p netd

# Unoptimised code is enough to be convinced and is there sooner.
demo: deps ## build netd, then show it: traffic, a live edit, a drain, a kill (root, under two minutes)
	$(CARGO) build --locked -p netd --bin netd
	$(TARGET_DIR)/debug/netd demo

test: deps ## all tests; those against the kernel need root, and make namespaces of their own
	@[ "$$(id -u)" = 0 ] || echo "netd: not root: the tests against the kernel will be skipped"
	@# Examples measure; that they compile is for `make check`.
	{ $(CARGO) test --locked --workspace --no-fail-fast --lib --bins --tests; $(CARGO) test --locked --workspace --doc; } 2>&1 | .ci/count
	@integration/linux-6.1/core

test-6.1: deps ## all tests of kernel programs and of WireGuard on Linux 6.1, in an emulator (Debian, downloads its kernel; long)
	integration/linux-6.1/core
	integration/linux-6.1/wireguard
	integration/linux-6.1/test

# Tests that have a long form, by the beginnings of their names.
LONG := c1_ p3_ p9_ random:: established_connections

soak: deps ## the long tests in full: millions of cut files, 100,000 kills, 10^9 frames, 180 power cuts (root; many hours)
	NETD_LONG=1 $(CARGO) test --locked --no-fail-fast -p netd-schema -p netd-state -p netd-bpf -p netd-integration-tests \
		--test hostile --test kill --test damage --test kernel --test consistency -- --nocapture $(LONG)
	integration/linux-6.1/power-cuts 180

check: deps ## format, lints, documentation, licences, generated files
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --workspace --no-deps
	$(CARGO) deny --version >/dev/null 2>&1 || $(CARGO) install --quiet --locked --root $(TOOLS) --target-dir $(TOOLS)/build cargo-deny@$(CARGO_DENY_VERSION)
	$(CARGO) deny --locked --log-level error check bans licenses sources
	$(CARGO) test --locked -p netd-schema --test generated

schema: ## write the generated files again: the JSON Schema and the reference page
	NETD_BLESS=1 $(CARGO) test --locked -p netd-schema --test generated

screenshots: deps ## draw the pictures of the documentation again, from what netd prints (root)
	$(CARGO) build --locked -p netd --bin netd
	docs/images/make $(TARGET_DIR)/debug/netd

# What is measured, as CRATE/EXAMPLE; each says in its first lines what it measures.
BENCHES := netd-schema/measure netd-bpf/ns_per_packet netd/bench_maglev netd-kubernetes/bench_kubernetes \
	$(patsubst integration/tests/examples/%.rs,netd-integration-tests/%,$(wildcard integration/tests/examples/bench_*.rs))

bench: build ## measure; medians, and ratios within one run (root, some minutes)
	@for bench in $(BENCHES); do \
		echo "== $$bench"; \
		$(CARGO) run --locked --quiet --release -p $${bench%/*} --example $${bench#*/}; \
	done

install: build ## install netd below $(DESTDIR)$(PREFIX)
	install -D -m 0755 $(TARGET_DIR)/release/netd $(DESTDIR)$(PREFIX)/sbin/netd

clean: ## remove what was built
	$(CARGO) clean
