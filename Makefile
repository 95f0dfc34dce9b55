# Everything that one does with a checkout. All of it may be called again at any time.

# The cluster for trying things; the tests and the demo have their own.
CLUSTER ?= dev
TOOLS = target/cluster/bin

# How long each parser is fuzzed.
SECONDS ?= 60

.PHONY: help demo test check fuzz bench build images cluster cluster-down cluster-programs deps clean

help:
	@echo 'make demo          shows a session on a real Kubernetes, step by step (KEEP=1 keeps the cluster)'
	@echo 'make test          runs every check and every test'
	@echo 'make check         runs formatters and linters only'
	@echo 'make fuzz          gives every parser of bytes from outside random ones, SECONDS=60 each'
	@echo 'make bench         compares kdev with the kernel, kubectl, sshuttle and nginx; BENCH=--quick for a glance'
	@echo 'make build         builds kdev, kdev-userd, kdev-rootd into target/release'
	@echo 'make images        builds target/images/traffic-manager.tar'
	@echo 'make cluster       brings the cluster "$(CLUSTER)" up, ready for kdev and for tests/e2e'
	@echo 'make cluster-down  removes it'
	@echo 'make clean         removes what was built; clusters must be down'

demo:
	tests/demo

test:
	tests/run

check:
	tests/run tools format lint

# What is found on the way stays in target/fuzz, apart from the seeds in fuzz/corpus.
fuzz:
	@cargo +nightly fuzz --version || { echo 'install it: rustup toolchain install nightly; cargo install cargo-fuzz --locked'; exit 1; }
	set -e; for target in $$(cargo +nightly fuzz list); do \
		mkdir -p target/fuzz/$$target; \
		cargo +nightly fuzz run $$target target/fuzz/$$target fuzz/corpus/$$target -- -max_len=4096 -max_total_time=$(SECONDS); \
	done

bench:
	tests/bench/run $(BENCH)

build:
	cargo build --release -p kdev -p kdev-userd -p kdev-rootd

images: deps
	packaging/images/build.sh

cluster-programs: deps
	tests/cluster/build.sh

cluster: build cluster-programs
	packaging/images/build.sh
	cargo test --release --workspace --test kubernetes --no-run
	tests/e2e/image.sh
	$(TOOLS)/kdev-cluster up --name $(CLUSTER)
	$(TOOLS)/kdev-cluster import --name $(CLUSTER) target/images/traffic-manager.tar
	@echo
	@echo 'The tests use it: KDEV_CLUSTER=$(CLUSTER) cargo test --release --workspace --test kubernetes -- --test-threads=1'
	@echo 'A shell on its laptop:'
	@echo '  $(TOOLS)/kdev-cluster lap --name $(CLUSTER) install target/release/kdev{,-userd,-rootd} /usr/local/bin/'
	@echo '  $(TOOLS)/kdev-cluster lap --name $(CLUSTER) --as dev bash'

cluster-down:
	$(TOOLS)/kdev-cluster down --name $(CLUSTER)

deps:
	tests/cluster/deps.sh

clean:
	@if ls /var/lib/kdev-cluster/*/cluster.json 2> /dev/null; then echo "clusters are up; take them down first (kdev-cluster down --name NAME)"; exit 1; fi
	rm -rf target
