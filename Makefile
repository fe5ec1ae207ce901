# Dominion. `make help` lists what there is.
#
# Needs Go and GNU make, nothing else: demo, test and build work without a
# HOME, as root and as a user, with a shell as small as dash. What other
# targets need beyond that is said at the target.

PREFIX     ?= /usr/local
SYSCONFDIR ?= /etc
DESTDIR    ?=

VERSION ?= $(shell sh build/version.sh)
# When the commit was made: a machine that starts in 1970 issues and verifies by it.
BUILD_DATE ?= $(shell git log -1 --format=%cI 2>/dev/null)
LDFLAGS = -s -w -X main.version=$(VERSION) -X github.com/jmbarzee/dominion/identity.buildDate=$(BUILD_DATE)

# Go from go.dev lands in /usr/local/go, which sudo's PATH leaves out; users
# have no sbin, where Debian keeps mosquitto and ip.
export PATH := $(PATH):/usr/local/go/bin:/usr/sbin:/sbin

# Go keeps its caches below HOME. Without one (containers, services) they go
# below the checkout; -modcacherw lets `make clean` remove them.
ifeq ($(shell [ -n "$$HOME" ] && [ -d "$$HOME" ] && [ -w "$$HOME" ] && echo usable),)
export GOPATH  ?= $(CURDIR)/.cache/go
export GOCACHE ?= $(CURDIR)/.cache/go-build
export XDG_CACHE_HOME ?= $(CURDIR)/.cache
GOFLAGS += -modcacherw
endif

# The version comes from build/version.sh; asking git a second time fails in a
# checkout that somebody else owns.
GOFLAGS += -buildvcs=false
export GOFLAGS

# The pure Go build: no C compiler, no libc, one file to copy.
GO_BUILD = CGO_ENABLED=0 go build -trimpath

PROGRAMS = dominion domain dominionctl

GOFUMPT     = mvdan.cc/gofumpt@v0.12.0
STATICCHECK = honnef.co/go/tools/cmd/staticcheck@v0.8.2

# Every Go file of ours; .cache holds other people's.
GO_FILES = find . -name '*.go' -not -path './.cache/*' -not -path './dist/*'

.PHONY: build demo test check e2e e2e-homeassistant soak simulate try-units bench bench-broker install uninstall help \
	format check-format check-vet check-lint check-imports check-race \
	check-fuzz check-docs check-cross docs sizes clean

build: ## build bin/dominion, bin/domain and bin/dominionctl (cross: make build GOARCH=arm64)
	$(GO_BUILD) -ldflags "$(LDFLAGS)" -o bin/ $(PROGRAMS:%=./cmd/%)

demo: say-build build ## run a hub, two domains and the examples on this machine and watch them
	@$(GO_BUILD) -o bin/demo ./demo
	@exec bin/demo

.PHONY: say-build
say-build:
	@echo "building the programs; the first time this takes a minute or two"

test: ## run every test
	go test ./...

check: check-format check-vet check-lint check-imports check-docs check-cross check-race check-fuzz ## the whole gate; the race detector needs a C compiler
	@echo "check: all is well"

# The tests wait more than they compute: four at once are within two cores.
e2e: build ## try the programs with real clients on several hosts (network namespaces: root; gets mosquitto and iproute2 from Debian)
	sh build/e2e-needs.sh
	DOMINION_E2E=1 go test ./e2e -count=1 -parallel 4 -timeout 40m -v

# Not part of e2e: the first time it gets 1.4 GB by name from the system's mirror
# of Debian and from PyPI, afterwards it starts from the cache folder.
e2e-homeassistant: build ## try with the real Home Assistant (root, debootstrap; gets 1.4 GB the first time and keeps it)
	sh build/e2e-needs.sh
	folder=$$(sh build/homeassistant.sh) || exit 1; \
	DOMINION_E2E=1 DOMINION_E2E_HOMEASSISTANT=$$folder go test ./e2e -run '^TestHomeAssistant' -count=1 -timeout 60m -v

SOAK ?= 10m
soak: build ## let everything happen to a home on several hosts for SOAK=10m (SEED=n: that again)
	sh build/e2e-needs.sh
	DOMINION_E2E=1 DOMINION_E2E_SOAK=$(SOAK) DOMINION_E2E_SEED=$(SEED) go test ./e2e -run '^TestSoak$$' -count=1 -timeout 24h -v

SEEDS ?= 100
DAYS  ?= 7
simulate: ## run homes in virtual time: SEEDS=100 for minutes with the broker and for DAYS=7 without
	go test ./simulation -run 'TestFaults|TestWeeks' -count=1 -timeout 24h -v -seed $(or $(SEED),1) -seeds $(SEEDS) -days $(DAYS)

try-units: build ## try install, systemd units and uninstall on a machine made of namespaces (root, systemd)
	sh build/try-units.sh

bench: build ## measure, each figure beside its goal
	go test -run '^$$' -bench . -benchmem $$(go list ./... | grep -v /e2e)
	sh build/e2e-needs.sh
	DOMINION_BENCH=1 go test ./e2e -run '^TestBench' -count=1 -timeout 20m -v
	@$(MAKE) --no-print-directory sizes

