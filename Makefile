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
BARE_GOALS := clean distclean quickstart test packages help
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
# Every C file there is a program of its own.
TOOL_SRC := $(sort $(wildcard tests/fake/*.c) $(wildcard tests/real/*.c))
TOOLS := $(addprefix $(BUILD)/tests/,$(notdir $(TOOL_SRC:.c=)))
FUZZ_SRC := $(sort $(wildcard tests/fuzz/fuzz_*.c))
FUZZ_NAMES := $(FUZZ_SRC:tests/fuzz/%.c=%)
FUZZERS := $(FUZZ_NAMES:%=$(BUILD)/tests/%)
REPLAYS := $(FUZZ_NAMES:fuzz_%=$(BUILD)/tests/replay_%)

PROGRAMS := $(if $(wildcard src/main.c),$(BUILD)/leased) $(if $(CTL_SRC),$(BUILD)/leasectl)

all: $(PROGRAMS) $(BUILD)/libleased.a
tests-build: all $(UNIT) $(SIM) $(TOOLS)

# ---- configure

configure: configure.ac
	@command -v autoconf >/dev/null || { echo 'leased: autoconf is missing. On Debian 12: apt-get install' \
		"$$(sed -n 's/^build: //p' packages.txt)" >&2; exit 1; }
	autoconf

config.mk: configure config.mk.in
	@if test -f config.status && test config.status -nt configure; then ./config.status -q; \
	elif test -f config.status; then ./config.status --recheck && ./config.status -q; \
	else ./configure -q; fi
	@touch $@

# ---- compile and link

$(BUILD)/obj/%.o: %.c config.mk
	@mkdir -p $(@D)
	$(call say,CC,$<)
	$(Q)$(CC) $(ALL_CPPFLAGS) $(CHECK_CFLAGS) $(ALL_CFLAGS) -MMD -MP -MF $(@:.o=.d) -c -o $@ $<

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

link = $(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -o $@ $(filter %.o,$^) $(filter %.a,$^)

$(BUILD)/leased: $(call objs,src/main.c) $(BUILD)/libleased.a
	$(call say,LD,$@)
	$(Q)$(link) $(LIBS)

$(BUILD)/leasectl: $(call objs,$(CTL_SRC)) $(BUILD)/libbase.a
	$(call say,LD,$@)
	$(Q)$(link) $(JANSSON_LIBS)

$(UNIT): $(BUILD)/tests/%: $(BUILD)/obj/tests/unit/%.o $(call objs,$(UNIT_HELP_SRC)) $(BUILD)/libleased.a
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(link) $(CHECK_LIBS) $(LIBS)

$(BUILD)/tests/sim: $(call objs,$(SIM_SRC)) $(BUILD)/libsim.a
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(link) -lm

define tool
$(BUILD)/tests/$(notdir $(1:.c=)): $(call objs,$(1)) $(BUILD)/libbase.a
	@mkdir -p $$(@D)
	$$(call say,LD,$$@)
	$(Q)$$(link) -lm
endef
$(foreach t,$(TOOL_SRC),$(eval $(call tool,$(t))))

$(REPLAYS): $(BUILD)/tests/replay_%: $(BUILD)/obj/tests/fuzz/fuzz_%.o $(BUILD)/obj/tests/fuzz/replay_main.o $(BUILD)/libleased.a
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(link) $(LIBS)

$(FUZZERS): $(BUILD)/tests/fuzz_%: $(BUILD)/obj/tests/fuzz/fuzz_%.o $(BUILD)/libleased.a
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(link) -fsanitize=fuzzer $(LIBS)

-include $(shell test -d $(BUILD)/obj && find $(BUILD)/obj -name '*.d')

# ---- house keeping

clean:
	rm -rf build build-*

distclean: clean
	rm -rf config.mk config.log config.status configure configure~ autom4te.cache

always:
.PHONY: all tests-build clean distclean always
