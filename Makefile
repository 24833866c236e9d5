# Two commands on a fresh machine with Python 3.11 or 3.12 and GNU make:
#
#   make demo [VIDEO=clip.mp4] [ARGS="--seconds 4"]   set up, then show the main job, from camera to pictures
#   make test [PYTEST="-k router"] [WORKERS=3]        set up, then check style, types, layers and behaviour
#
# Others: kafka [NODES=3] [PORT=9092] (a real Kafka on this machine; docs/kafka.md), kafka-stop,
# chaos [LOG=sqlite] [NODES=3] [ARGS="--kills 40"] (a running system under random kills),
# fuzz [MINUTES=10] (damaged and forged bytes against everything that reads bytes),
# bench [DATA=dir] [GRID=full] (ours against what people use instead; writes docs/results.md),
# setup (the environment with all tools), lint, format, types, wheel, freeze, clean.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.ONESHELL:
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules

VENV := .venv
BIN := $(VENV)/bin
PYTHON ?=
VIDEO ?=
ARGS ?=
PYTEST ?=
WORKERS ?= 3
NODES ?= 1
PORT ?= 9092
LOG ?= kafka
DATA ?= $(wildcard ../shared/data)
GRID ?= quick
MINUTES ?= 10
BENCH := out/bench
SOURCES := discover_stream actors topics deploy tests benchmarks

.PHONY: help setup demo test bench fuzz kafka kafka-stop chaos lint format types wheel freeze clean

help:
	@sed -n '/^# Two/,/^$$/s/^# \{0,1\}//p' Makefile

demo: $(VENV)/.ready
	@$(BIN)/discover demo $(if $(VIDEO),--video "$(VIDEO)") $(ARGS)

# Many tests wait for processes and brokers, so three workers keep two cores busy. Each file stays whole: its tests
# share what its fixtures started. WORKERS=0 runs everything in one process.
test: lint types
	@$(BIN)/pytest -n $(WORKERS) --dist loadfile $(PYTEST)

kafka: $(VENV)/.ready
	@$(BIN)/python -m deploy.kafka.broker up --nodes $(NODES) --port $(PORT)

kafka-stop: $(VENV)/.ready
	@$(BIN)/python -m deploy.kafka.broker down

# Kills processes and brokers of a running system for a few minutes, and shows that nothing was lost.
chaos: $(VENV)/.ready-dev
	@$(BIN)/python -m benchmarks.chaos --backend $(LOG) --nodes $(NODES) $(ARGS)

# At most 20 minutes on two cores; what is finished is kept in $(BENCH), so that a second call goes on.
# Clips and pictures are measured side by side, one core each; times are taken when both are done.
bench: $(VENV)/.ready-dev
	@mkdir -p $(BENCH)
	data=($(if $(DATA),--data "$(DATA)"))
	items=($(if $(DATA),--item suburb --item topdown --item motorway_fog --item crossing) --item "street seed 3")
	echo "Measuring clips and pictures side by side; words of the second go to $(BENCH)/images.log"
	$(BIN)/discover eval images "$${data[@]}" --out $(BENCH) --grid $(GRID) --count 6 > $(BENCH)/images.log 2>&1 &
	pictures=$$!
	trap 'kill $$pictures 2>/dev/null || true' EXIT
	$(BIN)/discover eval video "$${data[@]}" --out $(BENCH) --grid $(GRID) --seconds 5 "$${items[@]}"
	wait $$pictures || { tail -n 5 $(BENCH)/images.log; exit 1; }
	$(BIN)/discover eval speed "$${data[@]}" --out $(BENCH)
	$(BIN)/discover eval results $(BENCH) --json docs/results.json --markdown docs/results.md --readme README.md

# What shows a fault is kept in out/fuzz/found. One thread each: the targets are too small for more.
fuzz: $(VENV)/.ready-dev
	@OMP_NUM_THREADS=1 $(BIN)/python -W ignore -m benchmarks.fuzz --minutes $(MINUTES) $(ARGS)

setup: $(VENV)/.ready-dev

lint: $(VENV)/.ready-dev
	@$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo

types: $(VENV)/.ready-dev
	@$(BIN)/mypy

format: $(VENV)/.ready-dev
	@$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

wheel: $(VENV)/.ready-dev
	@rm -rf build dist
	$(BIN)/python -m build --wheel --no-isolation --outdir dist . > $(VENV)/wheel.log || { tail -n 20 $(VENV)/wheel.log; exit 1; }
	ls -l dist

# Pins what is installed now; the comment lines at the top of the file stay.
freeze: $(VENV)/.ready-dev
	@head=$$(grep '^#' constraints.txt)
	{ echo "$$head"; $(BIN)/pip freeze --all --exclude pip --exclude-editable | grep -E '^[A-Za-z0-9._-]+=='; } > constraints.new
	mv constraints.new constraints.txt

clean:
	@rm -rf build dist out *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find discover_stream actors topics tests -name __pycache__ -prune -exec rm -rf {} +

# ---- the environment: made once, brought up to date when the files it comes from change ----

# $(1): what pip is to install. Its own words go to a log; what it is at is one line that changes.
define install
	@log=$(VENV)/setup.log
	echo "Installing $(1) into $(VENV): several GB, a few minutes the first time (words of pip: $$log)"
	count=0
	$(BIN)/pip install --disable-pip-version-check --progress-bar off -c constraints.txt -e "$(1)" 2>&1 \
	  | tee "$$log" | while read -r word name _; do
	      case "$$word $$name" in
	        Collecting*) count=$$((count + 1)); say="  fetching package $$count: $$name" ;;
	        "Installing collected") say="  unpacking $$count packages" ;;
	        *) continue ;;
	      esac
	      if [ -t 1 ]; then printf '\r\033[K%s' "$$say"
	      elif [ "$$word" = Installing ]; then echo "$$say"; fi
	    done || { echo; echo "pip could not install the packages; its last words:"; tail -n 15 "$$log"; exit 1; }
	if [ -t 1 ]; then printf '\r\033[K'; fi
	echo "Environment ready."
endef

$(BIN)/python:
	@for candidate in $(PYTHON) python3.12 python3.11 python3 python; do
	  # The shims of version managers exist for versions that are not installed: only running one tells.
	  if "$$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null; then
	    "$$candidate" -m venv $(VENV) && exit 0
	    rm -rf $(VENV)
	    echo "$$candidate cannot make a virtual environment; on Debian and Ubuntu install python3-venv" >&2
	    exit 1
	  fi
	done
	echo "No Python 3.11 or 3.12 here (CompressAI and NumPy 1.26 have wheels for these);" \
	  "install one, or name it: make demo PYTHON=/path/to/python3.12" >&2
	exit 1

$(VENV)/.ready: pyproject.toml constraints.txt | $(BIN)/python
	$(call install,.)
	touch $@

$(VENV)/.ready-dev: pyproject.toml constraints.txt | $(BIN)/python
	$(call install,.[dev])
	touch $(VENV)/.ready $@
