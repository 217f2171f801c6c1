# Dougong. 'make help' lists what there is to make.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
# Packages are installed before anything looks for what they bring.
.NOTPARALLEL:
MAKEFLAGS += --no-builtin-rules

include versions.mk

GO ?= go
VERSION ?= $(shell git describe --tags --always 2>/dev/null || echo unknown)
PREFIX ?= /usr/local
DESTDIR ?=
# An image to run, and a command in it; see 'run'.
IMAGE ?=
CMD ?=

BUILD := _build
BIN := $(BUILD)/bin
TOOLS := $(BUILD)/tools
TAGS := -tags no_grpc
LDFLAGS := -s -w -X dougong.dev/dougong/internal/version.version=$(VERSION)
GOBUILD := CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=false $(TAGS) -ldflags "$(LDFLAGS)"
BINARIES := dougong containerd-shim-dougong-v2 dougong-agent
SOURCES := go.mod go.sum versions.mk Makefile $(shell find api cmd internal -name '*.go' -not -name '*_test.go' -not -path '*/testdata/*')

# Packages whose work is done by many goroutines: tested with -race too.
RACE := qmp transport record engine handover standin shim sandbox template containerlog volume
RACE_PACKAGES := ./internal/pool/... $(patsubst %,./internal/%,$(filter $(RACE),$(notdir $(wildcard internal/*))))

# Where tests in VMs find the binaries.
export DOUGONG_BIN := $(abspath $(BIN))

.DEFAULT_GOAL := help

##@ Use

.PHONY: help
help: ## Show this help
	@awk 'BEGIN { FS = ":.*## " } /^##@ / { printf "\n%s\n", substr($$0, 5) } \
		/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
	@printf '\nVariables: IMAGE, CMD (run), PREFIX, DESTDIR (install), PACKAGES, FUZZTIME (test, fuzz), RUNS, CLONES, ONLY, CHART (bench)\n'

.PHONY: run
run: setup-run build guest ## Run a container in a VM: make run [IMAGE=docker://…] [CMD='…']
	@if [ -z "$(IMAGE)" ]; then $(MAKE) -s $(BUILD)/busybox/index.json; fi
	@echo "on the host: $$(uname -sr)"
	@$(if $(CMD),,printf 'in the VM:   ' &&) $(BIN)/dougong run --rm $(or $(IMAGE),oci:$(BUILD)/busybox:latest) $(or $(CMD),uname -sr)

##@ Build

.PHONY: build
build: $(BIN)/.built ## Build the binaries into _build/bin

$(BIN)/.built: $(SOURCES) $(BUILD)/version
	@mkdir -p $(BIN)
	$(GOBUILD) -o $(BIN)/ $(addprefix ./cmd/,$(BINARIES))
	@touch $@

# The version is written only when it changes, so that nothing is built for
# the sake of its date.
.PHONY: FORCE
FORCE:
$(BUILD)/version: FORCE
	@mkdir -p $(BUILD)
	@[ "$$(cat $@ 2>/dev/null)" = "$(VERSION)" ] || echo "$(VERSION)" > $@

.PHONY: guest
guest: setup-run build ## Build the guest image: kernel and initramfs of the VMs
	@scripts/guest.sh $(BUILD)

.PHONY: kernel
kernel: setup-kernel ## Build the trimmed guest kernel, which 'make guest' then takes (minutes)
	@scripts/build-kernel.sh $(BUILD)/kernel-trimmed

# A small image to try things with, made of Debian's busybox-static.
$(BUILD)/busybox/index.json: $(wildcard hack/busybox-image/*.go) /bin/busybox
	@rm -rf $(BUILD)/busybox
	CGO_ENABLED=0 $(GO) run $(TAGS) ./hack/busybox-image $(BUILD)/busybox

.PHONY: busybox
busybox: setup-run $(BUILD)/busybox/index.json ## Build a small OCI image of busybox in _build/busybox

.PHONY: install
install: build ## Install binaries, manual pages and completions (PREFIX, DESTDIR)
	@PREFIX="$(PREFIX)" DESTDIR="$(DESTDIR)" scripts/install.sh $(BIN)

.PHONY: uninstall
uninstall: ## Remove what install has installed; data and configuration stay
	@PREFIX="$(PREFIX)" DESTDIR="$(DESTDIR)" scripts/install.sh --remove

.PHONY: clean
clean: ## Remove _build
	rm -rf $(BUILD)

##@ Test

PACKAGES ?= ./...
GOTEST := $(GO) test $(TAGS)

.PHONY: test
test: setup-test build guest busybox ## Run every test, those that boot VMs too
	@rm -rf $(BUILD)/log; status=0; \
	for part in test-unit test-race test-site-quick test-vm test-oci test-containerd-smoke; do $(MAKE) --no-print-directory $$part || status=1; done; \
	scripts/summary.sh $(BUILD) && exit $$status

.PHONY: test-unit
test-unit: setup-test build ## Run the tests of all packages: make test-unit [PACKAGES=./internal/qmp]
	@mkdir -p $(BUILD)/log
	$(GOTEST) -timeout 20m $(TESTFLAGS) $$($(GO) list $(TAGS) $(PACKAGES) | grep -v /test/) 2>&1 | tee $(BUILD)/log/test-unit.log

.PHONY: test-race
test-race: setup-test ## Run the tests of concurrent packages with the race detector
	@mkdir -p $(BUILD)/log
	scripts/test-race.sh no_grpc $(RACE_PACKAGES) 2>&1 | tee $(BUILD)/log/test-race.log

# One package at a time: VMs are measured against deadlines.
.PHONY: test-vm
test-vm: setup-test build guest busybox ## Run the tests that use the built product, in VMs
	@mkdir -p $(BUILD)/log
	$(GO) -C test test $(TAGS) -count=1 -p 1 -timeout 25m $(TESTFLAGS) ./vm/... 2>&1 | tee $(BUILD)/log/test-vm.log

.PHONY: test-containerd
test-containerd: setup-test build guest ## Run the tests of the shim under Debian's and the newest containerd
	@mkdir -p $(BUILD)/log
	@scripts/containerd.sh $(BUILD)/containerd $(CONTAINERD) $(NERDCTL)
	DOUGONG_CONTAINERD=$(abspath $(BUILD)/containerd) $(GO) -C test test $(TAGS) -count=1 -timeout $(if $(DOUGONG_LONG),90m,25m) $(TESTFLAGS) ./containerd 2>&1 | tee $(BUILD)/log/test-containerd.log

# What every change runs; 'make test-containerd' takes longer, with other clients.
SMOKE := ^Test(Run|Input|Task|ExecsEndFirst|Terminal|Attach|Snapshotters|KilledProcesses|NetworkNamespace|ForwardedPorts)$$
.PHONY: test-containerd-smoke
test-containerd-smoke: setup-test build guest ## Run a few of them
	@mkdir -p $(BUILD)/log
	@scripts/containerd.sh $(BUILD)/containerd $(CONTAINERD)
	DOUGONG_CONTAINERD=$(abspath $(BUILD)/containerd) $(GO) -C test test $(TAGS) -count=1 -timeout 15m $(TESTFLAGS) -run '$(SMOKE)' ./containerd 2>&1 | tee $(BUILD)/log/test-containerd-smoke.log

# A part of the suite: make test-cri FOCUS='PodSandbox'
FOCUS ?=
.PHONY: test-cri
test-cri: setup-cri build guest ## Run the CRI validation suite under the newest containerd
	@mkdir -p $(BUILD)/log
	@scripts/containerd.sh $(BUILD)/containerd $(CONTAINERD)
	DOUGONG_CONTAINERD=$(abspath $(BUILD)/containerd/$(CONTAINERD)) DOUGONG_CRITEST=$(abspath $(BUILD)/critest) DOUGONG_CRITEST_VERSION=$(CRITEST) DOUGONG_CRITEST_FOCUS='$(FOCUS)' \
		$(GO) -C test test $(TAGS) -count=1 -timeout 60m -v $(TESTFLAGS) ./critest 2>&1 | tee $(BUILD)/log/test-cri.log

.PHONY: test-podman
test-podman: setup-podman build guest ## Run tests of Podman with the OCI runtime, in VMs
	@mkdir -p $(BUILD)/log
	$(GO) -C test test $(TAGS) -count=1 -timeout 25m $(TESTFLAGS) ./podman 2>&1 | tee $(BUILD)/log/test-podman.log

# The distribution's Docker takes the OCI runtime, the newest one the shim.
.PHONY: test-docker
test-docker: setup-docker build guest $(TOOLS)/dockerd ## Run tests of Debian's and the newest Docker, in VMs
	@mkdir -p $(BUILD)/log
	@scripts/containerd.sh $(BUILD)/containerd $(CONTAINERD)
	status=0; \
	$(GO) -C test test $(TAGS) -count=1 -timeout 25m $(TESTFLAGS) ./docker 2>&1 | tee $(BUILD)/log/test-docker.log || status=1; \
	DOUGONG_DOCKERD=$(abspath $(TOOLS)/dockerd) DOUGONG_CONTAINERD=$(abspath $(BUILD)/containerd/$(CONTAINERD)) \
		$(GO) -C test test $(TAGS) -count=1 -timeout 25m $(TESTFLAGS) ./docker 2>&1 | tee $(BUILD)/log/test-docker-newest.log || status=1; \
	exit $$status

.PHONY: test-crio
test-crio: setup-crio build guest ## Run tests of CRI-O with the OCI runtime and with the shim, in VMs
	@mkdir -p $(BUILD)/log
	@scripts/crio.sh $(BUILD)/crio $(CRIO) $(CRITEST)
	DOUGONG_CRIO=$(abspath $(BUILD)/crio) $(GO) -C test test $(TAGS) -count=1 -timeout 25m $(TESTFLAGS) ./crio 2>&1 | tee $(BUILD)/log/test-crio.log

.PHONY: test-oci
test-oci: setup-test build guest ## Run the tests of the OCI runtime's commands, in VMs
	@mkdir -p $(BUILD)/log
	$(GO) -C test test $(TAGS) -count=1 -timeout 25m $(TESTFLAGS) ./oci 2>&1 | tee $(BUILD)/log/test-oci.log

.PHONY: test-oci-validation
test-oci-validation: setup-test build guest ## Run the validation programs of OCI's runtime-tools with it
	@mkdir -p $(BUILD)/log
	@scripts/validation.sh $(BUILD)/validation $(RUNTIME_TOOLS)
	DOUGONG_VALIDATION=$(abspath $(BUILD)/validation) $(GO) -C test test $(TAGS) -count=1 -timeout 60m -v -run '^TestValidation$$' $(TESTFLAGS) ./oci 2>&1 | tee $(BUILD)/log/test-oci-validation.log

FUZZTIME ?= 20s
.PHONY: fuzz
fuzz: ## Fuzz every parser for FUZZTIME each
	@grep -rl --include='*_test.go' '^func Fuzz' internal cmd | xargs -n 1 dirname | sort -u | while read -r dir; do \
		grep -rhoE --include='*_test.go' '^func Fuzz[A-Za-z0-9_]+' "$$dir" | sed 's/func //' | while read -r name; do \
			$(GOTEST) -run '^$$' -fuzz "^$$name\$$" -fuzztime $(FUZZTIME) "./$$dir"; \
		done; \
	done

# How often everything is measured, how many clones are started beside each
# other, what is measured (all, or some of starts, oci, containerd, network,
# throughput and clones, with commas), and where the chart goes: docs/bench.svg is the one in
# the README.
RUNS ?= 20
CLONES ?= 50
ONLY ?=
CHART ?= $(BUILD)/bench.svg
.PHONY: bench
bench: setup-bench build guest busybox ## Measure against the floor and other runtimes; writes _build/bench.json and .svg
	@scripts/containerd.sh $(BUILD)/containerd $(CONTAINERD)
	@scripts/critest.sh $(BUILD)/containerd/$(CONTAINERD) $(CRITEST)
	$(BIN)/dougong bench --image oci:$(BUILD)/busybox:latest --containerd $(abspath $(BUILD)/containerd/$(CONTAINERD)) --only "$(ONLY)" --runs $(RUNS) --clones $(CLONES) --json $(BUILD)/bench.json --chart $(CHART)

.PHONY: bench-timeline
bench-timeline: setup-bench build guest busybox ## Show where the time of a cold start and of a clone goes
	$(BIN)/dougong bench --image oci:$(BUILD)/busybox:latest --runs $(RUNS) --timeline

##@ Develop

.PHONY: lint
lint: setup-lint ## Check style and mistakes
	scripts/lint.sh $(TOOLS) $(GOLANGCI_LINT)

.PHONY: format
format: $(TOOLS)/gofumpt ## Format all Go code
	$(TOOLS)/gofumpt -w api cmd internal hack

.PHONY: proto
proto: $(TOOLS)/buf $(TOOLS)/protoc-gen-go $(TOOLS)/protoc-gen-go-ttrpc ## Generate code from api/*.proto
	PATH="$(abspath $(TOOLS)):$$PATH" $(TOOLS)/buf lint
	PATH="$(abspath $(TOOLS)):$$PATH" $(TOOLS)/buf generate

.PHONY: docs
docs: build ## Write generated documentation: docs/*.md from code, manual pages in _build/man
	$(GO) generate ./internal/config
	$(GOTEST) ./internal/oci -update
	@mkdir -p $(BUILD)/man
	$(BIN)/dougong man $(BUILD)/man

##@ Site

# Where the repository and the site can be found, once they can; and where
# site-serve listens.
export SITE_REPOSITORY ?=
export SITE_URL ?=
export SITE_ADDRESS ?= 127.0.0.1:1313

.PHONY: site
site: build $(TOOLS)/hugo ## Build the site of docs/ and site/ into _build/site
	@scripts/site.sh $(BUILD) $(abspath $(TOOLS))/hugo $(BIN)/dougong

.PHONY: site-serve
site-serve: build $(TOOLS)/hugo ## Show the site on loopback, and again after each change (SITE_ADDRESS)
	@scripts/site.sh $(BUILD) $(abspath $(TOOLS))/hugo $(BIN)/dougong serve

# Links, anchors, HTML, the feed, and the guides' command blocks, without a browser.
.PHONY: test-site-quick
test-site-quick: setup-site-quick site $(BUILD)/site-node/.installed ## Check the site's links, HTML, feed and guides
	@mkdir -p $(BUILD)/log
	DOUGONG_SITE=$(abspath $(BUILD)/site) DOUGONG_SITE_NODE=$(abspath $(BUILD)/site-node) $(GO) -C test test $(TAGS) -count=1 $(TESTFLAGS) ./site 2>&1 | tee $(BUILD)/log/test-site-quick.log

.PHONY: test-site
test-site: setup-site site $(BUILD)/site-node/.installed ## Check that, and open each page in Chromium; pictures in _build/site-pictures
	@mkdir -p $(BUILD)/log
	DOUGONG_SITE=$(abspath $(BUILD)/site) DOUGONG_SITE_NODE=$(abspath $(BUILD)/site-node) DOUGONG_SITE_PICTURES=$(abspath $(BUILD)/site-pictures) \
		$(GO) -C test test $(TAGS) -count=1 -p 1 -timeout 40m $(TESTFLAGS) ./site/... 2>&1 | tee $(BUILD)/log/test-site.log

# Checkers of HTML and accessibility, at the versions of the lock file.
$(BUILD)/site-node/.installed: test/site/package.json test/site/package-lock.json
	@mkdir -p $(@D) && cp test/site/package.json test/site/package-lock.json $(@D)/
	npm ci --prefix $(@D) --no-audit --no-fund --ignore-scripts
	@touch $@

# Tools are installed once for each pinned version.
$(TOOLS)/hugo: versions.mk
	@CGO_ENABLED=0 scripts/tool.sh $(HUGO) $@
$(TOOLS)/gofumpt: versions.mk
	@scripts/tool.sh $(GOFUMPT) $@
$(TOOLS)/dockerd: versions.mk
	@CGO_ENABLED=0 scripts/tool.sh $(DOCKERD) $@
$(TOOLS)/buf: versions.mk
	@scripts/tool.sh $(BUF) $@
$(TOOLS)/protoc-gen-go: versions.mk
	@scripts/tool.sh $(PROTOC_GEN_GO) $@
$(TOOLS)/protoc-gen-go-ttrpc: versions.mk
	@scripts/tool.sh $(PROTOC_GEN_GO_TTRPC) $@

# Packages of the distribution; nothing happens when they are installed.
.PHONY: setup-run setup-test setup-cri setup-crio setup-podman setup-docker setup-lint setup-bench setup-kernel setup-site setup-site-quick
setup-run setup-test setup-cri setup-crio setup-podman setup-docker setup-lint setup-bench setup-kernel setup-site setup-site-quick: setup-%:
	@scripts/setup.sh $*
