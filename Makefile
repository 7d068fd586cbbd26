# leased: one non-recursive makefile. Settings come from config.mk, which configure writes; on a fresh clone `make` runs
# autoconf and configure itself. Everything that is built goes to $(BUILD).
#
#	make                 build/leased and build/leasectl
#	make check           lint, unit tests, corpus replay, simulator, documentation: under a minute
#	make test            (as root) everything, after installing what is missing
#	make BUILD=build-x VARIANT=asan|tsan|fuzz|coverage    another build beside the first
#	make LAYERS="base pool" build/tests/test_pool         one test with a part of the layers only
SHELL = /bin/sh
.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
.SECONDARY:
.SUFFIXES:
MAKEFLAGS += --no-builtin-rules
# V=1 shows the commands.
Q := $(if $(filter 1,$(V)),,@)
say = $(if $(Q),@printf '  %-5s %s\n' '$(1)' '$(2)')

# Goals that must run on a machine that has nothing yet.
BARE_GOALS := clean distclean quickstart test format
ifneq ($(or $(if $(MAKECMDGOALS),,all),$(filter-out $(BARE_GOALS),$(MAKECMDGOALS))),)
include config.mk
endif

BUILD ?= build
VARIANT ?= plain
LAYERS ?= base conf io proto cred pool serve daemon
# Layers that run unchanged in the simulator.
SIM_LAYERS ?= base proto cred pool serve

WARN := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Wwrite-strings -Wvla -Wformat=2 \
	-Wundef -Wcast-align -Wcast-qual -Wunused -Wnull-dereference -Wdouble-promotion
OPT_plain := -O2 -g
OPT_devel := -O1 -g3 -Werror
OPT_asan := -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all
OPT_tsan := -O1 -g -fno-omit-frame-pointer -fsanitize=thread
OPT_fuzz := -O1 -g -fno-omit-frame-pointer -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all
OPT_coverage := -O0 -g --coverage
HARDENED := $(filter plain devel,$(VARIANT))

ifeq ($(VARIANT)$(DEVEL),plainyes)
OPT := $(OPT_devel)
else
OPT := $(OPT_$(VARIANT))
endif
ifeq ($(WERROR),1)
OPT += -Werror
endif

DEFS := -D_GNU_SOURCE -DLEASED_VERSION='"$(VERSION)"'
DEFS += $(if $(filter yes,$(HAVE_SYSTEMD)),-DHAVE_SYSTEMD=1)
DEFS += $(if $(or $(filter yes,$(HONEST_ALLOC)),$(filter asan tsan fuzz,$(VARIANT))),-DHONEST_ALLOC=1)
ALL_CPPFLAGS = -Isrc $(DEFS) $(EVENT_CFLAGS) $(OPENSSL_CFLAGS) $(CONFIG_CFLAGS) $(JANSSON_CFLAGS) $(SYSTEMD_CFLAGS) \
	$(CPPFLAGS)
ALL_CFLAGS = -std=gnu11 -pthread $(WARN) $(OPT) $(if $(HARDENED),$(HARDEN_CFLAGS)) $(CFLAGS)
ALL_LDFLAGS = -pthread $(filter -fsanitize=% --coverage,$(OPT:-fsanitize=fuzzer-no-link,%=-fsanitize=%)) \
	$(if $(HARDENED),$(HARDEN_LDFLAGS)) $(LDFLAGS)
LIBS = $(EVENT_LIBS) $(OPENSSL_LIBS) $(CONFIG_LIBS) $(JANSSON_LIBS) $(SYSTEMD_LIBS) -lm

# ---- what there is

layer_src = $(foreach l,$(1),$(sort $(wildcard src/$(l)/*.c) $(wildcard src/$(l)/*/*.c)))
objs = $(patsubst %.c,$(BUILD)/obj/%.o,$(1))
LIB_SRC := $(call layer_src,$(LAYERS))
SIM_LIB_SRC := $(call layer_src,$(SIM_LAYERS))
CTL_SRC := $(sort $(wildcard src/ctl/*.c))
BASE_SRC := $(call layer_src,base)
HEADERS := $(sort $(wildcard src/*/*.h) $(wildcard src/*/*/*.h))