bench-broker: build ## measure the broker beside mosquitto, mochi and NATS (ARGS='-rounds 1 -scale 0.1' is quick)
	sh build/e2e-needs.sh
	cd broker/bench && go build -trimpath -o ../../bin/bench-broker .
	bin/bench-broker $(ARGS)

sizes: ## what each dependency adds to the programs, in kB
	@go run ./build/sizes $(PROGRAMS:%=./cmd/%)

docs: ## write docs/protocol.md and the tables of the config reference anew
	go test ./topics -run TestProtocolDocument -update
	go test ./config -run TestReferenceIsGenerated -update

format: ## format every Go file
	$(GO_FILES) | xargs go run $(GOFUMPT) -w

check-format:
	@bad=$$($(GO_FILES) | xargs go run $(GOFUMPT) -l) || exit 1; \
	[ -z "$$bad" ] || { echo "not formatted, run make format:"; echo "$$bad"; exit 1; }

check-vet:
	go vet ./...

check-lint:
	go run $(STATICCHECK) ./...

# -count=1: what it looks at are the imports of other packages, which the test
# cache does not know of.
check-imports:
	go test -count=1 ./build

check-race:
	@command -v $$(go env CC) >/dev/null || { echo "check: the race detector needs a C compiler: apt-get install gcc"; exit 1; }
	CGO_ENABLED=1 go test -race ./...

check-fuzz:
	sh build/fuzz.sh

check-docs:
	go test -count=1 -run TestProtocolDocument ./topics
	go test -count=1 -run TestDocs ./build

check-cross:
	@set -e; for target in amd64 arm64 arm/6 arm/7; do \
		arch=$${target%/*}; arm=$${target#"$$arch"}; arm=$${arm#/}; \
		echo "build for linux/$$target"; \
		CGO_ENABLED=0 GOOS=linux GOARCH=$$arch GOARM=$${arm:-7} go build -trimpath -o /dev/null $(PROGRAMS:%=./cmd/%); \
	done

# Programs, units, completion, and examples of both config files. Files that
# are there in /etc/dominion are never touched.
BINDIR  = $(DESTDIR)$(PREFIX)/bin
LIBDIR  = $(DESTDIR)$(PREFIX)/lib
DATADIR = $(DESTDIR)$(PREFIX)/share
ETCDIR  = $(DESTDIR)$(SYSCONFDIR)/dominion
UNITS   = dominion.service dominion-domain.service

install: ## put programs, systemd units and example configs in place (after make build; PREFIX, DESTDIR)
	@for p in $(PROGRAMS); do [ -x bin/$$p ] || { echo "cannot install: there is no bin/$$p, run make build first"; exit 1; }; done
	mkdir -p $(BINDIR) $(LIBDIR)/systemd/system $(LIBDIR)/sysusers.d $(ETCDIR) $(DESTDIR)$(PREFIX)/dominion/services
	for p in $(PROGRAMS); do install -m 755 bin/$$p $(BINDIR)/$$p.new && mv -f $(BINDIR)/$$p.new $(BINDIR)/$$p || exit 1; done
	for u in $(UNITS); do sed -e 's|@BINDIR@|$(PREFIX)/bin|' -e 's|@ETCDIR@|$(SYSCONFDIR)/dominion|' systemd/$$u > $(LIBDIR)/systemd/system/$$u || exit 1; done
	install -m 644 systemd/sysusers.conf $(LIBDIR)/sysusers.d/dominion.conf
	for c in dominion domain; do \
		sed 's|/usr/local/dominion/services|$(PREFIX)/dominion/services|' systemd/$$c.toml > $(ETCDIR)/$$c.toml.example || exit 1; \
		[ -e $(ETCDIR)/$$c.toml ] || cp $(ETCDIR)/$$c.toml.example $(ETCDIR)/$$c.toml || exit 1; \
	done
	@sh build/completion.sh bin/dominionctl $(DATADIR)
	@[ -n "$(DESTDIR)" ] || sh build/after-install.sh $(ETCDIR)

uninstall: ## take away what install put in place; configs, services and data stay
	@[ -n "$(DESTDIR)" ] || sh build/before-uninstall.sh
	rm -f $(PROGRAMS:%=$(BINDIR)/%) $(UNITS:%=$(LIBDIR)/systemd/system/%) $(LIBDIR)/sysusers.d/dominion.conf \
		$(DATADIR)/bash-completion/completions/dominionctl $(DATADIR)/zsh/site-functions/_dominionctl \
		$(DATADIR)/fish/vendor_completions.d/dominionctl.fish
	@echo "left in place: $(ETCDIR), $(DESTDIR)$(PREFIX)/dominion/services, /var/lib/dominion, /var/lib/dominion-domain"

clean: ## remove what was built, and the caches of a make without HOME
	rm -rf bin dist .cache

help: ## list these targets
	@sed -n 's/^\([a-z0-9-]*\):[^#]*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 26