UNIT_SRC := $(sort $(wildcard tests/unit/test_*.c))
UNIT_HELP_SRC := $(filter-out $(UNIT_SRC),$(sort $(wildcard tests/unit/*.c)))
UNIT := $(UNIT_SRC:tests/unit/%.c=$(BUILD)/tests/%)
SIM_SRC := $(sort $(wildcard tests/sim/*.c))
SIM := $(if $(SIM_SRC),$(BUILD)/tests/sim)
comma := ,
# Functions the simulator watches: every __wrap_NAME it defines.
SIM_WRAP := $(if $(SIM_SRC),$(patsubst __wrap_%,-Wl$(comma)--wrap=%,$(shell grep -oh '__wrap_[a-z0-9_]*' $(SIM_SRC) | sort -u)))
# Every C file there is a program of its own.
SHIM_SRC := $(wildcard tests/fake/failio.c)
SHIMS := $(SHIM_SRC:tests/fake/%.c=$(BUILD)/tests/%.so)
TOOL_SRC := $(filter-out $(SHIM_SRC),$(sort $(wildcard tests/fake/*.c) $(wildcard tests/real/*.c)))
TOOLS := $(addprefix $(BUILD)/tests/,$(notdir $(TOOL_SRC:.c=)))
FUZZ_SRC := $(sort $(wildcard tests/fuzz/fuzz_*.c))
FUZZ_NAMES := $(FUZZ_SRC:tests/fuzz/%.c=%)
FUZZERS := $(FUZZ_NAMES:%=$(BUILD)/tests/%)
REPLAYS := $(FUZZ_NAMES:fuzz_%=$(BUILD)/tests/replay_%)

PROGRAMS := $(if $(wildcard src/main.c),$(BUILD)/leased) $(if $(CTL_SRC),$(BUILD)/leasectl)

all: $(PROGRAMS) $(BUILD)/libleased.a
tests-build: all $(UNIT) $(SIM) $(TOOLS) $(SHIMS)

# ---- configure

configure: configure.ac
	@command -v autoconf >/dev/null || { echo 'leased: autoconf is missing. On Debian 12: apt-get install' \
		"$$(sed -n 's/^build: //p' packages.txt)" >&2; exit 1; }
	autoconf

config.mk: configure config.mk.in
	@{ if test -f config.status && test config.status -nt configure; then ./config.status -q; \
	elif test -f config.status; then ./config.status --recheck && ./config.status -q; \
	else ./configure -q; fi; } || { echo 'leased: on Debian 12 the build needs: apt-get install' \
		"$$(sed -n 's/^build: //p' packages.txt)" >&2; exit 1; }
	@touch $@

# ---- compile and link

$(BUILD)/obj/%.o: %.c config.mk
	@mkdir -p $(@D)
	$(call say,CC,$<)
	$(Q)$(CC) $(if $(filter tests/%,$<),-Itests $(CHECK_CFLAGS)) $(ALL_CPPFLAGS) $(ALL_CFLAGS) -MMD -MP -MF $(@:.o=.d) -c -o $@ $<

# An archive is made anew when its list of members changes, so that it never keeps a deleted file.
define archive
$(BUILD)/$(1).a: $(call objs,$(2)) $(BUILD)/$(1).list
	@rm -f $$@
	$$(call say,AR,$$@)
	$(Q)ar rcs $$@ $$(filter %.o,$$^)
$(BUILD)/$(1).list: always
	@mkdir -p $$(@D)
	@echo '$(2)' | cmp -s - $$@ || echo '$(2)' > $$@
endef
$(eval $(call archive,libleased,$(LIB_SRC)))
$(eval $(call archive,libsim,$(SIM_LIB_SRC)))
$(eval $(call archive,libbase,$(BASE_SRC)))
# What unit tests share; each takes what it needs of it.
$(eval $(call archive,libunit,$(UNIT_HELP_SRC)))

link = $(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -o $@ $(filter %.o,$^) $(filter %.a,$^)

$(BUILD)/leased: $(call objs,src/main.c) $(BUILD)/libleased.a
	$(call say,LD,$@)
	$(Q)$(link) $(LIBS)

$(BUILD)/leasectl: $(call objs,$(CTL_SRC)) $(BUILD)/libbase.a
	$(call say,LD,$@)
	$(Q)$(link) $(JANSSON_LIBS)

$(UNIT): $(BUILD)/tests/%: $(BUILD)/obj/tests/unit/%.o $(BUILD)/libunit.a $(BUILD)/libleased.a
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(link) $(CHECK_LIBS) $(LIBS)

$(BUILD)/tests/sim: $(call objs,$(SIM_SRC)) $(BUILD)/libsim.a
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(link) $(SIM_WRAP) $(JANSSON_LIBS) -lm

$(BUILD)/tests/conf_gen: $(call objs,tests/lint/conf_gen.c) $(BUILD)/libleased.a
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(link) $(LIBS)

define tool
$(BUILD)/tests/$(notdir $(1:.c=)): $(call objs,$(1)) $(BUILD)/libbase.a
	@mkdir -p $$(@D)
	$$(call say,LD,$$@)
	$(Q)$$(link) -lm
endef
$(foreach t,$(TOOL_SRC),$(eval $(call tool,$(t))))

# Preloaded into a program under test; never sanitized itself.
$(SHIMS): $(BUILD)/tests/%.so: tests/fake/%.c config.mk
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(CC) -std=gnu11 $(WARN) -O1 -g -D_GNU_SOURCE -U_FORTIFY_SOURCE -fPIC -fvisibility=hidden -shared -o $@ $< -ldl

# Read by another hand as well, where it is installed.
FUZZ_LIBS_resp_request := $(if $(wildcard /usr/include/hiredis/hiredis.h),-lhiredis)
FUZZ_LIBS_resp_reply := $(FUZZ_LIBS_resp_request)

$(REPLAYS): $(BUILD)/tests/replay_%: $(BUILD)/obj/tests/fuzz/fuzz_%.o $(BUILD)/obj/tests/fuzz/replay_main.o $(BUILD)/libleased.a
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(link) $(LIBS) $(FUZZ_LIBS_$*)

$(FUZZERS): $(BUILD)/tests/fuzz_%: $(BUILD)/obj/tests/fuzz/fuzz_%.o $(BUILD)/libleased.a
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(link) -fsanitize=fuzzer $(LIBS) $(FUZZ_LIBS_$*)

-include $(shell test -d $(BUILD)/obj && find $(BUILD)/obj -name '*.d')

# ---- check

PYTHON ?= /usr/bin/python3
CLANG ?= $(or $(shell command -v clang-14),clang)
SIM_SEEDS ?= 1000
SIM_ARGS ?= --twice
FUZZ_SECS ?= 60
# Which end-to-end tests; empty: none.
REAL ?= $(sort $(wildcard tests/fake/test_*.py)) $(sort $(wildcard tests/real/test_*.py))
REAL_ARGS ?=
STEP_SECS ?= 600
# Rows without a test, and layout that differs from clang-format's, fail the check.
ROWS_STRICT ?= 1
FORMAT_STRICT ?= 1
RESULTS ?=
export ROWS_STRICT

SLOW_asan := 3
SLOW_tsan := 5
SLOW_coverage := 2
SLOW = $(or $(SLOW_$(VARIANT)),1)
SANITIZER_ENV := ASAN_OPTIONS=detect_leaks=1:strict_string_checks=1 UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1 \
	TSAN_OPTIONS=halt_on_error=1:second_deadlock_stack=1
REAL_ENV = LEASED_BIN=$(abspath $(BUILD)/leased) LCHECK_BIN=$(abspath $(BUILD)/tests/lcheck) \
	RLOAD_BIN=$(abspath $(BUILD)/tests/rload) LEASECTL_BIN=$(abspath $(BUILD)/leasectl) \
	FAILIO_SO=$(abspath $(BUILD)/tests/failio.so) LEASED_SLOW=$(SLOW)
run = $(PYTHON) tests/run.py -t $(STEP_SECS) -l $(BUILD)/log $(if $(RESULTS),-r $(RESULTS))
# One step a line, "name: command".
define newline


endef
steps = $(file >$(BUILD)/$(1).steps,$(subst @@,$(newline),$(strip $(2))))$(run) $(3) $(BUILD)/$(1).steps

LINTS = layers: tests/lint/layers.py@@words: tests/lint/words.py@@ \
	headers: tests/lint/headers.sh $(CC) $(ALL_CPPFLAGS) -std=gnu11 $(WARN) -Wno-unused -Werror <$(BUILD)/headers@@ \
	format: tests/lint/format.sh$(if $(filter 1,$(FORMAT_STRICT)),, 2>&1 | tail -n1 || true)@@ \
	units: tests/lint/units.sh@@manuals: tests/lint/manuals.sh@@rows: tests/lint/rows.py --check@@ \
	$(if $(and $(HARDENED),$(PROGRAMS)),binary: tests/lint/binary.sh $(PROGRAMS)@@) \
	$(foreach t,$(sort $(wildcard tests/lint/check_*)),$(notdir $(t)): BUILD=$(BUILD) $(t)@@)
UNITS = $(foreach t,$(UNIT),unit/$(notdir $(t)): CK_TIMEOUT_MULTIPLIER=$(SLOW) $(SANITIZER_ENV) $(t)@@)
CORPUS = $(foreach t,$(REPLAYS),$(notdir $(t)): $(t) $(wildcard tests/fuzz/corpus/$(t:$(BUILD)/tests/replay_%=%))@@)
SIMS = $(if $(SIM),sim: $(SANITIZER_ENV) $(SIM) --seeds $(SIM_SEEDS) $(SIM_ARGS)@@)
REALS = $(foreach t,$(REAL),real/$(notdir $(t:.py=)): $(SANITIZER_ENV) $(REAL_ENV) $(PYTHON) -m pytest $(t) $(REAL_ARGS)@@)

check: tests-build $(REPLAYS)
	$(file >$(BUILD)/headers,$(subst $(eval) ,$(newline),$(HEADERS)))
	@$(call steps,check,$(LINTS) $(UNITS) $(CORPUS) $(SIMS),-j2)

lint: all
	$(file >$(BUILD)/headers,$(subst $(eval) ,$(newline),$(HEADERS)))
	@$(call steps,lint,$(LINTS),-j2)

# In order: these judge time, and some use the whole machine.
check-real: tests-build
	@$(call steps,real,$(REALS))

# Breaks the code on purpose and wants the simulator to see it.
mutants: $(SIM)
	$(Q)CC='$(CC)' CFLAGS='$(ALL_CPPFLAGS) $(ALL_CFLAGS)' LDFLAGS='$(ALL_LDFLAGS) $(SIM_WRAP)' \
		LIBS='$(JANSSON_LIBS)' tests/sim/mutants.sh $(BUILD)

check-dynamic: tests-build
	@$(call steps,dynamic,$(UNITS) $(SIMS),-j2)
	$(if $(strip $(REAL)),@$(call steps,real,$(REALS)))

SAN_SEEDS ?= 200
check-asan:
	$(MAKE) BUILD=build-asan VARIANT=asan SIM_SEEDS=$(SAN_SEEDS) check-dynamic
check-tsan:
	$(MAKE) BUILD=build-tsan VARIANT=tsan SIM_SEEDS=$(SAN_SEEDS) check-dynamic

# gcc and clang build everything without a warning.
check-warnings:
	$(MAKE) BUILD=build-gcc WERROR=1 tests-build
	$(MAKE) BUILD=build-clang WERROR=1 CC=$(CLANG) tests-build

check-systemd: all
	tests/systemd/nested.sh $(BUILD)

fuzz-smoke:
	$(MAKE) BUILD=build/fuzz VARIANT=fuzz CC=$(CLANG) fuzz-run

fuzz-run: $(FUZZERS)
	@mkdir -p $(FUZZ_NAMES:%=$(BUILD)/corpus/%)
	@$(call steps,fuzz,$(foreach f,$(FUZZ_NAMES),$(f): $(BUILD)/tests/$(f) -max_total_time=$(FUZZ_SECS) -timeout=5 \
		-rss_limit_mb=1024 -print_final_stats=1 -artifact_prefix=$(BUILD)/ $(addprefix -dict=,$(wildcard tests/fuzz/$(f:fuzz_%=%).dict)) \
		$(BUILD)/corpus/$(f) $(wildcard tests/fuzz/corpus/$(f:fuzz_%=%))@@),-j2)

coverage:
	$(MAKE) BUILD=build-coverage VARIANT=coverage SIM_SEEDS=$(SAN_SEEDS) SIM_ARGS= check-dynamic
	tests/coverage.sh build-coverage

# Half an hour; BENCH_QUICK=1: six minutes, and rough. BENCH="-s ping-c50 floor-ev leased": one load.
bench: all
	$(if $(BENCH),tests/bench/run $(BENCH),tests/bench/suite.sh)

# ---- for people who change the source

format:
	find src tests -name '*.[ch]' -print0 | xargs -0 clang-format-14 -i

tidy: config.mk
	clang-tidy-14 --quiet $(LIB_SRC) $(CTL_SRC) $(wildcard src/main.c) -- $(ALL_CPPFLAGS) -std=gnu11

# What is generated into the repository from tables and markers.
docs: all $(BUILD)/tests/conf_gen
	$(BUILD)/tests/conf_gen sample > conf/leased.conf
	$(BUILD)/tests/conf_gen man > $(BUILD)/keys.man
	sed -i -e '/^\.\\" BEGIN KEYS$$/,/^\.\\" END KEYS$$/{//!d}' -e '/^\.\\" BEGIN KEYS$$/r $(BUILD)/keys.man' man/leased.conf.5
	tests/lint/metrics_man.py > man/leased-metrics.7
	tests/lint/rows.py --write

# ---- install

sysusersdir = $(prefix)/lib/sysusers.d
tmpfilesdir = $(prefix)/lib/tmpfiles.d
completiondir = $(datadir)/bash-completion/completions
INSTALL ?= install
UNITFILES := $(wildcard systemd/*.service systemd/*.socket)
MANUALS := $(sort $(wildcard man/*.[1-8]))
DOCFILES := README.md SECURITY.md THREAT-MODEL.md LICENSE
EXAMPLES := conf/leased.conf $(wildcard conf/examples/*.conf systemd/leased.service.d-examples/*.conf)
RECIPES := $(wildcard conf/examples/*.py)
# Units name the places this build installs to.
placed = sed 's,/usr/sbin/leased,$(sbindir)/leased,g; s,/etc/leased,$(sysconfdir)/leased,g'

install: all
	$(INSTALL) -d $(DESTDIR)$(sbindir) $(DESTDIR)$(bindir) $(DESTDIR)$(systemdsystemunitdir) $(DESTDIR)$(sysusersdir) \
		$(DESTDIR)$(tmpfilesdir) $(DESTDIR)$(completiondir) $(DESTDIR)$(sysconfdir)/leased \
		$(DESTDIR)$(sysconfdir)/logrotate.d $(DESTDIR)$(docdir)/examples
	$(INSTALL) -m 755 $(BUILD)/leased $(DESTDIR)$(sbindir)/leased
	$(INSTALL) -m 755 $(BUILD)/leasectl $(DESTDIR)$(bindir)/leasectl
	for m in $(MANUALS); do $(INSTALL) -D -m 644 $$m $(DESTDIR)$(mandir)/man$${m##*.}/$${m##*/} || exit 1; done
	for u in $(UNITFILES); do $(placed) $$u > $(DESTDIR)$(systemdsystemunitdir)/$${u##*/} || exit 1; done
	$(INSTALL) -m 644 systemd/sysusers.d/leased.conf $(DESTDIR)$(sysusersdir)/leased.conf
	$(INSTALL) -m 644 systemd/tmpfiles.d/leased.conf $(DESTDIR)$(tmpfilesdir)/leased.conf
	$(INSTALL) -m 644 contrib/leasectl.bash $(DESTDIR)$(completiondir)/leasectl
	$(INSTALL) -m 644 contrib/leased.logrotate $(DESTDIR)$(sysconfdir)/logrotate.d/leased
	test -e $(DESTDIR)$(sysconfdir)/leased/leased.conf || \
		$(INSTALL) -m 644 conf/leased.conf $(DESTDIR)$(sysconfdir)/leased/leased.conf
	$(INSTALL) -m 644 $(DOCFILES) $(DESTDIR)$(docdir)
	$(INSTALL) -m 644 $(EXAMPLES) $(DESTDIR)$(docdir)/examples
	$(INSTALL) -m 755 $(RECIPES) $(DESTDIR)$(docdir)/examples

# Leaves the configuration.
uninstall:
	rm -f $(DESTDIR)$(sbindir)/leased $(DESTDIR)$(bindir)/leasectl $(DESTDIR)$(sysusersdir)/leased.conf \
		$(DESTDIR)$(tmpfilesdir)/leased.conf $(DESTDIR)$(completiondir)/leasectl $(DESTDIR)$(sysconfdir)/logrotate.d/leased \
		$(foreach u,$(UNITFILES),$(DESTDIR)$(systemdsystemunitdir)/$(notdir $(u)))
	for m in $(MANUALS); do rm -f $(DESTDIR)$(mandir)/man$${m##*.}/$${m##*/}; done
	rm -f $(addprefix $(DESTDIR)$(docdir)/,$(DOCFILES)) $(addprefix $(DESTDIR)$(docdir)/examples/,$(notdir $(EXAMPLES) $(RECIPES)))
	-rmdir $(DESTDIR)$(docdir)/examples $(DESTDIR)$(docdir)

# ---- on a machine that has nothing yet (as root)

quickstart:
	@sh tests/quickstart.sh

test:
	@sh tests/test.sh

# ---- house keeping

clean:
	rm -rf build build-*

distclean: clean
	rm -rf config.mk config.log config.status configure configure~ autom4te.cache

always:
.PHONY: all tests-build check lint check-real check-dynamic check-asan check-tsan check-warnings check-systemd \
	mutants fuzz-smoke fuzz-run coverage bench format tidy docs install uninstall quickstart test clean \
	distclean always
